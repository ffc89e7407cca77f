"""Sessions of Claude Code are read in shorter ways where they can be: all give the same tables."""

from __future__ import annotations

import gzip
import json
import random
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
from claude_sessions import session

import loaders
from loaders import builder, whole_runs
from loaders.builder import Builder
from loaders.formats import _claude_code_ahead, _claude_code_telling, claude_code
from loaders.formats._claude_code_agents import Late
from loaders.formats._claude_code_ahead import Ahead, _before, _Places
from loaders.formats._claude_code_lines import Line
from loaders.formats._claude_code_plain import PlainLines
from loaders.formats._claude_code_telling import Telling
from loaders.sources import Source

TABLES = ("trajectories", "steps", "events", "tools", "problems")
Tables = dict[str, pl.DataFrame]


def tables(path: Path) -> Tables:
    runs = loaders.load(path, format="claude_code", progress=False)
    return {name: getattr(runs, name).collect() for name in TABLES}


def same(one: Tables, other: Tables) -> None:
    for name, table in one.items():
        assert table.equals(other[name]), name


def some_sessions(folder: Path, rare: float) -> Iterator[Path]:
    """Sessions with and without subagents inside, and logs of subagents."""
    for seed in range(6):
        path = folder / (f"agent-{seed}.jsonl" if seed % 3 == 2 else f"{seed}.jsonl")
        path.write_text(session(seed, 200, rare, subagents=0.1 * (seed % 2)))
        yield path


def one_by_one(path: Path) -> Tables:
    """The tables if no line is plain."""

    def nothing(_: PlainLines, groups: deque[Line]) -> None:
        """Leaves all of them to others."""

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PlainLines, "tell", nothing)
        return tables(path)


@pytest.mark.parametrize("rare", [0.0, 0.01, 0.05, 0.2, 0.5])
@pytest.mark.parametrize("subagents", [0.0, 0.3])
def test_plain_lines_are_told_as_any_others(tmp_path: Path, rare: float, subagents: float) -> None:
    for seed in range(3):
        path = tmp_path / f"{seed}.jsonl"
        path.write_text(session(seed, 200, rare, subagents))
        read = tables(path)
        same(read, one_by_one(path))
        assert read["events"].height > 150


def test_plain_lines_are_told_in_the_short_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the comparison would compare nothing, and reading would be slow."""
    path = tmp_path / "s.jsonl"
    path.write_text(session(0, 9_000, 0.0, 0.0))
    slow = one_by_one(path)
    assert slow["events"].height > 2 * 4_096
    told: list[str] = []
    tell = Telling._tell

    def counted(telling: Telling, line: Line) -> None:
        told.append(line.type)
        tell(telling, line)

    monkeypatch.setattr(Telling, "_tell", counted)
    same(tables(path), slow)
    assert len(told) < 0.1 * slow["events"].height
    assert "assistant" not in told


def while_reading(path: Path, groups_at_once: int) -> tuple[Tables, int]:
    """The tables if lines are told while the file is read, and how often that had to be given up."""
    given_up: list[bool] = []
    tell = claude_code.Session.tell_while_reading

    def counted(session: claude_code.Session) -> None:
        try:
            tell(session)
        except Late:
            given_up.append(True)
            raise

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(claude_code, "_LONG", 0)
        patch.setattr(claude_code, "_GROUPS_AT_ONCE", groups_at_once)
        patch.setattr(claude_code.Session, "tell_while_reading", counted)
        return tables(path), len(given_up)


@pytest.mark.parametrize("rare", [0.0, 0.01, 0.1, 0.5])
def test_lines_told_while_reading_are_the_same(tmp_path: Path, rare: float) -> None:
    given_up: list[int] = []
    for path in some_sessions(tmp_path, rare):
        read, times = while_reading(path, groups_at_once=6)
        same(read, tables(path))
        given_up.append(times)
    assert 0 in given_up or rare > 0.1, "told while reading"
    assert 1 in given_up, "and told anew where that was too early"


def after_a_look_ahead(path: Path, groups_at_once: int) -> Tables:
    """The tables if the file is read twice, as it is where what is told is handed over."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(claude_code, "_LONG", 0)
        patch.setattr(claude_code, "_VERY_LONG", 0)
        patch.setattr(claude_code, "_GROUPS_AT_ONCE", groups_at_once)
        patch.setattr(_claude_code_telling, "_STEPS_AT_ONCE", 7)
        patch.setattr(Builder, "hands_over", True)
        return tables(path)


@pytest.mark.parametrize("rare", [0.0, 0.01, 0.1, 0.5])
def test_files_read_twice_are_the_same(tmp_path: Path, rare: float) -> None:
    for path in some_sessions(tmp_path, rare):
        same(after_a_look_ahead(path, groups_at_once=6), tables(path))


def test_packed_files_are_as_long_as_what_they_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "s.jsonl.gz"
    path.write_bytes(gzip.compress(session(2, 600, 0.1).encode("utf-8", "surrogatepass")))
    whole = tables(path)
    looked: list[Ahead] = []

    class Looking(Ahead):
        def __init__(self, source: Source, has_subagents: bool, far: int) -> None:
            super().__init__(source, has_subagents, far)
            looked.append(self)

    monkeypatch.setattr(claude_code, "Ahead", Looking)
    monkeypatch.setattr(claude_code, "_LONG", 0)
    monkeypatch.setattr(claude_code, "_VERY_LONG", 2 * path.stat().st_size)
    monkeypatch.setattr(claude_code, "_GROUPS_AT_ONCE", 64)
    monkeypatch.setattr(Builder, "hands_over", True)
    same(tables(path), whole)
    assert len(looked) == 1


def test_lines_far_apart_are_told_together(tmp_path: Path) -> None:
    """A call whose lines are the first and the last, and a result that stands before its call."""
    records = [json.loads(line) for line in session(3, 400, 0.0, 0.0).splitlines()]
    replies = [record for record in records if record["type"] == "assistant"]
    replies[-1]["message"]["id"] = replies[0]["message"]["id"]
    call = {"type": "tool_use", "id": "late", "name": "Read", "input": {}}
    result = {"type": "tool_result", "tool_use_id": "late", "content": "early"}
    answer = {**records[0], "message": {"role": "user", "content": [result]}}
    message = {**replies[-2]["message"], "id": "own", "content": [call]}
    records = [*records[:20], answer, *records[20:], {**replies[-2], "message": message}]
    path = tmp_path / "s.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    whole = tables(path)
    early = whole["events"].filter(pl.col("call_id") == "late")
    assert early["kind"].to_list() == ["tool_call", "tool_result"]
    assert early["source_pos"].str.starts_with("L21/").to_list() == [False, True]
    first_call = whole["events"].filter(step=0)["source_pos"].str.extract(r"L(\d+)").cast(pl.Int64)
    assert (first_call > 300).sum() == 1
    same(after_a_look_ahead(path, groups_at_once=8), whole)
    read, times = while_reading(path, groups_at_once=8)
    same(read, whole)
    assert times == 1


def test_a_file_that_grows_is_read_as_it_was_at_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "s.jsonl"
    text = session(5, 100, 0.0)
    path.write_text(text[:-40])
    before = tables(path)

    class Growing(Ahead):
        def __init__(self, source: Source, has_subagents: bool, far: int) -> None:
            super().__init__(source, has_subagents, far)
            path.write_text(text + session(6, 100, 0.0))

    monkeypatch.setattr(claude_code, "Ahead", Growing)
    read = after_a_look_ahead(path, groups_at_once=8)
    assert before["problems"]["reason"].str.contains("cut short").any()
    for name in ("steps", "events"):
        assert read[name].drop("trajectory_id").equals(before[name].drop("trajectory_id"))
    assert read["problems"]["reason"].equals(before["problems"]["reason"])


def test_a_session_handed_over_piece_by_piece(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "s.jsonl"
    path.write_text(session(7, 1_500, 0.02, 0.1))
    whole = tables(path)
    for name in ("_LONG", "_VERY_LONG"):
        monkeypatch.setattr(claude_code, name, 0)
    monkeypatch.setattr(claude_code, "_GROUPS_AT_ONCE", 16)
    monkeypatch.setattr(builder, "_ROWS_PER_CHUNK", 100)
    monkeypatch.setattr(whole_runs, "_ROWS_AT_ONCE", 64)
    monkeypatch.setattr(_claude_code_telling, "_STEPS_AT_ONCE", 7)
    handed_over: list[int] = []
    keep = Builder._hand_over_told

    def counted(own: Builder) -> None:
        handed_over.append(len(own._step_columns[0]))
        keep(own)

    monkeypatch.setattr(Builder, "_hand_over_told", counted)
    store = loaders.convert(path, tmp_path / "store", format="claude_code", progress=False)
    assert sum(steps > 0 for steps in handed_over) >= 3
    read = {name: getattr(store, name).collect() for name in TABLES}
    for name in ("steps", "events"):
        assert read[name].drop("run").equals(whole[name].drop("run")), name
    for column in ("trajectory_id", "parent_seq", "tool_responses", "metadata", "input_tokens"):
        assert read["trajectories"][column].equals(whole["trajectories"][column]), column


def test_many_sessions_are_gathered_as_each_is_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [*some_sessions(tmp_path, rare=0.05)]
    alone = [tables(path)["events"].drop("run", "trajectory_id") for path in sorted(paths)]
    monkeypatch.setattr(builder, "_ROWS_PER_CHUNK", 150)
    monkeypatch.setattr(whole_runs, "_ROWS_AT_ONCE", 40)
    together = tables(tmp_path)
    runs = together["events"]["run"]
    assert runs.is_sorted()
    assert runs.n_unique() == together["trajectories"].height > len(paths)
    assert together["events"].drop("run", "trajectory_id").equals(pl.concat(alone))


def test_what_is_attached_is_told_without_its_bytes(tmp_path: Path) -> None:
    shared = {"parentUuid": None, "isSidechain": False, "sessionId": "s", "uuid": "u"}
    text = {"type": "text", "text": "go on"}
    message = {"id": "m", "role": "assistant", "model": "made-up", "content": [text]}
    source = {"type": "base64", "media_type": "image/png", "data": "QQ=="}
    attachments = [
        {"type": "hook_success", "content": "fine", "exitCode": 0, "none": None},
        {"type": "file", "content": {"base64": "QQ==", "name": "a"}},
        {"type": "picture", "source": source},
        {"type": "empty", "content": []},
        {"type": "shown", "content": "x"},
    ]
    lines = [{**shared, "type": "assistant", "message": message}]
    at = "2026-01-01T00:00:01Z"
    lines += [
        {**shared, "type": "attachment", "attachment": attachment, "timestamp": at}
        for attachment in attachments
    ]
    lines[-1]["rendered"] = [{"content": "seen"}, {"content": "so"}]
    written = [json.dumps(line) for line in lines]
    written[2] = written[2].replace('"base64"', r'"base\u00364"')
    path = tmp_path / "s.jsonl"
    path.write_text("\n".join(written))
    told = tables(path)["events"].filter(kind="other")
    columns = ("seq", "step", "actor", "error_type", "text", "source_pos")
    assert told.select(columns).rows() == [
        (
            1,
            0,
            "claude-code",
            "hook_success",
            '{"type":"hook_success","content":"fine","exitCode":0,"none":null}',
            "L2/attachment",
        ),
        (2, 0, "claude-code", "file", '{"type":"file","content":{"name":"a"}}', "L3/attachment"),
        (
            3,
            0,
            "claude-code",
            "picture",
            '{"type":"picture","source":{"type":"base64","media_type":"image/png"}}',
            "L4/attachment",
        ),
        (4, 0, "claude-code", "shown", "seen\nso", "L6/rendered"),
    ]
    assert told["started_at"].n_unique() == 1
    run = tables(path)["trajectories"]
    assert run["ended_at"].item() == told["started_at"][0]


def test_places_of_names_as_counted_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(4)
    monkeypatch.setattr(_claude_code_ahead, "_ROWS_AT_ONCE", 64)
    for size in (0, 1, 30, 64, 500):
        calls, results = ([rng.randrange(size or 1) for _ in range(size)] for _ in range(2))
        places = [_Places(), _Places()]
        for place, names in zip(places, (calls, results), strict=True):
            for line, name in enumerate(names):
                place.add(name, line)
        of_calls, of_results = (place.table() for place in places)
        assert of_calls.sort("first").rows() == [
            (name, calls.index(name), size - 1 - calls[::-1].index(name), calls.count(name) > 1)
            for name in dict.fromkeys(calls)
        ]
        both = set(calls) & set(results)
        assert _before(of_results, of_calls) == {
            name for name in both if results.index(name) < calls.index(name)
        }


def test_a_file_read_anew_leaves_others_as_they_are(tmp_path: Path) -> None:
    """What was told before is kept, with its warnings, and nothing is told twice."""
    for seed in range(4):
        text = session(seed, 300, rare=0.1)
        (tmp_path / f"{seed}.jsonl").write_text(text + '{"type": "user", "mess\n')
    read, times = while_reading(tmp_path, groups_at_once=5)
    assert times > 1
    whole = tables(tmp_path)
    for each in (read, whole):  # what is said of texts comes when they are put into columns
        each["problems"] = each["problems"].sort("source", "position", "reason")
    same(read, whole)
    reasons = read["problems"]["reason"]
    assert reasons.str.contains("credentials redacted").any()
    assert reasons.str.contains("cut short").sum() >= 4


def test_real_sessions_read_the_same(real_logs: Path) -> None:
    for path in (real_logs / "claude_code").rglob("*.jsonl"):
        read = tables(path)
        same(one_by_one(path), read)
        same(while_reading(path, groups_at_once=16)[0], read)
        same(after_a_look_ahead(path, groups_at_once=16), read)
