"""Formats: how they are found, chosen and recognised; the template; formats of other packages."""

from __future__ import annotations

import gzip
import pickle
import sys
import tarfile
import types
import zipfile
from pathlib import Path
from typing import Any

import chatter
import polars as pl
import pytest
from test_archives import zip_by_hand, zip_of

import loaders
from loaders import LoadError, sources
from loaders.formats import _template
from loaders.registry import (
    GIVES,
    Format,
    Verdict,
    available,
    choose,
    formats,
    from_module,
    recognise,
)
from loaders.sources import Source

CHATTER = from_module(_template, "chatter")


def verdict_on(path: Path, *candidates: Format, named: bool = False) -> Verdict:
    return recognise(Source(path), list(candidates) or [CHATTER], named)


def a_format(name: str, answer: Any) -> Format:
    """A format whose sniff gives that answer, or raises it."""
    module = types.ModuleType(name)

    def sniff(_: object) -> object:
        if isinstance(answer, Exception):
            raise answer
        return answer

    module.__dict__.update(TITLE=name, sniff=sniff, read=print)
    return from_module(module)


# ---------------------------------------------------------------------- the template


def test_the_template_reads_its_example(tmp_path: Path) -> None:
    path = chatter.write(tmp_path / "r1.jsonl", turns=3, tools=[{"name": "ls", "takes": {}}])
    runs = loaders.load(path, format=_template)
    row = runs.trajectories.collect().to_dicts()[0]
    assert (row["format"], row["native_id"], row["model"]) == ("_template", "r1", "m-1")
    assert (row["outcome"], row["success"], row["score"]) == ("success", True, 0.5)
    assert (row["steps"], row["input_tokens"], row["output_tokens"]) == (3, 10 + 110 + 500, 17)
    assert (row["unanswered_calls"], row["orphan_results"]) == (0, 0)
    assert runs.steps.collect()["thinking"].to_list() == ["text", "text", "absent"]
    kinds = runs.events.collect()["kind"].to_list()
    assert kinds == ["user", *["thinking", "tool_call", "tool_result"] * 2, "message"]
    assert runs.tools.collect()["name"].to_list() == ["ls"]
    assert runs.raw(runs.ids[0], 2) == {"id": "c0", "tool": "ls", "with": {"path": "/0"}}
    assert runs.problems.collect().is_empty()


def test_the_template_is_no_format_itself() -> None:
    assert "_template" not in available()["format"]
    assert verdict_on(Path(_template.__file__)).format is None


def test_a_broken_head_line_loses_no_turn(tmp_path: Path) -> None:
    log = chatter.text(chatter.lines())
    path = tmp_path / "r1.jsonl"
    path.write_bytes(log.replace(b'{"chatter"', b'{"chatter'))
    runs = loaders.load(path, format=_template)
    assert runs.events.collect()["kind"].to_list()[0] == "user"
    assert runs.problems.collect()["position"].to_list() == ["L1"]


# ---------------------------------------------------------------------- which formats there are


def test_available_lists_every_module_with_what_it_gives() -> None:
    table = available()
    folder = Path(loaders.__file__).parent / "formats"
    modules = {path.stem for path in folder.glob("*.py") if not path.stem.startswith("_")}
    assert modules <= set(table["format"])
    assert table.columns == ["format", "title", *GIVES]
    assert table.schema["thinking"] == pl.Boolean
    assert table["title"].str.len_chars().min() > 3  # type: ignore[operator]
    assert table["title"].is_unique().all()


def test_a_format_of_an_installed_package_is_found(tmp_path: Path) -> None:
    path = chatter.write(tmp_path / "logs" / "r1.jsonl")
    with pytest.raises(LoadError):
        loaders.load(path)
    with chatter.installed(tmp_path):
        row = available().filter(pl.col("format") == "chatter").to_dicts()[0]
        assert row["title"] == "Chatter log (an example)"
        assert (row["thinking"], row["sent"]) == (True, False)
        assert loaders.load(path).trajectories.collect()["format"].to_list() == ["chatter"]
        assert len(loaders.load(path, format="chatter")) == 1
    assert "chatter" not in formats()


def test_an_installed_format_may_take_the_place_of_a_known_one(tmp_path: Path) -> None:
    with chatter.installed(tmp_path, name="agentdojo"):
        assert formats()["agentdojo"].title == "Chatter log (an example)"


@pytest.mark.parametrize(
    "code", ["raise RuntimeError('broken')", "TITLE = 'no sniff'", "import absent_x"]
)
def test_a_package_that_does_not_work_is_warned_of_and_left_out(code: str, tmp_path: Path) -> None:
    with (
        chatter.installed(tmp_path, name="broken", code=code, module="broken_package"),
        pytest.warns(
            RuntimeWarning, match="'broken' of an installed package .broken_package. can't"
        ),
    ):
        assert "broken" not in formats()


def test_a_module_that_is_no_format_is_refused() -> None:
    with pytest.raises(LoadError, match=r"lacks TITLE, sniff, read; .*_template.py"):
        from_module(sys)
    with pytest.raises(LoadError, match="lacks"):
        loaders.load(".", format=sys)


def test_unknown_names_are_refused_with_the_known_ones() -> None:
    with pytest.raises(LoadError, match=r"Did you mean 'agentdojo'.*agentdojo.*format=my_module"):
        choose("agentdoja")
    with pytest.raises(LoadError, match=r"No format is called 'zzz'. Known formats"):
        loaders.load(".", format="zzz")


# ---------------------------------------------------------------------- what a file is


def test_exactly_one_yes_is_a_format(tmp_path: Path) -> None:
    path = chatter.write(tmp_path / "r1.jsonl")
    no, trouble = a_format("no", False), a_format("trouble", RecursionError("deep"))
    assert verdict_on(path, no, CHATTER, trouble).format is CHATTER
    assert verdict_on(path, no, trouble).reason == "no known format"


def test_a_tie_names_all_of_them(tmp_path: Path) -> None:
    path = chatter.write(tmp_path / "r1.jsonl")
    verdict = verdict_on(path, CHATTER, a_format("other", True))
    assert (verdict.format, verdict.severity) == (None, "error")
    assert verdict.reason == "reads as chatter and as other; name one with format='chatter'"


def test_a_named_format_is_taken_for_any_text_but_not_for_archives(tmp_path: Path) -> None:
    path = tmp_path / "log"
    never = a_format("never", False)
    path.write_bytes(b"any text")
    assert verdict_on(path, never, named=True).format is never
    path.write_bytes(zip_of({"a": b"x"}))
    assert verdict_on(path, never, named=True).format is None
    assert verdict_on(path, a_format("eval", True), named=True).format is not None


REFUSED = {
    "empty file": b"",
    "empty file ": b" \n\t\n",
    "blank in its first 16 KB": b" " * 20_000 + b"{}",
    "a pickle; refused, opening it could run code": pickle.dumps({"a": 1}),
    "a pickle; refused": pickle.dumps({"a": 1}, protocol=2),
    "UTF-16 text; save it as UTF-8": '{"chatter": 1}'.encode("utf-16"),
    "packed by bzip2": b"BZh91AY&SY" + bytes(20),
    "packed by xz": b"\xfd7zXZ\x00\x00" + bytes(20),
    "empty zip archive": b"PK\x05\x06" + bytes(18),
    "cut short": gzip.compress(b"{}" * 100)[:10],
}


@pytest.mark.parametrize(("reason", "data"), REFUSED.items(), ids=REFUSED)
@pytest.mark.parametrize("named", [True, False])
def test_what_can_not_be_read_is_an_error(
    reason: str, data: bytes, named: bool, tmp_path: Path
) -> None:
    path = tmp_path / "log"
    path.write_bytes(data)
    verdict = verdict_on(path, named=named)
    assert (verdict.format, verdict.severity) == (None, "error")
    assert reason.strip() in verdict.reason


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x89PNG\r\n\x1a\n" + bytes(50), "binary file, no agent log"),
        (b"PAR1" + bytes(50), "a Parquet table, no agent log"),
        (b"SQLite format 3\x00" + bytes(50), "an SQLite database, no agent log"),
        (b"# Readme\n", "no known format"),
        (b'{"some": "json"}', "no known format"),
    ],
)
def test_what_is_no_log_is_skipped(data: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(data)
    verdict = verdict_on(path)
    assert (verdict.severity, verdict.reason) == ("skipped", reason)


def test_a_tar_archive_says_what_to_do(tmp_path: Path) -> None:
    log = chatter.write(tmp_path / "r1.jsonl")
    for mode in ("w", "w:gz"):
        path = tmp_path / "logs.tar"
        with tarfile.open(path, mode) as packed:  # type: ignore[call-overload]
            packed.add(log, "r1.jsonl")
        assert verdict_on(path).reason == "a tar archive; unpack it first"


def test_an_archive_in_an_archive_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "outer.zip"
    path.write_bytes(zip_of({"inner.zip": zip_of({"r1.jsonl": b"{}"})}))
    verdict = recognise(Source(path, "inner.zip"), [CHATTER])
    assert (verdict.severity, "unpack the outer one" in verdict.reason) == ("error", True)


def test_members_that_can_not_be_opened_say_why(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(zip_by_hand("a", b"x" * 20, 8, 0, 8, flags=1))
    assert "encrypted" in recognise(Source(path, "a"), [CHATTER]).reason
    path.write_bytes(zip_of({"a": b"x" * 99}, zipfile.ZIP_LZMA))
    assert "zip method 14" in recognise(Source(path, "a"), [CHATTER]).reason
    assert "no such member" in recognise(Source(path, "b"), [CHATTER]).reason


def test_a_file_that_is_gone_or_locked_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert verdict_on(tmp_path / "gone").reason == "can't be opened: No such file or directory"
    path = chatter.write(tmp_path / "r1.jsonl")

    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(sources, "bytes_of", refuse)
    verdict = verdict_on(path)
    assert (verdict.severity, verdict.reason) == ("error", "can't be opened: Permission denied")


def test_a_source_that_looks_like_another_is_asked_by_its_format_only(tmp_path: Path) -> None:
    asked: list[str] = []

    def told_by(key: str) -> Format:
        module = types.ModuleType(key)

        def sniff(head: Any) -> bool:
            asked.append(key)
            return key in head.keys and head.first[key] != "no log"

        module.__dict__.update(TITLE=key, sniff=sniff, read=print)
        return from_module(module)

    formats_of_keys = [told_by(key) for key in ("a", "b", "c")]
    alike: dict[Any, Verdict] = {}

    def verdict(text: str) -> str | None:
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.json"
        path.write_text(text)
        asked.clear()
        found = recognise(Source(path), formats_of_keys, alike=alike).format
        return found and found.name

    assert verdict('{"b": "log 1"}') == "b"
    assert asked == ["a", "b", "c"]
    assert verdict('{"b": "log 22"}') == "b"
    assert asked == ["b"]
    assert verdict('{"b": "no log"}') is None  # looks like one, but its format says no
    assert asked == ["b", "a", "b", "c"]
    assert verdict('{"b": "log"}' + " " * 20_000) == "b"  # not all in sight, and asked all the same
    assert asked == ["b"]
    for other in ('{"b": "log", "d": 1}', '[{"b": "log"}]', '{"b": "log"}\n{"b": "log"}'):
        assert verdict(other) == "b"
        assert asked == ["a", "b", "c"]  # another key, another layout
    assert verdict('{"b": "log", "c": "log"}') is None
    assert verdict('{"b": "log", "c": "more"}') is None  # claimed by two: never taken for known
    assert asked == ["a", "b", "c"]
