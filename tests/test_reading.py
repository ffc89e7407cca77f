"""load(): every broken thing is a problem with its place, and the rest loads."""

from __future__ import annotations

import gc
import gzip
import json
import os
import pickle
import random
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import chatter
import polars as pl
import pytest
import zstandard
from budget import at_most
from test_archives import zip_by_hand, zip_of, zstd_zip

import loaders
from loaders import (
    LoadError,
    Trajectories,
    archives,
    reading,
    sources,
    workers,
)
from loaders.builder import Builder
from loaders.progress import ProgressBar
from loaders.schema import PROBLEMS, TABLES
from loaders.sources import Source

GOOD = chatter.text(chatter.lines("good"))


@pytest.fixture(scope="module", autouse=True)
def chatter_is_installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with chatter.installed(tmp_path_factory.mktemp("site")):
        yield


def tables_of(runs: Trajectories) -> dict[str, pl.DataFrame]:
    return {name: getattr(runs, name).collect() for name in TABLES}


def check(runs: Trajectories) -> None:
    """What holds for the tables of any set that load() returns."""
    tables = tables_of(runs)
    ids = tables["trajectories"].select("run", "trajectory_id")
    assert ids["run"].to_list() == list(range(ids.height))
    assert ids["trajectory_id"].is_unique().all()
    for name in ("trajectories", "steps", "events"):
        table = tables[name]
        assert table["run"].is_sorted()
        assert table.schema["run"] == pl.Int64
        named = table.select("run", "trajectory_id").unique()
        assert named.join(ids, on=["run", "trajectory_id"]).height == named.height
        assert list(table.columns)[: len(TABLES[name])] == list(TABLES[name])
    assert tables["problems"].schema == PROBLEMS


def load(path: Any, **options: Any) -> Trajectories:
    runs = loaders.load(path, **options)
    check(runs)
    return runs


def problems(runs: Trajectories) -> list[tuple[Any, ...]]:
    columns = runs.problems.select("source", "position", "severity", "reason").collect()
    return [(Path(source).name, *rest) for source, *rest in columns.iter_rows()]


# ---------------------------------------------------------------------- one bad file among good ones

BROKEN_AT = GOOD.index(b'{"who": "tool"')
BAD: dict[str, tuple[bytes, str | None, str, str, int]] = {
    # name: content, position, severity, a part of the reason, runs that are read of it
    "unknown": (b"# Readme\n", None, "skipped", "no known format", 0),
    "empty": (b"", None, "error", "empty file", 0),
    "binary": (b"\x89PNG" + bytes(90), None, "skipped", "binary file", 0),
    "pickle": (pickle.dumps(["chatter"]), None, "error", "a pickle; refused", 0),
    "cut.jsonl": (GOOD[:-30], "L6", "error", "cut short", 1),
    "broken line": (GOOD.replace(b'"tool", ', b'"tool" ', 1), "L4", "error", "no JSON", 1),
    "cut.gz": (gzip.compress(GOOD * 50)[:-60], None, "error", "compressed data are cut short", 1),
    "cut.zst": (
        zstandard.ZstdCompressor().compress(chatter.text(chatter.lines("good", 9_000)))[:-9_000],
        None,
        "error",
        "compressed data are cut short",
        1,
    ),
    "bad.gz": (b"\x1f\x8b" + bytes(60), None, "error", "compressed data are damaged", 0),
    "nan": (GOOD.replace(b'"points": 0.5', b'"points": NaN'), "L6", "warning", "NaN", 1),
    "repeated key": (
        GOOD.replace(b'"points": 0.5', b'"points": 1, "points": 0.5'),
        "L6",
        "warning",
        "keys that repeat",
        1,
    ),
    "surrogate": (GOOD.replace(b"done", b"done \\ud83d"), "L5", "warning", "lone surrogates", 1),
    "utf8": (GOOD.replace(b"done", b"d\xf6ne"), "L5", "warning", "no UTF-8", 1),
    "zeros": (GOOD + bytes(600), "L7", "error", "no JSON", 1),
    "nested": (GOOD + b"[" * 100_000 + b"\n", "L7", "error", "nested too deeply", 1),
    "utf16": ('{"chatter": 2}'.encode("utf-16"), None, "error", "UTF-16 text", 0),
    "encrypted.zip": (zip_by_hand("a", b"x" * 20, 8, 0, 8, flags=1), None, "error", "encrypted", 0),
    "nested.zip": (zip_of({"in.zip": zip_of({"a": GOOD})}), None, "error", "inside an archive", 0),
    "no run": (b'{"chatter": []}\n{"chatter": 1}x', None, "skipped", "no known format", 0),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_a_problem_and_the_good_one_loads(name: str, tmp_path: Path) -> None:
    content, position, severity, reason, count = BAD[name]
    chatter.write(tmp_path / "good.jsonl")
    (tmp_path / name).write_bytes(content)
    runs = load(tmp_path)
    assert len(runs) == count + 1
    named = runs.problems.filter(pl.col("source").str.contains(f"/{name}", literal=True)).collect()
    row = named.row(0, named=True)
    assert (row["position"], row["severity"]) == (position, severity)
    assert reason in row["reason"]
    assert len(runs.problems.collect()) == named.height
    if count:
        first = runs.events.filter(pl.col("trajectory_id").is_in(runs.ids), pl.col("seq") == 0)
        assert first.collect()["text"].to_list() == ["Do good."] * 2


@pytest.mark.parametrize("name", [name for name in BAD if BAD[name][2] == "error"])
def test_strict_raises_at_the_first_error(name: str, tmp_path: Path) -> None:
    chatter.write(tmp_path / "0.jsonl")
    path = tmp_path / name
    path.write_bytes(BAD[name][0])
    with pytest.raises(LoadError, match=BAD[name][3]) as caught:
        loaders.load(tmp_path, strict=True)
    assert str(caught.value).startswith(path.as_posix())


def test_strict_passes_over_doubts_and_files_that_are_no_logs(tmp_path: Path) -> None:
    chatter.write(tmp_path / "good.jsonl")
    for name in ("unknown", "binary", "nan"):
        (tmp_path / name).write_bytes(BAD[name][0])
    assert len(load(tmp_path, strict=True)) == 2


def test_harmless_oddities_leave_no_problem(tmp_path: Path) -> None:
    for name, content in {
        "bom": b"\xef\xbb\xbf" + GOOD,
        "crlf": GOOD.replace(b"\n", b"\r\n"),
        "blank lines": GOOD.replace(b"\n", b"\n\n"),
        "no last newline": GOOD[:-1],
        "long line": GOOD.replace(b"done", b"done" + b"!" * (2 << 20)),
    }.items():
        (tmp_path / name).write_bytes(content)
    runs = load(tmp_path)
    assert len(runs) == 5
    assert runs.problems.collect().is_empty()
    last = runs.events.group_by("run", maintain_order=True).last().collect()["text"]
    assert last.str.starts_with("done").all()


def test_a_file_that_vanishes_before_it_is_read_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chatter.write(tmp_path / "a.jsonl")
    gone = chatter.write(tmp_path / "b.jsonl")
    read_source = reading.read_source

    def remove_first(*given: Any) -> None:
        gone.unlink(missing_ok=True)
        read_source(*given)

    monkeypatch.setattr(reading, "read_source", remove_first)
    runs = load(tmp_path)
    assert len(runs) == 1
    assert problems(runs) == [
        ("b.jsonl", None, "error", f"{gone}: No such file or directory"),
    ]


def test_a_file_that_may_not_be_read_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chatter.write(tmp_path / "a.jsonl")
    locked = chatter.write(tmp_path / "b.jsonl")
    bytes_of = sources.bytes_of

    def refuse(path: Path) -> bytes:
        if path == locked:
            raise PermissionError(13, "Permission denied", str(path))
        return bytes_of(path)

    monkeypatch.setattr(sources, "bytes_of", refuse)
    runs = load(tmp_path)
    assert problems(runs) == [("b.jsonl", None, "error", "can't be opened: Permission denied")]


def test_links_and_pipes_are_problems_of_their_own(tmp_path: Path) -> None:
    chatter.write(tmp_path / "a.jsonl")
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "dangling").symlink_to(tmp_path / "absent")
    os.mkfifo(tmp_path / "pipe")
    runs = load(tmp_path)
    assert len(runs) == 1
    assert [(name, severity) for name, _, severity, _ in problems(runs)] == [
        ("dangling", "error"),
        ("loop", "skipped"),
        ("pipe", "skipped"),
    ]


def test_a_format_that_fails_keeps_what_it_told(tmp_path: Path) -> None:
    fragile = types.ModuleType("fragile")

    def read(source: Source, out: Builder) -> None:
        run = out.trajectory(pos="")
        run.user("kept", "/0")
        if b"boom" in source.read_bytes():
            raise RecursionError("boom")

    fragile.__dict__.update(TITLE="fragile", sniff=lambda head: True, read=read)
    (tmp_path / "a").write_text("boom")
    (tmp_path / "b").write_text("fine")
    (tmp_path / "c").write_text("nothing")
    runs = load(tmp_path, format=fragile)
    assert runs.events.collect()["text"].to_list() == ["kept"] * 3
    ((name, position, severity, reason),) = problems(runs)
    assert (name, position, severity) == ("a", None, "error")
    assert "RecursionError: boom" in reason
    assert "what stands before it is kept" in reason


def test_a_log_without_a_run_is_a_warning(tmp_path: Path) -> None:
    silent = types.ModuleType("silent")
    silent.__dict__.update(
        TITLE="silent", sniff=lambda head: b"silent" in head.data, read=lambda source, out: None
    )
    chatter.write(tmp_path / "a.jsonl")
    (tmp_path / "b").write_text("silent")
    with pytest.raises(LoadError, match="recognised as silent, but there is no run in it"):
        loaders.load(tmp_path / "b", format=silent)


# ---------------------------------------------------------------------- packings read alike

PACKED: dict[str, Callable[[bytes], bytes]] = {
    "log.jsonl": bytes,
    "log.gz": gzip.compress,
    "log.zst": zstandard.ZstdCompressor().compress,
    "deflate.zip": lambda data: zip_of({"log.jsonl": data}),
    "stored.zip": lambda data: zip_of({"log.jsonl": data}, 0),
    "zstd.zip": lambda data: zstd_zip(data, "log.jsonl"),
    "gz in.zip": lambda data: zip_of({"log.jsonl.gz": gzip.compress(data)}),
}


def test_each_packing_gives_the_same_tables_and_ids(tmp_path: Path) -> None:
    found: dict[str, dict[str, pl.DataFrame]] = {}
    for name, pack in PACKED.items():
        path = tmp_path / name
        path.write_bytes(pack(GOOD))
        runs = load(path)
        found[name] = {
            table: frame.drop("source", strict=False) for table, frame in tables_of(runs).items()
        }
        assert runs.raw(runs.ids[0], 0) == "Do good."
    for name, tables in found.items():
        for table, frame in tables.items():
            assert frame.equals(found["log.jsonl"][table]), (name, table)


def test_an_archive_cut_short_gives_its_first_members(tmp_path: Path) -> None:
    members = {f"{n}.jsonl": chatter.text(chatter.lines(str(n), turns=30)) for n in range(6)}
    whole = zip_of(members)
    (tmp_path / "cut.zip").write_bytes(whole[: len(whole) * 2 // 3])
    runs = load(tmp_path / "cut.zip")
    assert 3 <= len(runs) <= 5
    reasons = [reason for *_, reason in problems(runs)]
    assert "directory unreadable" in reasons[0]
    assert any("cut short" in reason for reason in reasons[1:])


@pytest.mark.parametrize("end", [b'"}\n', b""], ids=["whole", "cut"])
def test_a_line_of_a_hundred_megabytes_is_read_or_told(end: bytes, tmp_path: Path) -> None:
    long = b'{"who": "tool", "says": "' + b"x" * (100 << 20) + end
    (tmp_path / "long.jsonl").write_bytes(GOOD + long)
    with at_most(20):
        runs = load(tmp_path)
    texts = runs.events.select(pl.col("text").str.len_bytes().max()).collect().item()
    told = [reason for *_, reason in problems(runs)]
    assert (texts == 100 << 20, told) == ((True, []) if end else (False, ["JSON is cut short"]))


def test_a_bomb_is_a_problem_that_names_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chatter.write(tmp_path / "good.jsonl")
    bomb = GOOD + b'{"who": "tool"}\n' * (6 << 20)
    (tmp_path / "bomb.gz").write_bytes(gzip.compress(bomb, 9))
    (tmp_path / "bomb.zip").write_bytes(zip_of({"a.jsonl": bomb}))
    monkeypatch.setattr(archives, "MAX_RATIO", 100)
    runs = load(tmp_path)
    assert len(runs) == 1
    rows = problems(runs)
    assert [row[0] for row in rows] == ["bomb.gz", "a.jsonl"]
    assert all("raise loaders.archives.MAX_MEMBER_BYTES or MAX_RATIO" in row[3] for row in rows)


def test_names_that_lead_out_of_an_archive_write_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    (folder / "hostile.zip").write_bytes(zip_of({"../../escape.jsonl": GOOD, "/etc/x.jsonl": GOOD}))
    before = sorted(tmp_path.rglob("*"))
    runs = load(folder)
    assert len(runs) == 2
    assert [runs.raw(name, 0) for name in runs.ids] == ["Do good.", "Do good."]
    assert sorted(tmp_path.rglob("*")) == before
    assert not (tmp_path / "escape.jsonl").exists()


def test_a_repeated_member_is_said(tmp_path: Path) -> None:
    import zipfile

    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("x.jsonl", b"old")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("x.jsonl", GOOD)
    runs = load(tmp_path)
    assert problems(runs)[0][1:] == (
        "x.jsonl",
        "warning",
        "stands in the archive twice; the last one is read",
    )


# ---------------------------------------------------------------------- ids and copies


def test_ids_stay_when_a_file_moves_and_change_with_its_content(tmp_path: Path) -> None:
    first = load(chatter.write(tmp_path / "a" / "r.jsonl")).ids
    assert (
        load(chatter.write(tmp_path / "b" / "c" / "other.jsonl", chatter.lines("r"))).ids == first
    )
    assert load(chatter.write(tmp_path / "a" / "r.jsonl", turns=3)).ids != first


def test_copies_get_ids_of_their_own_and_a_warning(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        chatter.write(tmp_path / f"{name}.jsonl", chatter.lines("same"))
    chatter.write(tmp_path / "d.jsonl")
    runs = load(tmp_path)
    assert runs.ids == load(tmp_path).ids
    alone = load(tmp_path / "b.jsonl").ids[0]
    assert runs.ids[0] == alone
    rows = runs.problems.collect()
    assert rows["reason"].to_list() == [f"same content as run {alone}, loaded twice"] * 2
    assert rows["trajectory_id"].to_list() == runs.ids[1:3]
    assert rows["severity"].unique().to_list() == ["warning"]
    assert len(runs[runs.ids[2]].events.collect()) == 5


def test_problems_of_a_copy_name_the_copy(tmp_path: Path) -> None:
    doubtful = types.ModuleType("doubtful")

    def read(source: Source, out: Builder) -> None:
        out.trajectory(pos="").problem("/x", "odd")

    doubtful.__dict__.update(TITLE="doubtful", sniff=lambda head: True, read=read)
    for name in ("a", "b"):
        (tmp_path / name).write_text("same")
    runs = load(tmp_path, format=doubtful)
    odd = runs.problems.filter(pl.col("reason") == "odd").collect()
    assert odd["trajectory_id"].to_list() == runs.ids


# ---------------------------------------------------------------------- labels


def test_template_fields_become_columns_or_fill_known_ones(tmp_path: Path) -> None:
    for arm in ("kept", "dropped"):
        for number in ("1", "2"):
            chatter.write(tmp_path / arm / f"s{number}.jsonl", chatter.lines(f"{arm}{number}"))
    runs = load(f"{tmp_path}/{{arm}}/s{{sample}}.jsonl")
    table = runs.trajectories.collect()
    assert runs.labels == ["sample"]
    assert table["arm"].to_list() == ["dropped", "dropped", "kept", "kept"]
    assert table["sample"].to_list() == ["1", "2", "1", "2"]
    relabelled = load(f"{tmp_path}/{{model}}/s{{trial}}.jsonl").trajectories.collect()
    assert relabelled["model"].to_list() == ["dropped", "dropped", "kept", "kept"]


def test_templates_label_runs_inside_archives(tmp_path: Path) -> None:
    members = {
        f"{arm}/{n}.jsonl": chatter.text(chatter.lines(arm + n)) for arm in "ab" for n in "12"
    }
    (tmp_path / "all.zip").write_bytes(zip_of(members))
    (tmp_path / "arms").mkdir()
    (tmp_path / "arms" / "kept.zip").write_bytes(zip_of({"1.jsonl": GOOD}))
    inside = load(f"{tmp_path}/all.zip/{{arm}}/{{trial}}.jsonl").trajectories.collect()
    assert inside["arm"].to_list() == ["a", "a", "b", "b"]
    assert inside["trial"].to_list() == ["1", "2", "1", "2"]
    around = load(f"{tmp_path}/arms/{{arm}}.zip").trajectories.collect()
    assert around["arm"].to_list() == ["kept"]


def test_typed_columns_take_labels_that_fit(tmp_path: Path) -> None:
    chatter.write(tmp_path / "failure" / "false" / "0.25.jsonl")
    table = load(f"{tmp_path}/{{outcome}}/{{success}}/{{score}}.jsonl").trajectories.collect()
    assert table.row(0, named=True)["outcome"] == "failure"
    assert (table["success"][0], table["score"][0]) == (False, 0.25)
    with pytest.raises(
        LoadError, match=r"'0.25' is no value for the column 'outcome' \(one of success"
    ):
        load(f"{tmp_path}/*/*/{{outcome}}.jsonl")


@pytest.mark.parametrize(
    "name", ["run", "trajectory_id", "source", "events", "format", "environment"]
)
def test_columns_that_loading_fills_are_no_labels(name: str, tmp_path: Path) -> None:
    chatter.write(tmp_path / "x" / "a.jsonl")
    with pytest.raises(LoadError, match=f"can't be called '{name}'.*'{name}_label'"):
        loaders.load(f"{tmp_path}/{{{name}}}/*.jsonl")


# ---------------------------------------------------------------------- nothing to read


def test_nothing_readable_names_files_formats_and_the_remedy(tmp_path: Path) -> None:
    for number in range(7):
        (tmp_path / f"{number}.txt").write_text(f"no log {number}")
    (tmp_path / "z.gz").write_bytes(BAD["bad.gz"][0])
    with pytest.raises(LoadError) as caught:
        loaders.load(tmp_path)
    text = str(caught.value)
    first, second, *_ = text.splitlines()
    assert first == f"Nothing could be read from {tmp_path!r}."
    assert "z.gz: compressed data are damaged" in second  # the worst first
    assert "... and 3 more" in text
    assert "Known formats:" in text
    assert "chatter" in text
    assert "load(path, format=my_module)" in text


def test_no_paths_at_all(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="Nothing could be read from"):
        loaders.load([])
    with pytest.raises(LoadError, match="Nothing found at"):
        loaders.load(tmp_path)


# ---------------------------------------------------------------------- bundles, companions, subagents


def family(**parts: Any) -> types.ModuleType:
    """A format of JSON files that may be parts of a log, companions, or subagents' runs."""
    module = types.ModuleType("family")

    def read(source: Source, out: Builder) -> None:
        for part in source.parts:
            record = part.json()
            extra = source.beside(record.get("beside", "absent"))
            if extra is not None:
                extra.json()
            run = out.trajectory(native_id=record["id"], pos="")
            run.step()
            for child in record.get("starts", []):
                run.spawned(child, run.call("task", None, "/starts"))

    default = {"TITLE": "family", "sniff": lambda head: "id" in head.keys, "read": read}
    module.__dict__.update({**default, **parts})
    return module


def write_json(path: Path, **record: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record))


def test_files_of_one_log_are_read_together(tmp_path: Path) -> None:
    for name in ("a1", "a2", "b1"):
        write_json(tmp_path / name, id=name)
    runs = load(tmp_path, format=family(bundle=lambda source: source.filename[0]))
    table = runs.trajectories.collect()
    assert table["native_id"].to_list() == ["a1", "a2", "b1"]
    assert [Path(source).name for source in table["source"]] == ["a1", "a1", "b1"]
    assert table["source_hash"].n_unique() == 2


def test_a_file_that_can_not_be_bundled_is_read_alone(tmp_path: Path) -> None:
    write_json(tmp_path / "a", id="a")

    def bundle(source: Source) -> str:
        raise ValueError("odd")

    runs = load(tmp_path, format=family(bundle=bundle))
    assert len(runs) == 1
    assert "can't be put together with its other files: ValueError: odd" in problems(runs)[0][3]


def test_companions_that_no_log_read_are_told(tmp_path: Path) -> None:
    write_json(tmp_path / "a", id="a", beside="score.json")
    write_json(tmp_path / "score.json", score=1)
    write_json(tmp_path / "other" / "score.json", score=1)
    runs = load(tmp_path, format=family(companion=lambda head: "score" in head.keys))
    rows = runs.problems.collect().rows(named=True)
    assert [row["source"] for row in rows] == [(tmp_path / "other" / "score.json").as_posix()]
    assert rows[0]["reason"] == "belongs to a family log that was not loaded with it"


def test_a_broken_companion_is_a_problem_under_its_own_name(tmp_path: Path) -> None:
    write_json(tmp_path / "a", id="a", beside="score.json")
    (tmp_path / "score.json").write_text('{"score": [1, 2')
    runs = load(tmp_path, format=family(companion=lambda head: "score" in head.keys))
    assert [(name, severity) for name, _, severity, _ in problems(runs)] == [
        ("score.json", "error")
    ]


def test_subagents_link_to_the_nearest_run_that_started_one_of_their_name(tmp_path: Path) -> None:
    for folder in ("x", "y"):
        write_json(tmp_path / folder / "main.json", id=f"main {folder}", starts=["other", "sub"])
        write_json(tmp_path / folder / "subagents" / "s.json", id="sub", starts=["sub"])
    write_json(tmp_path / "z.json", id="stranger")
    runs = load(tmp_path, format=family())
    table = {
        row["source"].split(tmp_path.name)[1]: row for row in runs.trajectories.collect().to_dicts()
    }
    for folder in ("x", "y"):
        sub, main = table[f"/{folder}/subagents/s.json"], table[f"/{folder}/main.json"]
        assert (sub["parent_id"], sub["parent_seq"]) == (main["trajectory_id"], 1)
        assert main["parent_id"] is None
    assert table["/z.json"]["parent_id"] is None


# ---------------------------------------------------------------------- many and large files


def dojo(number: int) -> str:
    message = {"role": "assistant", "content": f"reply {number}", "tool_calls": None}
    record = {
        "suite_name": "bank",
        "pipeline_name": f"m-{number % 3}",
        "user_task_id": f"user_task_{number}",
        "messages": [{"role": "user", "content": "go"}, message],
        "utility": number % 2 == 0,
    }
    return json.dumps(record)


def test_raised_limits_reach_other_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_RATIO", 7)
    workers._with_limits((1, 2, 3), list)
    assert (archives.MAX_MEMBER_BYTES, archives.MAX_RATIO, archives.RATIO_FREE_BYTES) == (1, 2, 3)


@pytest.fixture(autouse=True)
def limits_stay() -> Iterator[None]:
    kept = (archives.MAX_MEMBER_BYTES, archives.MAX_RATIO, archives.RATIO_FREE_BYTES)
    yield
    archives.MAX_MEMBER_BYTES, archives.MAX_RATIO, archives.RATIO_FREE_BYTES = kept


def test_thousands_of_small_files_cost_about_a_millisecond_each(tmp_path: Path) -> None:
    for number in range(2_000):
        (tmp_path / f"{number}.json").write_text(dojo(number))
    loaders.available()
    with at_most(6):
        assert len(loaders.load(tmp_path)) == 2_000


def test_each_small_file_is_opened_twice_at_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = chatter.write(tmp_path / "a.jsonl")
    opened: list[Path] = []
    bytes_of = sources.bytes_of
    monkeypatch.setattr(sources, "bytes_of", lambda path: opened.append(path) or bytes_of(path))
    load(path)
    assert opened == [path] * 2


def test_heads_are_not_kept_while_others_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(30):
        chatter.write(tmp_path / f"{number}.jsonl")
    seen: list[int] = []
    sort_out = reading.sort_out

    def spy(*given: Any, **options: Any) -> Any:
        kinds = sort_out(*given, **options)
        groups = kinds.groups.values()
        seen.extend(
            len({"head", "_small"} & set(vars(s))) for _, sources, _ in groups for s in sources
        )
        return kinds

    monkeypatch.setattr(reading, "sort_out", spy)
    load(tmp_path)
    assert seen == [0] * 30


def test_a_big_archive_is_not_read_anew_for_each_member(tmp_path: Path) -> None:
    members = {f"{n:05}.txt": b"no log" for n in range(3_000)}
    (tmp_path / "many.zip").write_bytes(zip_of({**members, "z.jsonl": GOOD}))
    with at_most(6):
        assert len(loaders.load(tmp_path)) == 1


@pytest.mark.parametrize("seed", range(40))
def test_random_damage_never_crashes(seed: int, tmp_path: Path) -> None:
    chance = random.Random(seed)
    chatter.write(tmp_path / "good.jsonl")
    for name, pack in PACKED.items():
        data = bytearray(pack(GOOD))
        for _ in range(chance.randrange(1, 9)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        (tmp_path / name).write_bytes(bytes(data[: chance.randrange(1, len(data) + 1)]))
    runs = load(tmp_path)
    assert len(runs) >= 1


# ---------------------------------------------------------------------- progress


class Told(ProgressBar):
    """A bar that nobody sees, and what it was told."""

    def __init__(self) -> None:
        super().__init__(False)
        self.counts: list[int] = []

    def update(self, count: int = 1) -> None:
        self.counts.append(count)


def test_a_share_is_done_at_its_end_whatever_was_said_on_the_way() -> None:
    bar = Told()
    for size, parts in ((100, [60, 70]), (50, []), (9, [3])):
        with bar.share(size) as advance:
            for part in parts:
                advance(part)
    assert bar.counts == [60, 40, 0, 50, 3, 6]


def test_the_bar_moves_while_a_long_log_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chatter.write(tmp_path / "good.jsonl")
    data = (tmp_path / "good.jsonl").read_bytes()
    (tmp_path / "long.jsonl").write_bytes(data * (3 * sources._CHUNK * 4 // len(data)))
    told = Told()
    monkeypatch.setattr(
        reading, "progress_bar", lambda total, *_: (told.counts.append(-total), told)[1]
    )
    load(tmp_path / "long.jsonl")
    total = -told.counts[0]
    moves = [count for count in told.counts[1:] if count]
    assert sum(moves) == total > 2 << 20
    assert max(moves) <= sources._CHUNK


# ---------------------------------------------------------------------- Python's garbage collector


def test_the_collector_is_left_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chatter.write(tmp_path / "good.jsonl")
    frozen: list[int] = []
    read = reading.read_source
    monkeypatch.setattr(
        reading, "read_source", lambda *a: (frozen.append(gc.get_freeze_count()), read(*a))
    )
    load(tmp_path)
    assert frozen[0] > 10_000
    assert gc.get_freeze_count() == 0
    assert gc.isenabled()
    gc.freeze()  # what somebody else has set apart stays so
    try:
        others = gc.get_freeze_count()
        load(tmp_path)
        assert gc.get_freeze_count() >= others
    finally:
        gc.unfreeze()


# ---------------------------------------------------------------------- what importing costs


def cost_of_importing(*names: str) -> float:
    """CPU seconds of a fresh process."""
    script = (
        "import sys, time; t = time.process_time()\n"
        "for name in sys.argv[1:]: __import__(name)\n"
        "print(time.process_time() - t)\n"
        "heavy = 'altair ipywidgets sklearn pandas scipy matplotlib joblib tqdm yaml IPython'.split()\n"
        "assert not [name for name in heavy if name in sys.modules]"
    )
    command = [sys.executable, "-c", script, *names]
    # Compiling is not part of it: by default Python keeps what it compiled.
    keeps = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}
    told = subprocess.run(command, capture_output=True, text=True, check=True, env=keeps)
    return float(told.stdout)


def test_importing_costs_little_more_than_polars_alone() -> None:
    rounds = [
        (cost_of_importing("loaders", "analysis"), cost_of_importing("polars", "msgspec"))
        for _ in range(3)
    ]
    ours, theirs = map(min, zip(*rounds, strict=True))
    assert ours < 1.5 * theirs


def test_reading_json_imports_nothing_heavy(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(dojo(1))
    script = (
        "import sys, loaders; runs = loaders.load(sys.argv[1]); repr(runs); runs._repr_html_()\n"
        "heavy = 'altair ipywidgets sklearn pandas scipy matplotlib joblib IPython'.split()\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    out = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True
    ).stdout
    assert out.strip() == "[]"
