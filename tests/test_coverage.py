"""Loss accounting finds what a format drops, and takes nothing for lost that it tells."""

from __future__ import annotations

import gzip
import json
import types
import zipfile
from pathlib import Path
from typing import Any

import pytest

import loaders
from loaders import LoadError
from loaders.formats import _template
from loaders.leaves import JSONText, Leaf, Tree, matcher
from loaders.sources import Source

LONG = "The folder holds three files, and none of them is a table."
LINES: list[dict[str, Any]] = [
    {"chatter": 2, "id": "run-number-1", "task": "t7", "model": "m-1"},
    {"who": "person", "says": "List the files in the folder."},
    {
        "who": "model",
        "thinks": LONG,
        "says": "I will list them now.",
        "tokens": {"in": 40, "out": 12},
        "at": "2026-01-31T10:00:00Z",
        "calls": [{"id": "c1", "tool": "ls", "with": {"folder": "a/b", "deep": True}}],
    },
    {"who": "tool", "answers": "c1", "says": "no such folder", "failed": True},
    {"solved": True, "points": 0.5},
]


def written(path: Path, lines: list[dict[str, Any]]) -> Path:
    path.write_text("\n".join(json.dumps(line) for line in lines) + "\n", encoding="utf-8")
    return path


def lost(path: Path, format: Any = _template) -> dict[str, int]:
    found = loaders.coverage(path, format, progress=False).lost
    return dict(zip(found["path"], found["lost"], strict=True))


def test_of_a_format_that_tells_everything_nothing_is_lost(tmp_path: Path) -> None:
    frame = loaders.coverage(written(tmp_path / "a.jsonl", LINES), _template, progress=False).frame
    assert frame["lost"].sum() == 0
    by_path = {row["path"]: row for row in frame.iter_rows(named=True) if row["leaves"]}
    assert by_path["/thinks"]["kept"] == 1
    assert by_path["/calls/*/with"]["kept"] == 2
    assert (
        by_path["/failed"]["told"] == by_path["/at"]["told"] == by_path["/tokens/in"]["told"] == 1
    )
    counts = frame.select("kept", "told", "ignored", "lost", "empty").sum_horizontal()
    assert counts.equals(frame["leaves"].rename("kept"))


def test_a_value_that_nobody_reads_is_lost(tmp_path: Path) -> None:
    lines = json.loads(json.dumps(LINES))
    lines[2]["mood"] = {"name": "calm", "degree": 3, "sure": False, "since": None}
    path = written(tmp_path / "a.jsonl", lines)
    assert lost(path) == {"/mood/name": 1, "/mood/degree": 1, "/mood/sure": 1}
    shown = repr(loaders.coverage(path, _template, progress=False))
    assert "3 lost" in shown
    assert "/mood/name" in shown


def careless(**more: Any) -> types.ModuleType:
    """The template, but it forgets the thinking."""

    def read(source: Any, out: Any) -> None:
        records = [(pos, dict(record)) for pos, record in source.json_lines()]
        for _, record in records:
            record.pop("thinks", None)
        source.json_lines = lambda: iter(records)
        _template.read(source, out)

    module = types.ModuleType("careless")
    module.__dict__.update(TITLE="careless", sniff=_template.sniff, read=read, **more)
    return module


def test_a_format_that_drops_thinking_is_found_out(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", LINES)
    assert lost(path, careless()) == {"/thinks": 1}
    excused = loaders.coverage(
        path, careless(IGNORED={"/thinks": "nobody wants it"}), progress=False
    ).frame.filter(path="/thinks")
    assert excused.select("ignored", "lost", "reason").row(0) == (1, 0, "nobody wants it")


def test_one_lost_text_among_many_told_ones_is_found(tmp_path: Path) -> None:
    def read(source: Any, out: Any) -> None:
        run = out.trajectory(pos="")
        for number, (pos, record) in enumerate(source.json_lines()):
            if number != 2:
                run.user(str(record["says"]).upper(), pos)

    module = types.ModuleType("loud")
    module.__dict__.update(TITLE="loud", sniff=_template.sniff, read=read)
    lines = [{"says": f"a text that is long enough, number {n}"} for n in range(4)]
    assert lost(written(tmp_path / "a.jsonl", lines), module) == {"/says": 4}
    assert lost(written(tmp_path / "b.jsonl", lines[:2]), module) == {}


@pytest.mark.parametrize("packing", ["gz", "zip", "text in a zip"])
def test_packed_logs_are_accounted_for_too(packing: str, tmp_path: Path) -> None:
    lines = [*LINES, {"who": "person", "says": "Thank you very much.", "aside": "never told"}]
    plain = written(tmp_path / "a.jsonl", lines)
    if packing == "gz":
        packed = tmp_path / "b.jsonl.gz"
        packed.write_bytes(gzip.compress(plain.read_bytes()))
    else:
        packed = tmp_path / "logs.zip"
        with zipfile.ZipFile(packed, "w") as archive:
            archive.write(plain, "runs/1/a.jsonl")
            archive.write(written(tmp_path / "c.jsonl", LINES), "runs/2/a.jsonl")
    plain.unlink()
    assert lost(packed) == {"/aside": 1}


def test_json_inside_a_text_is_looked_into_and_written_back(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", [{"body": json.dumps({"a": [1, {"b": "x"}]})}])
    tree = Tree(Source(path))
    leaves = [item for item in tree.walk(lambda value: False) if isinstance(item, Leaf)]
    assert [(leaf.path, leaf.value) for leaf in leaves] == [("/body/a/*", 1), ("/body/a/*/b", "x")]
    leaves[1].holder[leaves[1].key] = "y"
    assert isinstance(tree.root[0]["body"], JSONText)
    assert json.loads(json.loads(tree.content())["body"]) == {"a": [1, {"b": "y"}]}


def test_a_copy_of_yaml_is_read_like_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    value = {"text": "a smile \U0001f600, a bell \x7f and a backslash \\ud83d", "n": [1, None]}
    path.write_text(json.dumps(value).replace("\\ud83d\\ude00", "\\U0001f600"), encoding="utf-8")
    assert Source(path).json() == value
    path.write_bytes(Tree(Source(path)).content())
    assert Source(path).json() == value


def test_credentials_that_are_redacted_are_not_lost(tmp_path: Path) -> None:
    lines = json.loads(json.dumps(LINES))
    lines[3]["says"] = f"key AKIA{'A' * 16} refused"
    assert lost(written(tmp_path / "a.jsonl", lines)) == {}


def test_attributes_of_opentelemetry_have_paths_with_their_names(tmp_path: Path) -> None:
    typed = [{"key": f"llm.input.{n}.text", "value": {"stringValue": "x"}} for n in range(2)]
    other: list[Any] = [{"key": "a", "value": "no typed one"}, {"key": 1, "value": {"b": 1}}]
    path = written(tmp_path / "a.jsonl", [{"attributes": [*typed, *other]}])
    leaves = [item.path for item in Tree(Source(path)).walk(lambda value: False)]
    assert leaves == [
        *("/attributes/llm.input.*.text/key", "/attributes/llm.input.*.text/value/stringValue") * 2,
        *("/attributes/*/key", "/attributes/*/value"),
        *("/attributes/*/key", "/attributes/*/value/b"),
    ]


def test_a_command_in_the_place_of_a_kind_does_not_split_its_path(tmp_path: Path) -> None:
    lines = [{"action": f"ls {number}", "note": "n"} for number in range(3)]
    tree = Tree(Source(written(tmp_path / "a.jsonl", lines)))
    found = {
        (leaf.path, leaf.within) for leaf in tree.walk(lambda _: False) if isinstance(leaf, Leaf)
    }
    assert found == {("/action", ""), ("/note", "")}


def test_patterns_of_ignored_paths() -> None:
    assert matcher("/a/*/c")("/a/b/c", "")
    assert not matcher("/a/*/c")("/a/b/x/c", "")
    assert matcher("/a/**")("/a", "")
    assert matcher("/**/c")("/a/b/c", "")
    assert matcher("type=x")("/any/thing", "type=y type=x")
    assert not matcher("type=x")("/any/thing", "type=xy")
    assert matcher("/a")("member.json#/a", "")
    assert not matcher("other.json#/a")("member.json#/a", "")


def test_a_time_that_stands_in_the_tables_is_kept_wherever_the_log_repeats_it(
    tmp_path: Path,
) -> None:
    lines = json.loads(json.dumps(LINES))
    lines[2] |= {
        "at": "2026-01-31T10:00:00.123Z",
        "again": "2026-01-31T11:00:00.123+01:00",
        "epoch": 1769853600123,
        "other": "2026-01-31T10:00:00.124Z",
    }
    assert lost(written(tmp_path / "a.jsonl", lines)) == {"/other": 1}


def test_a_time_of_a_whole_second_may_stand_there_by_accident(tmp_path: Path) -> None:
    lines = json.loads(json.dumps(LINES))
    lines[2]["again"] = "2026-01-31T10:00:00.000Z"
    assert lost(written(tmp_path / "a.jsonl", lines)) == {"/again": 1}


def test_where_no_log_is_the_error_says_so(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("no log", encoding="utf-8")
    with pytest.raises(LoadError, match="No log of a known format"):
        loaders.coverage(tmp_path)
