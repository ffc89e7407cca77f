"""Exports read back: what differs is exactly what the report lists."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import polars as pl
import pytest
from generator import SAMPLES, STUDY_PARTS
from small import runs_of

import loaders
from loaders import DerailError, Trajectories
from loaders.exports import ExportReport, export
from loaders.run import Run

Object = dict[str, Any]
Rows = list[Object]
SAMPLE_PARTS = [SAMPLES / "frameworks", *STUDY_PARTS.values()]
REAL = ["claude_code", "codex", "inspect", "openhands_v1", "mini_swe_agent", "atif", "opencode"]
NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
SHOWN = ("text", "tagged_in_text")
KEPT = (
    *("actor", "error_type", "exit_code", "truncated", "started_at", "duration_s", "injected"),
    "media",
)
KEPT_OF_STEP = (
    *("agent", "model", "started_at", "ended_at", "stop_reason", "error", "thinking"),
    *("thinking_chars", "thinking_sent", "evidence", "history_edit"),
)
KEPT_OF_RUN = (
    *("provider", "benchmark", "task_id", "trial", "arm", "started_at", "ended_at", "outcome"),
    *("success", "score", "scores", "end_reason", "cost_usd", "params"),
)
TOKENS = ("input_tokens", "output_tokens", "reasoning_tokens", "cached_tokens")


def told(folder: Path, *tellers: Callable[[Run], None]) -> Trajectories:
    """Runs as a format of its own tells them, each in a file of its own."""

    def read(source: Any, out: Any) -> None:
        index = int(source.json()["index"])
        tellers[index](out.trajectory(native_id=f"run {index}", pos=""))

    module = ModuleType("told")
    vars(module).update(TITLE="told", sniff=lambda head: True, read=read)
    folder.mkdir(parents=True)
    for index in range(len(tellers)):
        (folder / f"{index}.json").write_text(json.dumps({"index": index}))
    return loaders.load(folder, format=module)


# ---------------------------------------------------------------------- what is expected


def by_run(runs: Trajectories) -> dict[str, tuple[Object, Rows, Rows]]:
    """(row, steps, events) of each run, by the id that it has in an export."""
    steps, events = defaultdict(list), defaultdict(list)
    for row in runs.steps.collect().to_dicts():
        steps[row["run"]].append(row)
    for row in runs.events.collect().to_dicts():
        events[row["run"]].append(row)
    table = runs.trajectories.collect().to_dicts()
    return {row["trajectory_id"]: (row, steps[row["run"]], events[row["run"]]) for row in table}


def of_export(runs: Trajectories) -> dict[str, tuple[Object, Rows, Rows]]:
    """The same of what was read back, where the id is the native one."""
    return {row["native_id"]: (row, *rest) for row, *rest in by_run(runs).values()}  # pyright: ignore


def losses_of(report: ExportReport) -> defaultdict[str, Counter[str]]:
    """How often each thing was lost in each run."""
    counted: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for name, what, count in report.losses.select("trajectory_id", "what", "count").rows():
        counted[name][what] += count
    return counted


def comparable(events: Rows, columns: tuple[str, ...]) -> list[Any]:
    """What of each event must survive; a result also with the place of its call among the calls."""
    made = [event for event in events if event["kind"] == "tool_call"]
    calls = {call["seq"]: number for number, call in enumerate(made)}
    tools = {call["seq"]: call["tool"] for call in made}
    return [
        (
            event["kind"],
            event["text"] or "",
            event["tool"] or tools.get(event["call_seq"]),  # which a reader may fill in
            value_of(event["arguments"]),
            event["thinking_state"],
            event["signature"],
            event["is_error"],
            *(event[name] for name in columns),
            calls.get(event["call_seq"]),
        )
        for event in events
    ]


def emitted(events: Rows) -> Iterator[tuple[bool, Rows]]:
    """Each call's thinking and text, and each other event by itself."""
    group: Rows = []
    for event in sorted(events, key=lambda e: (-1 if e["step"] is None else e["step"], e["seq"])):
        if event["kind"] not in ("thinking", "message"):
            yield False, [event]
            continue
        if group and group[-1]["step"] != event["step"]:
            yield True, group
            group = []
        group.append(event)
    if group:
        yield True, group


def joined(events: Rows, between: str, lost: Counter[str]) -> Rows:
    """One event with all texts."""
    kind = events[0]["kind"] if events else ""
    lost[f"{kind} without text"] += sum(not e["text"] for e in events)
    shown = [e for e in events if e["text"]]
    lost[f"{kind} boundaries"] += max(0, len(shown) - 1)
    return [{**shown[0], "text": between.join(e["text"] for e in shown)}] if shown else []


def as_atif(events: Rows, lost: Counter[str]) -> Rows:
    """What our reader of ATIF finds of these events, and what of it others would not."""
    told: Rows = []
    for is_emitted, group in emitted(events):
        if is_emitted:
            thoughts = [e for e in group if e["kind"] == "thinking"]
            lost.update(f"thinking {e['thinking_state']}" for e in thoughts)
            lost["events.signature"] += sum(e["signature"] is not None for e in thoughts)
            joined([e for e in thoughts if e["thinking_state"] in SHOWN], "", lost)
            joined([e for e in group if e["kind"] == "message"], "", lost)
            told += group
            continue
        event = group[0]
        if event["kind"] in ("error", "compaction", "other"):
            lost[f"kind {event['kind']}"] += 1
        elif event["kind"] == "tool_result":
            lost["events.is_error"] += event["is_error"] is not None
            if event["call_seq"] is None:
                lost["tool_result without a call"] += 1
                lost["events.tool"] += event["tool"] is not None
        elif event["kind"] == "tool_call":
            event = {**event, "tool": with_arguments(event, lost)["tool"]}
        told.append(event)
    lost.pop("thinking text", None)  # told as it is
    return sorted(told, key=lambda event: event["seq"])


def as_chat(events: Rows, lost: Counter[str]) -> Rows:
    """What a reader of chat messages can find of these events, and what of it was lost."""
    told: Rows = []
    for is_emitted, group in emitted(events):
        if is_emitted:
            is_tagged = [e for e in group if e["thinking_state"] == "tagged_in_text"]
            for event in group:
                state = event["thinking_state"]
                if state == "hidden" and event["signature"] is None:
                    lost["thinking without signature"] += 1
                elif event["kind"] == "message" and not (event["text"] or "").strip():
                    lost["message without text"] += 1
                elif event["kind"] == "message" and "<think>" in event["text"]:
                    lost["message with tags"] += 1
                    told += untagged(event)
                elif (
                    told
                    and not is_tagged
                    and (told[-1]["kind"], event["kind"]) == ("message",) * 2
                    and told[-1]["step"] == event["step"]
                ):
                    told[-1] = {**told[-1], "text": f"{told[-1]['text']}\n{event['text']}"}
                    lost["message boundaries"] += 1
                else:
                    told.append(event)
            continue
        event = group[0]
        if event["kind"] in ("error", "compaction", "other"):
            lost[f"kind {event['kind']}"] += 1
            continue
        if event["kind"] == "tool_result":
            lost["events.is_error"] += event["is_error"] is not None
            event = {**event, "is_error": None}
        elif event["kind"] == "tool_call":
            event = with_arguments(event, lost)
        told.append(event)
    return sorted(told, key=lambda event: event["seq"])


def untagged(event: Object) -> Rows:
    """Two events for a text that begins with thinking in tags, as its reader will take it."""
    thought, _, rest = event["text"].removeprefix("<think>").partition("</think>")
    said = [{**event, "text": rest}] if rest.strip() else []
    return [
        {**event, "kind": "thinking", "thinking_state": "tagged_in_text", "text": thought},
        *said,
    ]


def value_of(text: str | None) -> Any:
    try:
        return None if text is None else json.loads(text)
    except ValueError:
        return text


def with_arguments(event: Object, lost: Counter[str]) -> Object:
    if event["tool"] is None:
        lost["events.tool"] += 1
        event = {**event, "tool": "unknown"}
    value = value_of(event["arguments"])
    if isinstance(value, dict):
        return event
    lost["events.arguments"] += 1
    told = {} if event["arguments"] is None else {"input": value}
    return {**event, "arguments": json.dumps(told)}


EXPECTED = {"atif": as_atif, "openai_chat": as_chat}
LISTED = (
    "message boundaries", "message without text", "message with tags", "thinking boundaries",
    "thinking without text", "thinking without signature", "thinking summary", "thinking hidden", "thinking redacted",
    "thinking tagged_in_text", "events.signature", "events.is_error", "events.arguments",
    "events.tool", "kind error", "kind compaction", "kind other", "tool_result without a call",
)  # fmt: skip


def check(runs: Trajectories, target: str, folder: Path) -> ExportReport:
    """Export, read back, compare: events, calls' links, thinking, tokens, outcome, tools."""
    report = export(runs, target, folder / target)
    again = loaders.load(folder / target, format=target)
    assert again.problems.filter(pl.col("severity") == "error").collect().is_empty()
    before, after = by_run(runs), of_export(again)
    all_listed = losses_of(report)
    offers = set(runs.tools.collect()["toolset"])
    assert report.runs == len(after)
    for trajectory_id, (row, steps, events) in before.items():
        listed = all_listed[trajectory_id]
        if trajectory_id not in after:
            assert listed["run"] == 1
            kinds = {event["kind"] for event in events}
            assert not steps
            assert not kinds if target == "atif" else kinds <= {"error", "compaction", "other"}
            continue
        assert listed["run"] == 0
        new, new_steps, new_events = after[trajectory_id]
        lost: Counter[str] = Counter()
        columns = KEPT if target == "atif" else ()
        expected = comparable(EXPECTED[target](events, lost), columns)
        found = comparable(new_events, columns)
        if listed["order"]:
            assert sorted(map(unlinked, found)) == sorted(map(unlinked, expected))
        else:
            assert found == expected
        assert +Counter({what: listed[what] for what in LISTED}) == +lost
        check_run(target, row, steps, new, new_steps, listed)
        if not listed["steps.toolset"] and row["toolset"] in offers:  # else it is an empty one
            assert new["toolset"] == row["toolset"]
    return report


def unlinked(event: tuple[Any, ...]) -> str:
    """Without the place of the call; that there is one stays."""
    return repr((*event[:-1], event[-1] is None))


def check_run(
    target: str, row: Object, steps: Rows, new: Object, new_steps: Rows, listed: Counter[str]
) -> None:
    tokens = [tuple(step[name] for name in TOKENS) for step in steps]
    new_tokens = [tuple(step[name] for name in TOKENS) for step in new_steps]
    for name in (*TOKENS, "model"):
        assert new[name] == row[name], name
    if target == "atif":
        assert new_tokens == tokens
        assert kept(new_steps, KEPT_OF_STEP) == kept(steps, KEPT_OF_STEP)
        assert kept([new], KEPT_OF_RUN) == kept([row], KEPT_OF_RUN)
        for name in ("outcome", "success", "score", "end_reason", "reasoning_tokens"):
            assert listed[f"trajectories.{name}"] == (row[name] not in (None, "unknown"))
        facts, before = json.loads(new["metadata"]), json.loads(row["metadata"] or "{}")
        under = facts["extra"].get("metadata", {})
        assert {name: under.get(name, facts.get(name)) for name in before} == before
        assert facts["extra"]["source_hash"] == row["source_hash"]
        return
    assert len(new_tokens) == len(tokens) + listed["steps"]
    for index, name in enumerate(TOKENS):
        assert listed[f"steps.{name}"] == sum(step[index] is not None for step in tokens)
    names = ("success", "end_reason", "task_id", "trial", "benchmark", "framework")
    assert [new[name] for name in names] == [row[name] for name in names]
    assert row["score"] in (None, new["score"])
    assert listed["trajectories.outcome"] == (row["outcome"] != "unknown")


def kept(rows: Rows, columns: tuple[str, ...]) -> list[list[Any]]:
    return [[row[name] for name in columns] for row in rows]


# ---------------------------------------------------------------------- runs told here


def tell_all(run: Run) -> None:
    """Every kind of event, every state of thinking, each out of order once."""
    run.set(
        framework="tester",
        framework_version="2",
        task_id="t",
        trial="3",
        benchmark="b",
        cost_usd=0.5,
        params={"temperature": 0},
        metadata={"note": "kept"},
    )
    run.tools([("ls", "lists", {"type": "object"}), ("cat", None, None)])
    run.system("be brief", at=NOON)
    run.user("look", actor="ann", media=["image"], at=NOON)
    run.step(model="m", input_tokens=9, output_tokens=4, reasoning_tokens=2, cached_tokens=1)
    run.thinking("first I look", signature="s1", at=NOON)
    run.message("looking", at=NOON)
    run.call("ls", {"path": "/", "n": 1.5}, call_id="c1", at=NOON)
    run.call("cat", "plain text", call_id="c1")
    run.result("a\nb", call_id="c1", is_error=False, at=NOON + timedelta(seconds=2))
    run.result(None, call_id="c1", is_error=True, exit_code=1, error_type="timeout")
    run.event("error", "the server fell", error_type="overload")
    run.step(model="m2", stop_reason="stop", started_at=NOON, ended_at=NOON)
    run.thinking("a summary of it", state="summary", signature="s2")
    run.thinking(None, state="hidden", signature="s3")
    run.thinking(None, state="hidden")
    run.thinking(None, state="redacted", signature="s4")
    run.message("first part")
    run.message("second part")
    run.call(None, None)
    run.event("compaction", "so far: two files")
    run.step()
    run.thinking("in tags", state="tagged_in_text")
    run.message("said")
    run.event("other", "a note", actor="harness", duration_s=0.5)
    run.call("ls", [1])
    run.thinking("late")
    run.thinking("later")
    run.result("of nobody", call_id="lost")
    run.user("")
    run.step(error="no answer")
    run.outcome(success=True, score=0.75, end_reason="done", scores=[("s", 0.75, "0.75")])


def tell_context(run: Run) -> None:
    """A reply that no model call of this run emitted, a blank text, and a limit."""
    run.user("hi")
    run.message("hello, how can I help?")
    run.user("go on")
    run.step(input_tokens=5)
    run.message("   ")
    run.outcome("limit", end_reason="max_steps")


def tell_thinking_before_all(run: Run) -> None:
    run.thinking("copied thought")
    run.message("copied")
    run.step()
    run.message("own")
    run.outcome(success=False)


def tell_little(run: Run) -> None:
    run.event("error", "did not start")


def tell_nothing(run: Run) -> None:
    run.set(task_id="never began")


TELLERS = (tell_all, tell_context, tell_thinking_before_all, tell_little, tell_nothing)


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> Trajectories:
    return told(tmp_path_factory.mktemp("told") / "logs", *TELLERS)


@pytest.mark.parametrize("target", EXPECTED)
def test_every_kind_of_event_comes_back_or_is_listed(
    mine: Trajectories, target: str, tmp_path: Path
) -> None:
    report = check(mine, target, tmp_path)
    kinds = set(report.losses["what"])
    assert {"kind error", "kind compaction", "kind other", "order", "events.arguments"} <= kinds
    assert {"events.is_error", "trajectories.metadata", "message boundaries", "run"} <= kinds
    first, last = (losses_of(report)[mine.ids[index]] for index in (0, 4))
    assert first["order"] == (1 if target == "atif" else 3)
    assert first["order within a reply"] == (target == "atif")
    assert last == {"run": 1}
    if target == "atif":
        assert loaders.coverage(tmp_path / "atif").lost.is_empty()
    assert report.runs == (4 if target == "atif" else 3)


@pytest.mark.parametrize("target", EXPECTED)
def test_the_sample_logs_come_back(target: str, tmp_path: Path) -> None:
    runs = loaders.load(SAMPLE_PARTS)
    report = check(runs, target, tmp_path)
    assert report.runs == len(runs)


@pytest.mark.parametrize("format", REAL)
@pytest.mark.parametrize("target", EXPECTED)
def test_real_logs_come_back(format: str, target: str, real_logs: Path, tmp_path: Path) -> None:
    runs = loaders.load(real_logs / format)
    report = check(runs, target, tmp_path)
    assert report.runs > 0
    assert set(report.losses["trajectory_id"]) <= set(runs.ids)
    assert report.losses["count"].min() >= 1  # pyright: ignore


# ---------------------------------------------------------------------- thinking and what is beside


def test_thinking_that_is_not_shown_is_never_text(mine: Trajectories, tmp_path: Path) -> None:
    atif, chat, scout = (
        export(mine, target, tmp_path / target)
        for target in ("atif", "openai_chat", "inspect_scout")
    )
    document = json.loads(atif.paths[0].read_text())
    steps = [step for step in document["steps"] if step.get("llm_call_count") == 1]
    assert [step.get("reasoning_content") for step in steps] == [
        *("first I look", None, "in tags\n\nlate\n\nlater", None),
    ]
    untimed = {"started_at": None}  # while the step has a time
    assert [step.get("extra", {}).get("thinking") for step in steps] == [
        [{"state": "text", "chars": 12, "signature": "s1"}],
        [
            {"state": "summary", "text": "a summary of it", "signature": "s2", **untimed},
            {"state": "hidden", "signature": "s3", **untimed},
            {"state": "hidden", **untimed},
            {"state": "redacted", "signature": "s4", **untimed},
        ],
        [
            {"state": "tagged_in_text", "chars": 7},
            {"state": "text", "chars": 4},
            {"state": "text", "chars": 5},
        ],
        None,
    ]
    row = json.loads(chat.paths[0].read_text().splitlines()[0])
    replies = [message for message in row["messages"] if message["role"] == "assistant"]
    assert [reply.get("reasoning_content") for reply in replies] == [
        *("first I look", None, "late\nlater", None),
    ]
    table = pl.read_parquet(scout.paths[0]).row(0, named=True)
    contents = [m["content"] for m in json.loads(table["messages"]) if m["role"] == "assistant"]
    parts = [part for content in contents if isinstance(content, list) for part in content]
    blocks = [part for part in parts if part["type"] == "reasoning"]
    states = [block["internal"]["thinking_state"] for block in blocks]
    shown = [block["reasoning"] for block in blocks if not block.get("redacted")]
    assert states == [
        *("text", "summary", "hidden", "hidden", "redacted", "tagged_in_text", "text", "text"),
    ]
    assert shown == ["first I look", "", "", "", "in tags", "late", "later"]
    assert [block.get("summary") for block in blocks][1] == "a summary of it"
    assert blocks[4]["reasoning"] == "s4"


def test_what_has_no_field_is_kept_beside(mine: Trajectories, tmp_path: Path) -> None:
    labelled = mine.label(
        pl.DataFrame({"trajectory_id": mine.ids[:1], "split": ["pilot"], "when": [NOON.date()]}),
        on="trajectory_id",
    )
    atif = export(labelled, "atif", tmp_path / "atif")
    document = json.loads(atif.paths[0].read_text())
    assert document["session_id"] == "run 0"
    assert document["extra"]["labels"] == {"split": "pilot", "when": "2026-01-31"}
    assert document["extra"]["params"] == {"temperature": 0}
    results = [r for s in document["steps"] for r in s.get("observation", {}).get("results", [])]
    assert results[1] == {
        "source_call_id": "c1-5",
        "extra": {"is_error": True, "error_type": "timeout", "exit_code": 1, "started_at": None}
        | {"call_id": "c1"},
    }
    assert results[2] == {"content": "of nobody", "extra": {"call_id": "lost"}}
    chat = export(labelled, "openai_chat", tmp_path / "chat.jsonl")
    row = json.loads(chat.paths[0].read_text().splitlines()[0])
    assert [(e["kind"], e["after"]) for e in row["other_events"]] == [
        *(("error", 5), ("compaction", 6), ("other", 7)),
    ]
    assert row["metadata"]["labels"]["split"] == "pilot"
    scout = export(labelled, "inspect_scout", tmp_path / "scout")
    table = pl.read_parquet(scout.paths[0])
    assert table.height == len(mine) == scout.runs
    first = table.row(0, named=True)
    assert json.loads(first["labels"])["split"] == "pilot"
    assert (first["task_repeat"], first["score"], first["success"]) == (3, "0.75", True)
    assert (first["total_time"], first["total_tokens"]) == (2.0, 13)
    second = table.row(1, named=True)
    assert (second["limit"], second["error"], second["success"]) == ("max_steps", None, None)
    assert [message["role"] for message in json.loads(second["messages"])] == [
        *("user", "assistant", "user", "assistant"),
    ]
    for report in (atif, scout):
        losses = report.losses.filter(trajectory_id=mine.ids[0])
        assert {"trajectories.split", "trajectories.when"} <= set(losses["what"])


def test_subagents_are_linked_again(real_logs: Path, tmp_path: Path) -> None:
    runs = loaders.load(real_logs / "claude_code")
    export(runs, "atif", tmp_path / "atif")
    again = loaders.load(tmp_path / "atif")
    ids = dict(again.trajectories.select("trajectory_id", "native_id").collect().iter_rows())
    parents = again.trajectories.drop_nulls("parent_id").collect()
    linked = {row["native_id"]: ids[row["parent_id"]] for row in parents.to_dicts()}
    known = runs.trajectories.drop_nulls(["parent_id", "parent_seq"]).collect()
    assert linked == dict(known.select("trajectory_id", "parent_id").iter_rows())
    assert len(linked) == 6


# ---------------------------------------------------------------------- the call


def test_a_wrong_target_version_or_path_says_what_to_do(mine: Trajectories, tmp_path: Path) -> None:
    with pytest.raises(DerailError, match=r"Did you mean 'openai_chat'\? Known targets: atif, ins"):
        export(mine, "openai_chats", tmp_path / "x")
    with pytest.raises(DerailError, match=r"version '2'; versions: 1\.8, 1\.7\."):
        export(mine, "atif", tmp_path / "x", version="2")
    with pytest.raises(DerailError, match="none to choose from"):
        export(mine, "inspect_scout", tmp_path / "x", version="2")
    assert not (tmp_path / "x").exists()
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_text("mine")
    for name in ("file", "folder"):
        with pytest.raises(DerailError, match="is there already"):
            export(mine, "atif", tmp_path / name)
    assert (tmp_path / "file").read_text() == "mine"


def test_both_versions_of_atif(mine: Trajectories, tmp_path: Path) -> None:
    versions = {None: "1.8", "1.8": "1.8", "1.7": "1.7"}
    for asked, written in versions.items():
        report = export(mine, "atif", tmp_path / str(asked), version=asked)
        names = {json.loads(path.read_text())["schema_version"] for path in report.paths}
        assert (names, report.version) == ({f"ATIF-v{written}"}, written)


def test_names_of_files_come_from_the_id_alone(tmp_path: Path) -> None:
    ids = ["../../escape", "con\x00trol", "", "A", "a", "x" * 300, "plain-1"]
    runs = [{"run": n, "outcome": "unknown"} for n, _ in enumerate(ids)]
    events = [{"run": n, "seq": 0, "kind": "user", "text": "hi"} for n, _ in enumerate(ids)]
    frames = runs_of(runs, [], events)
    renamed = pl.DataFrame({"run": range(len(ids)), "trajectory_id": ids})
    tables = {
        name: getattr(frames, name).collect().drop("trajectory_id").join(renamed, on="run")
        for name in ("trajectories", "steps", "events")
    }
    empty = {name: getattr(frames, name).collect() for name in ("tools", "problems")}
    hostile = Trajectories.from_frames({**tables, **empty})
    report = export(hostile, "atif", tmp_path / "out")
    assert sorted(tmp_path.iterdir()) == [tmp_path / "out"]
    assert sorted(report.paths) == sorted((tmp_path / "out").iterdir())
    assert len({path.name.lower() for path in report.paths}) == len(ids)
    assert (tmp_path / "out" / "plain-1.json").exists()


def test_runs_in_many_batches_and_from_a_store_are_written_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = loaders.load(SAMPLE_PARTS)
    whole = export(runs, "openai_chat", tmp_path / "whole.jsonl")
    monkeypatch.setattr("loaders.exports._runs._EVENTS_PER_BATCH", 50)
    stored = loaders.scan(runs.save(tmp_path / "store"))
    for name, some in {"batches": runs, "store": stored}.items():
        parts = export(some, "openai_chat", tmp_path / f"{name}.jsonl")
        assert parts.paths[0].read_bytes() == whole.paths[0].read_bytes()
        assert parts.losses.equals(whole.losses)
    monkeypatch.setattr("loaders.exports.inspect_scout._BYTES_PER_FILE", 1 << 16)
    report = export(runs, "inspect_scout", tmp_path / "scout")
    assert len(report.paths) > 2
    table = pl.read_parquet(tmp_path / "scout" / "*.parquet")
    assert table["transcript_id"].to_list() == runs.ids
    assert table["message_count"].sum() == sum(
        len(json.loads(line)["messages"]) for line in whole.paths[0].read_text().splitlines()
    )


def test_a_part_of_a_set_and_none_of_it(mine: Trajectories, tmp_path: Path) -> None:
    second = export(mine[mine.ids[1]], "atif", tmp_path / "one")
    assert [path.stem for path in second.paths] == [mine.ids[1]]
    for target in ("atif", "openai_chat", "inspect_scout"):
        nothing = export(mine.filter(success=True, outcome="error"), target, tmp_path / target)
        assert (nothing.runs, nothing.losses.height) == (0, 0)
        assert "nothing was lost" in repr(nothing)


def test_the_report_prints_and_escapes(mine: Trajectories, tmp_path: Path) -> None:
    label = pl.DataFrame({"trajectory_id": mine.ids, "<script>x": ["y"] * len(mine)})
    report = export(mine.label(label, on="trajectory_id"), "atif", tmp_path / "<b>")
    text, html = repr(report), report._repr_html_()
    assert text.startswith(f"ExportReport: 4 runs as atif 1.8 in 4 files: {tmp_path}/<b>\n")
    assert "trajectories.<script>x" in text
    assert "<script>" not in html
    assert "<b>" not in html.removeprefix("<div class='derail-export'><b>")
    assert "&lt;script&gt;x" in html
