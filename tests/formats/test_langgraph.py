"""LangGraph's states and streams: figures of its own logs against the truth, and small ones."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

import loaders
from loaders import Trajectories
from loaders.formats import langchain, langgraph
from loaders.sources import Source

Object = dict[str, Any]
SAMPLES = ROOT / "sample_logs"
TRUTH = json.loads((SAMPLES / "truth.json").read_text())["parts"]["langgraph"]["runs"]
CLASSES = {"AIMessage": "ai", "HumanMessage": "human", "SystemMessage": "system", "ToolMessage": "tool"}  # fmt: skip


def write(path: Path, *records: Any) -> Path:
    path.write_text("\n".join(json.dumps(record) for record in records))
    return path


def events(runs: Trajectories, *columns: str) -> list[tuple[Any, ...]]:
    return runs.events.select(columns).collect().rows()


def steps(runs: Trajectories, *columns: str) -> list[tuple[Any, ...]]:
    return runs.steps.select(columns).collect().rows()


def all_raw(runs: Trajectories) -> bool:
    rows = runs.events.select("trajectory_id", "seq").collect().rows()
    return all(runs.raw(run, seq) is not None for run, seq in rows)


# ---------------------------------------------------------------------- logs written by LangGraph


def raw_messages(value: Any) -> Iterator[tuple[str, Object]]:
    """Kind and fields of every message anywhere in a log, found by the name of its class."""
    if isinstance(value, list):
        for item in value:
            yield from raw_messages(item)
    elif isinstance(value, dict):
        name = value["id"][-1] if value.get("type") == "constructor" else None
        if name in CLASSES:
            yield CLASSES[name], value["kwargs"]
        else:
            for item in value.values():
                yield from raw_messages(item)


def distinct(path: Path) -> dict[str, dict[Any, Object]]:
    """The different messages of a log by kind, in the order of their first occurrence."""
    text = path.read_text()
    records = json.loads(text) if path.suffix == ".json" else [*map(json.loads, text.splitlines())]
    found: dict[str, dict[Any, Object]] = {kind: {} for kind in CLASSES.values()}
    for kind, fields in raw_messages(records[::-1] if path.suffix == ".json" else records):
        key = (
            fields["tool_call_id"] if kind == "tool" else fields.get("id") or str(fields["content"])
        )
        found[kind].setdefault(key, fields)
    return found


def thinking_in(message: Object) -> str | None:
    """Where each class of models puts it."""
    blocks = message["content"] if isinstance(message["content"], list) else []
    for block in blocks:
        if block["type"] == "thinking":
            return block["thinking"]
        if block["type"] == "reasoning":
            return block["summary"][0]["text"]
    return message["additional_kwargs"].get("reasoning_content")


@pytest.mark.parametrize("run", TRUTH, ids=lambda run: "/".join(run["log"].split("/")[2:]))
def test_the_figures_of_a_log(run: Object) -> None:
    path = SAMPLES / run["log"]
    messages = distinct(path)
    replies, results = [*messages["ai"].values()], messages["tool"]
    runs = loaders.load(path)
    (row,) = runs.trajectories.collect().rows(named=True)
    assert (row["format"], row["framework"]) == ("langgraph", "langgraph")
    assert row["steps"] == len(replies) == run["steps"]
    calls = [call for reply in replies for call in reply["tool_calls"]]
    told = runs.events.collect()
    assert told.filter(told["kind"] == "tool_call").select("tool", "call_id").rows() == [
        (call["name"], call["id"]) for call in calls
    ]
    is_raised = run["ended"] == "ToolRaised"
    is_seen = is_raised and not path.name.endswith(("updates.jsonl", "values.jsonl"))
    assert row["outcome"] == ("error" if is_seen else "unknown")
    assert (row["end_reason"] or "").startswith("ToolRaised" if is_seen else "")
    assert row["unanswered_calls"] == (is_raised and "events" not in path.name)
    given = told.filter(told["kind"] == "tool_result")
    assert given.filter(given["is_error"].not_())["text"].to_list() == [
        result["content"] for result in results.values()
    ]
    assert given["call_seq"].null_count() == 0
    thinking = [text for reply in replies if (text := thinking_in(reply))]
    assert told.filter(told["kind"] == "thinking")["text"].to_list() == thinking
    usages = [reply["usage_metadata"] for reply in replies]
    assert steps(runs, "input_tokens", "output_tokens") == [
        (usage["input_tokens"], usage["output_tokens"]) for usage in usages
    ]
    assert len(told.filter(told["kind"] == "user")) == len(messages["human"])
    assert row["provider"] == {"responses": "openai"}.get(run["style"], run["style"])
    assert all_raw(runs)


@pytest.mark.parametrize("run", TRUTH, ids=lambda run: "/".join(run["log"].split("/")[2:]))
def test_thinking_against_the_truth(run: Object) -> None:
    """Which styles show thinking, which of them send it back, and from what a log tells that."""
    runs = loaders.load(SAMPLES / run["log"])
    states = {state for (state,) in steps(runs, "thinking")}
    shown = {"openai": "not_logged", "responses": "summary"}.get(run["style"], "text")
    assert states == {shown}
    keeps = run["style"] in ("responses", "anthropic")
    assert run["thinking_sent"] == [keeps * n for n in run["thinking_available"]]
    available, sent = zip(*steps(runs, "thinking_available", "thinking_sent"), strict=True)
    assert list(available) == (
        [None] * run["steps"] if shown == "not_logged" else run["thinking_available"]
    )
    is_known = run["log"].endswith("events.jsonl")
    assert list(sent) == (run["thinking_sent"] if is_known else [None] * run["steps"])


def test_nothing_is_lost() -> None:
    paths = sorted({SAMPLES / run["log"] for run in TRUTH})
    lost = loaders.coverage(paths, "langgraph", progress=False).lost
    assert lost.select("path", "within", "example").rows() == []


def test_a_history_has_times() -> None:
    (path,) = (SAMPLES / "frameworks" / "langgraph" / "deepseek").glob("*.history.json")
    states = json.loads(path.read_text())
    times = [datetime.fromisoformat(state["created_at"]) for state in states[::-1]]
    counts = [len(state["values"]["messages"]) for state in states[::-1]]
    runs = loaders.load(path)
    (row,) = runs.trajectories.collect().rows(named=True)
    assert (row["started_at"], row["ended_at"]) == (times[0], times[-1])
    grown = [at for at, n, before in zip(times[1:], counts[1:], counts, strict=False) if n > before]
    assert [at for (at,) in steps(runs, "ended_at")] == grown[1::2]


# ---------------------------------------------------------------------- small ones


def message(kind: str, content: Any, identity: str, **fields: Any) -> Object:
    return {"type": kind, "content": content, "id": identity, "additional_kwargs": {}, **fields}


CALL = {"name": "ls", "args": {}, "id": "c1", "type": "tool_call"}
ASKED = message("human", "u", "h1")
GOING = message("ai", "go", "a1", tool_calls=[CALL], additional_kwargs={"reasoning_content": "hmm"})
RESULT = message("tool", "out", "t1", tool_call_id="c1", status="success", name="ls")
DONE = message("ai", "done", "a2", response_metadata={"model_name": "m", "created_at": 1.7e9})
ALL = [ASKED, GOING, RESULT, DONE]
TOLD = [
    ("user", None, "u", None),
    ("thinking", 0, "hmm", None),
    ("message", 0, "go", None),
    ("tool_call", 0, None, None),
    ("tool_result", 0, "out", 3),
    ("message", 1, "done", None),
]


def config(number: int, thread: str = "t") -> Object:
    names = {"thread_id": thread, "checkpoint_ns": "", "checkpoint_id": f"k{number}"}
    return {"configurable": names}


def snapshot(number: int, messages: list[Object], parent: int | None = None, **more: Any) -> Object:
    former = number - 1 if parent is None else parent
    return {
        "values": {"messages": messages, "todo": ["x"]},
        "next": [],
        "config": config(number),
        "metadata": {"source": "loop", "step": number},
        "created_at": f"2026-01-01T00:00:0{number}+00:00",
        "parent_config": config(former) if number else None,
        "tasks": [],
        **more,
    }


def checkpoint(number: int, messages: list[Object]) -> Object:
    state = {"v": 4, "id": f"k{number}", "ts": f"2026-01-01T00:00:0{number}+00:00"}
    held = {
        **state,
        "channel_values": {"messages": messages},
        "channel_versions": {"messages": "1"},
    }
    return {
        "config": config(number),
        "checkpoint": held,
        "metadata": {"step": number},
        "parent_config": config(number - 1) if number else None,
        "pending_writes": [],
    }


def of_the_server(number: int, messages: list[Object]) -> Object:
    names = config(number)["configurable"]
    former = config(number - 1)["configurable"] if number else None
    state = {
        "values": {"messages": messages},
        "next": [],
        "tasks": [],
        "metadata": {"step": number},
    }
    when = {"created_at": f"2026-01-01T00:00:0{number}Z"}
    return {**state, **when, "checkpoint": names, "parent_checkpoint": former}


def modes(messages: list[Object]) -> dict[str, list[Any]]:
    """Streams of the same run, in every mode and notation."""
    nodes = ["input", "model", "tools", "model"]
    states = [{"messages": messages[: n + 1]} for n in range(4)]
    updates = [{node: {"messages": [one]}} for node, one in zip(nodes, messages, strict=True)]
    plans = [update | {"Middleware.before_model": None} for update in updates]
    both: list[Any] = []
    for update, state in zip(updates, states, strict=True):
        both += [["updates", update], ["values", state]]
    tasks = [{"id": "x", "name": n, "error": None, "result": u[n]} for n, u in zip(nodes, updates, strict=True)]  # fmt: skip
    kept = [snapshot(n, messages[: n + 1]) for n in range(4)]
    debug = [{"step": n, "timestamp": "2026-01-01T00:00:00Z", "type": "checkpoint", "payload": one} for n, one in enumerate(kept)]  # fmt: skip
    return {
        "values": states,
        "updates": updates,
        "commands": [
            {n: [{"graph": None, "update": u[n]}]} for n, u in zip(nodes, updates, strict=True)
        ],
        "with_middleware": plans,
        "both": both,
        "of_a_subgraph": [[["tools:1"], update] for update in updates],
        "with_mode_and_space": [[["tools:1"], "updates", update] for update in updates],
        "v2": [{"type": "values", "ns": [], "data": state} for state in states],
        "server": [{"event": "updates|tools:1", "data": update} for update in updates],
        "tasks": [["tasks", task] for task in tasks],
        "checkpoints": [["checkpoints", one] for one in kept],
        "debug": debug,
    }


@pytest.mark.parametrize("mode", modes(ALL))
def test_a_stream_in_every_mode(tmp_path: Path, mode: str) -> None:
    path = write(tmp_path / "s.jsonl", *modes(ALL)[mode])
    head = Source(path).head
    assert (langgraph.sniff(head), langchain.sniff(head)) == (True, False)
    runs = loaders.load(path)
    assert events(runs, "kind", "step", "text", "call_seq") == TOLD
    assert runs.problems.collect().is_empty()
    assert steps(runs, "model", "thinking_sent") == [(None, None), ("m", None)]
    assert all_raw(runs)


@pytest.mark.parametrize("make", [snapshot, checkpoint, of_the_server])
@pytest.mark.parametrize("order", [1, -1])
def test_states_in_either_order(tmp_path: Path, make: Any, order: int) -> None:
    states = [make(n, ALL[: n + 1]) for n in range(4)]
    path = write(tmp_path / "h.json", states[::order])
    assert langgraph.sniff(Source(path).head)
    runs = loaders.load(path)
    assert events(runs, "kind", "step", "text", "call_seq") == TOLD
    (row,) = runs.trajectories.collect().rows(named=True)
    assert (row["native_id"], row["outcome"]) == ("t", "unknown")
    assert row["ended_at"] == datetime(2026, 1, 1, 0, 0, 3, tzinfo=UTC)
    assert json.loads(row["metadata"])["step"] == 3
    assert all_raw(runs)


def test_one_snapshot_and_a_thread_of_the_server(tmp_path: Path) -> None:
    thread = {"thread_id": "t", "status": "idle", "values": {"messages": ALL}}
    for index, record in enumerate((snapshot(3, ALL), thread)):
        path = write(tmp_path / f"{index}.json", record)
        assert langgraph.sniff(Source(path).head)
        runs = loaders.load(path)
        assert events(runs, "kind", "step", "text", "call_seq") == TOLD
        assert runs.trajectories.collect()["native_id"].to_list() == ["t"]
        assert steps(runs, "started_at")[0] == (None,)


def test_states_of_several_threads(tmp_path: Path) -> None:
    states = [snapshot(0, [ASKED]), snapshot(0, [ASKED, DONE], config=config(0, "other"))]
    runs = loaders.load(write(tmp_path / "h.json", states))
    rows = runs.trajectories.collect()
    assert rows.select("native_id", "steps").rows() == [("t", 0), ("other", 1)]


def test_messages_taken_out_are_a_compaction_and_a_fork_is_a_branch(tmp_path: Path) -> None:
    summary = message("human", "so far", "h2")
    states = [
        snapshot(0, [ASKED]),
        snapshot(1, [ASKED, GOING, RESULT]),
        snapshot(2, [summary, DONE]),
        snapshot(3, [ASKED, message("ai", "other", "a3")], parent=0),
    ]
    runs = loaders.load(write(tmp_path / "h.json", states[::-1]))
    rest = [row for row in events(runs, "kind", "actor", "text") if row[0] != "tool_call"][4:]
    assert rest == [
        ("compaction", None, None),
        ("user", None, "so far"),
        ("message", None, "done"),
        ("other", "branch", None),
        ("message", None, "other"),
    ]
    assert all_raw(runs)


def test_a_message_that_was_changed_is_told_again(tmp_path: Path) -> None:
    changed = {**GOING, "tool_calls": [{**CALL, "args": {"p": 1}}]}
    states = [snapshot(0, [ASKED, GOING]), snapshot(1, [ASKED, changed, RESULT])]
    runs = loaders.load(write(tmp_path / "h.json", states[::-1]))
    calls = [row for row in events(runs, "kind", "arguments") if row[0] == "tool_call"]
    assert calls == [("tool_call", "{}"), ("tool_call", '{"p":1}')]


def test_equal_messages_are_told_as_often_as_a_state_holds_them(tmp_path: Path) -> None:
    twice = [{"role": "user", "content": "again"}, {"role": "user", "content": "again"}]
    states = [snapshot(0, twice[:1]), snapshot(1, twice)]
    runs = loaders.load(write(tmp_path / "h.json", states[::-1]))
    assert events(runs, "text") == [("again",), ("again",)]


@pytest.mark.parametrize("is_listed", [True, False])
def test_an_error_of_the_last_step_ends_a_run(tmp_path: Path, is_listed: bool) -> None:
    error = "OSError('gone')"
    task: Any = ["x", "tools", [], error, [], None, None] if is_listed else {"error": error}
    states = [snapshot(0, [ASKED]), snapshot(1, [ASKED, GOING], tasks=[task], next=["tools"])]
    runs = loaders.load(write(tmp_path / "h.json", states[::-1]))
    assert events(runs, "kind", "text", "error_type")[-1] == ("error", error, "OSError")
    (row,) = runs.trajectories.collect().rows(named=True)
    assert (row["outcome"], row["end_reason"], row["unanswered_calls"]) == ("error", error, 1)
    assert json.loads(row["metadata"])["next"] == ["tools"]
    assert all_raw(runs)


def test_an_error_that_was_overcome_does_not(tmp_path: Path) -> None:
    failed = snapshot(0, [ASKED], tasks=[{"error": "OSError('gone')"}])
    runs = loaders.load(write(tmp_path / "h.json", [snapshot(1, [ASKED, DONE]), failed]))
    assert [kind for (kind,) in events(runs, "kind")] == ["user", "error", "message"]
    assert runs.trajectories.collect()["outcome"].to_list() == ["unknown"]


def test_an_error_among_the_writes_of_a_checkpoint(tmp_path: Path) -> None:
    record = {**checkpoint(0, [ASKED]), "pending_writes": [["x", "__error__", "OSError('gone')"]]}
    runs = loaders.load(write(tmp_path / "c.json", [record]))
    assert events(runs, "kind", "error_type")[-1] == ("error", "OSError")
    assert all_raw(runs)


# ---------------------------------------------------------------------- events


def event(kind: str, run: str, data: Object, **more: Any) -> Object:
    return {
        "event": kind,
        "run_id": run,
        "data": data,
        "parent_ids": ["r"],
        "metadata": {},
        **more,
    }


def told_by_events(first: Object, again: Object) -> list[Object]:
    system = {"type": "system", "content": "s", "additional_kwargs": {}}
    root = {"parent_ids": [], "name": "LangGraph"}
    facts = {"ls_model_name": "m", "ls_provider": "p", "langgraph_node": "model"}
    return [
        event("on_chain_start", "r", {"input": {"messages": []}}, **root),
        event(
            "on_chat_model_start", "1", {"input": {"messages": [[system, ASKED]]}}, metadata=facts
        ),
        event(
            "on_chat_model_end", "1", {"output": first, "input": {"messages": [[system, ASKED]]}}
        ),
        event("on_tool_start", "2", {"input": {}}),
        event("on_tool_end", "2", {"output": {**RESULT, "id": None}}),
        event(
            "on_chat_model_start",
            "3",
            {"input": {"messages": [[system, ASKED, again, RESULT]]}},
            metadata=facts,
        ),
        event("on_chat_model_end", "3", {"output": DONE}),
        event("on_chain_end", "r", {"output": {"messages": ALL}}, **root),
    ]


BESIDE = GOING
INSIDE = message("ai", [{"type": "thinking", "thinking": "hmm", "signature": "g"}, {"type": "text", "text": "go"}], "a1", tool_calls=[CALL])  # fmt: skip


@pytest.mark.parametrize(
    ("first", "again", "sent"),
    [
        (INSIDE, INSIDE, 1),
        (INSIDE, {**INSIDE, "content": [{"type": "text", "text": "go"}]}, 0),
        (BESIDE, BESIDE, None),  # the class may drop it on the way
        (BESIDE, {**BESIDE, "additional_kwargs": {}}, 0),
    ],
)
def test_what_a_model_was_sent(
    tmp_path: Path, first: Object, again: Object, sent: int | None
) -> None:
    runs = loaders.load(write(tmp_path / "e.jsonl", *told_by_events(first, again)))
    kinds = ["system", "user", "thinking", "message", "tool_call", "tool_result", "message"]
    assert [kind for (kind,) in events(runs, "kind")] == kinds
    assert steps(runs, "thinking_sent", "evidence", "agent") == [
        (0, "request", "model"),
        (sent, "request", "model"),
    ]
    assert steps(runs, "context")[1] == ([{"start": 0, "stop": 6}],)
    (row,) = runs.trajectories.collect().rows(named=True)
    assert (row["native_id"], row["model"], row["provider"]) == ("r", "m", "p")
    assert all_raw(runs)


def test_a_tool_that_raised(tmp_path: Path) -> None:
    failed = event(
        "on_tool_error", "2", {"error": "OSError('gone')", "tool_call_id": "c1"}, name="ls"
    )
    whole = told_by_events(INSIDE, INSIDE)
    cut = loaders.load(write(tmp_path / "a.jsonl", *whole[:4], failed))
    last = ("tool_result", "OSError('gone')", "ls", 4, True, "OSError")
    columns = ("kind", "text", "tool", "call_seq", "is_error", "error_type")
    assert events(cut, *columns)[-1] == last
    assert cut.trajectories.collect()["outcome"].to_list() == ["error"]
    went_on = loaders.load(write(tmp_path / "b.jsonl", *whole[:4], failed, *whole[5:]))
    assert events(went_on, *columns)[5] == ("tool_result", "out", "ls", 4, True, "OSError")
    assert went_on.trajectories.collect()["outcome"].to_list() == ["unknown"]


def test_a_reply_cut_short_is_told_by_its_pieces(tmp_path: Path) -> None:
    pieces = [event("on_chat_model_stream", "1", {"chunk": message("AIMessageChunk", text, "a1")}) for text in ("so ", "far")]  # fmt: skip
    path = write(tmp_path / "e.jsonl", *told_by_events(INSIDE, INSIDE)[:2], *pieces)
    runs = loaders.load(path)
    assert [row for row in events(runs, "kind", "text") if row[0] == "message"] == [
        ("message", "so "),
        ("message", "far"),
    ]
    assert len(steps(runs, "step")) == 1
    assert runs.problems.collect()["reason"].to_list() == [
        "a call of a model without its whole reply"
    ]


# ---------------------------------------------------------------------- what is broken


@pytest.mark.parametrize("hostile", [None, 5, "x", [], {}, [[]], True, "{", "\ud800", {"a": 1}])
def test_values_of_other_types(tmp_path: Path, hostile: Any) -> None:
    for key in snapshot(0, []):
        states = [snapshot(1, ALL), {**snapshot(0, [ASKED]), key: hostile}]
        check_no_failure(loaders.load(write(tmp_path / "h.json", states)))
    for key in ("event", "run_id", "data", "parent_ids", "metadata"):
        told = told_by_events(INSIDE, INSIDE)
        for one in told[1:3]:
            one[key] = hostile
        check_no_failure(loaders.load(write(tmp_path / "e.jsonl", *told)))
    for mode in ("updates", "v2", "debug"):
        parts = modes(ALL)[mode]
        check_no_failure(loaders.load(write(tmp_path / "s.jsonl", *parts, hostile)))


def check_no_failure(runs: Trajectories) -> None:
    reasons = runs.problems.collect()["reason"].to_list()
    assert not any(".py:" in reason for reason in reasons), reasons


def test_what_is_no_part_of_a_stream_is_told_of(tmp_path: Path) -> None:
    runs = loaders.load(write(tmp_path / "s.jsonl", *modes(ALL)["updates"], 5))
    assert runs.problems.collect().select("position", "reason").rows() == [
        ("L5", "neither a state nor a part of a stream")
    ]
    assert events(runs, "kind", "step", "text", "call_seq") == TOLD


def test_what_a_program_wrote_into_the_stream_is_kept(tmp_path: Path) -> None:
    path = write(tmp_path / "s.jsonl", *modes(ALL)["both"], ["custom", {"done": 0.5}])
    assert events(loaders.load(path), "kind", "text", "actor")[-1] == (
        "other",
        '{"done":0.5}',
        "custom",
    )
