"""Copilot CLI sessions against the raw files, and variants written here."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import loaders
from loaders import Trajectories
from loaders.formats import copilot
from loaders.sources import Source

NESTED = "subdir_v1/aaaabbbb-1111-2222-3333-ccccddddeeee/events.jsonl"
FILES = ("large.jsonl", "schema_drift.jsonl", "small.jsonl", NESTED)
TRIMMED = "[trimmed for fixture]"


@pytest.fixture
def folder(real_logs: Path) -> Path:
    return real_logs / "other_cli" / "copilot"


def raw_events(path: Path, kind: str) -> list[dict[str, Any]]:
    records = [json.loads(line) for line in path.read_text().splitlines()]
    return [r["data"] for r in records if r["type"] == kind]


def event(kind: str, name: str = "e", second: int = 0, /, **data: Any) -> dict[str, Any]:
    when = f"2026-01-02T03:04:{second:02d}Z"
    return {"type": kind, "data": data, "id": name, "timestamp": when, "parentId": None}


def start(**more: Any) -> dict[str, Any]:
    return event("session.start", sessionId="s1", version=1, copilotVersion="1.2", **more)


def user(text: str, **more: Any) -> dict[str, Any]:
    return event("user.message", content=text, **more)


def reply(text: str, *calls: str, **more: Any) -> dict[str, Any]:
    requests = [{"toolCallId": c, "name": "bash", "arguments": {"n": c}} for c in calls]
    return event("assistant.message", content=text, toolRequests=requests, **more)


def started(name: str, second: int = 0, **more: Any) -> dict[str, Any]:
    return event("tool.execution_start", "s", second, toolCallId=name, toolName="bash", **more)


def done(name: str, success: Any = True, second: int = 0, **more: Any) -> dict[str, Any]:
    more = more or {"result": {"content": f"of {name}"}}
    return event("tool.execution_complete", "d", second, toolCallId=name, success=success, **more)


def load(path: Path, *lines: Any) -> Trajectories:
    file = path / "events.jsonl"
    file.write_text("\n".join(x if isinstance(x, str) else json.dumps(x) for x in lines))
    return loaders.load(file, format="copilot")


def events(runs: Trajectories, *kinds: str) -> pl.DataFrame:
    frame = runs.events.collect()
    return frame.filter(pl.col("kind").is_in(kinds)) if kinds else frame


def steps(runs: Trajectories, column: str) -> list[Any]:
    return runs.steps.collect()[column].to_list()


def row(runs: Trajectories) -> dict[str, Any]:
    return runs.trajectories.collect().row(0, named=True)


# ---------------------------------------------------------------------- real files


@pytest.mark.parametrize("name", FILES)
def test_turns_calls_and_results_are_all_told(folder: Path, name: str) -> None:
    path = folder / name
    runs = loaders.load(path)
    assert runs.problems.collect().is_empty()
    typed = events(runs, "user").filter(pl.col("actor").is_null())
    assert typed["text"].to_list() == [d["content"] for d in raw_events(path, "user.message")]
    replies = raw_events(path, "assistant.message")
    assert len(steps(runs, "step")) == len(replies)
    shown = [d["content"] for d in replies if d["content"]]
    assert sorted(events(runs, "message")["text"]) == sorted(shown)
    asked = [r["toolCallId"] for d in replies for r in d["toolRequests"]]
    begun = [d["toolCallId"] for d in raw_events(path, "tool.execution_start")]
    told = events(runs, "tool_call")["call_id"].to_list()
    assert sorted(told) == sorted([*asked, *(set(begun) - set(asked))])
    results = raw_events(path, "tool.execution_complete")
    answers = events(runs, "tool_result")
    assert sorted(answers["call_id"]) == sorted(d["toolCallId"] for d in results)
    assert sorted(answers["is_error"]) == sorted(not d["success"] for d in results)


def test_a_session_says_who_where_and_with_what(folder: Path) -> None:
    run = row(loaders.load(folder / "small.jsonl"))
    begun = raw_events(folder / "small.jsonl", "session.start")[0]
    assert (run["native_id"], run["framework_version"]) == (
        begun["sessionId"],
        begun["copilotVersion"],
    )
    assert (run["format_version"], run["model"]) == ("1", "gpt-5-mini")
    assert json.loads(run["metadata"])["repository"] == begun["context"]["repository"]


def test_a_call_that_starts_before_its_message_is_told_once(folder: Path) -> None:
    runs = loaders.load(folder / "schema_drift.jsonl")
    assert events(runs, "tool_call")["source_pos"].to_list() == ["L5/data/toolRequests/0"]
    answers = events(runs, "tool_result")
    assert answers["call_seq"].to_list() == [events(runs, "tool_call")["seq"][0], None]
    assert answers["is_error"].to_list() == [False, True]
    assert answers["duration_s"].to_list() == [2.0, None]
    assert row(runs)["orphan_results"] == 1
    assert steps(runs, "history_edit") == [None, "truncated"]
    # the end of the session has the sums, as no call has
    used = raw_events(folder / "schema_drift.jsonl", "session.shutdown")[0]["modelMetrics"]
    usage = used["gpt-4.1"]["usage"]
    names = ("input_tokens", "output_tokens", "cached_tokens")
    assert [row(runs)[name] for name in names] == [
        usage["inputTokens"],
        usage["outputTokens"],
        usage["cacheReadTokens"],
    ]


def test_thinking_errors_and_the_subagent_of_the_long_session(folder: Path) -> None:
    runs = loaders.load(folder / "small.jsonl")
    frame = runs.trajectories.collect()
    assert frame["parent_id"].to_list() == [None, frame["trajectory_id"][0]]
    assert frame["parent_seq"][1] == events(runs, "tool_call").filter(run=0)["seq"].to_list()[-1]
    assert frame["model"].to_list() == ["gpt-5-mini", "claude-haiku-4.5"]
    assert frame["end_reason"].to_list()[1] == "completed"
    # encrypted alone; an event of its own; in the subagent's message
    assert steps(runs, "thinking") == ["hidden", "absent", "absent", "summary", "text"]
    error = events(runs, "error").row(0, named=True)
    raw = raw_events(folder / "small.jsonl", "session.error")[0]
    assert error["text"] == raw["message"]
    assert error["error_type"] == f"{raw['errorType']} {raw['statusCode']}"
    outputs = [d["outputTokens"] for d in raw_events(folder / "small.jsonl", "assistant.message")]
    assert frame["output_tokens"].sum() == sum(outputs) > 0


def test_places_lead_back_and_nothing_is_lost(folder: Path) -> None:
    runs = loaders.load(folder / NESTED)
    for told in events(runs, "tool_call").to_dicts():
        assert runs.raw(told["trajectory_id"], told["seq"])["toolCallId"] == told["call_id"]
    assert loaders.coverage(folder, copilot, progress=False).lost.is_empty()


# ---------------------------------------------------------------------- written here


def test_thinking_of_all_kinds_is_told_once(tmp_path: Path) -> None:
    blocks = [{"type": "thinking", "thinking": "b", "signature": "s"}, {"data": "locked"}]
    runs = load(
        tmp_path,
        *(start(selectedModel="claude-x"), event("assistant.reasoning", content="before")),
        reply("1", reasoningText="before", reasoningOpaque="sig"),
        *(reply("2", reasoningText="after"), event("assistant.reasoning", content="after")),
        *(reply("3"), event("assistant.reasoning", content="late"), user("go")),
        *(reply("4", reasoningOpaque="only"), reply("5", reasoningBlocks={"blocks": blocks})),
        *(reply("6", model="gpt-5", reasoningText="short"), reply("7", encryptedContent="enc")),
        event("assistant.reasoning", content="at the end"),
    )
    told = events(runs, "thinking").select("step", "text", "thinking_state", "signature").rows()
    assert told == [
        (0, "before", "text", "sig"),
        (1, "after", "text", None),
        (2, "late", "text", None),
        (3, None, "hidden", "only"),
        (4, "b", "text", "s"),
        (4, None, "redacted", "locked"),
        (5, "short", "summary", None),
        (6, None, "hidden", "enc"),
        (6, "at the end", "text", None),
    ]


def test_pieces_of_one_call_of_the_api_are_one_step(tmp_path: Path) -> None:
    usage = {"inputTokens": 9, "cacheReadTokens": 4, "outputTokens": 3, "finishReason": "stop"}
    runs = load(
        tmp_path,
        *(start(), reply("a", apiCallId="1"), reply("b", apiCallId="1", outputTokens=3)),
        *(event("assistant.usage", reasoningTokens=1, **usage), reply("c", apiCallId="2")),
    )
    assert events(runs, "message")["step"].to_list() == [0, 0, 1]
    assert steps(runs, "output_tokens") == [3, None]
    names = ("input_tokens", "cached_tokens", "reasoning_tokens", "stop_reason")
    assert [steps(runs, name)[0] for name in names] == [9, 4, 1, "stop"]


def test_calls_without_a_message_and_results_of_all_kinds(tmp_path: Path) -> None:
    failure = {"error": {"message": "no", "code": "denied"}}
    image = {"content": "i", "binaryResultsForLlm": [{"mimeType": "image/png", "data": "x"}]}
    runs = load(
        tmp_path,
        *(start(), reply("", "1", "2"), done("1", False, 0, **failure), done("2", result=image)),
        *(started("3", 5, arguments={"a": 1}), done("3", "yes", 9), started("4")),
    )
    calls = events(runs, "tool_call")
    assert calls["call_id"].to_list() == ["1", "2", "3", "4"]
    told = events(runs, "tool_result")
    assert told["text"].to_list() == ["no", "i", "of 3"]
    assert told["is_error"].to_list() == [True, False, None]
    assert told["error_type"].to_list() == ["denied", None, None]
    assert told["media"].to_list() == [None, ["image/png"], None]
    assert told["duration_s"].to_list() == [None, None, 4.0]
    assert row(runs)["unanswered_calls"] == 1


def test_what_was_sent_of_a_turn_and_who_said_it(tmp_path: Path) -> None:
    attached = [{"type": "file", "path": "a.txt"}]
    runs = load(
        tmp_path,
        *(start(), user("go", transformedContent="<date/>go", attachments=attached)),
        *(user("same", transformedContent="same"), user("auto", source="skill-x")),
        event("system.notification", content="agent done", kind={"type": "agent_completed"}),
        event("skill.invoked", content="how to", name="pdf"),
    )
    told = events(runs, "user").select("text", "actor").rows()
    assert told == [
        ("go", None),
        ("<date/>go", "harness"),
        ("same", None),
        ("auto", "skill-x"),
        ("agent done", "harness"),
        ("how to", "skill"),
    ]
    assert events(runs, "user")["media"].to_list()[0] == ["file"]


def test_subagents_by_call_by_agent_and_inside_one_another(tmp_path: Path) -> None:
    inner = {**reply("deep", parentToolCallId="c2"), "agentId": "a2"}
    runs = load(
        tmp_path,
        *(start(), reply("", "c1"), event("subagent.started", toolCallId="c1", agentName="x")),
        {**reply("x1", "c2", parentToolCallId="c1"), "agentId": "a1"},
        *({**reply("x2"), "agentId": "a1"}, reply("main")),
        *(event("subagent.started", toolCallId="c2"), inner),
        event("subagent.failed", toolCallId="c2", error="broke", model="m2"),
        event("subagent.completed", toolCallId="c1", cancelled=True),
    )
    frame = runs.trajectories.collect()
    ids = frame["trajectory_id"].to_list()
    assert frame["parent_id"].to_list() == [None, ids[0], ids[1]]
    assert frame["parent_seq"].to_list() == [None, 0, 2]
    assert frame["outcome"].to_list() == ["unknown", "cancelled", "error"]
    texts = [events(runs, "message").filter(run=n)["text"].to_list() for n in range(3)]
    assert texts == [["main"], ["x1", "x2"], ["deep"]]
    assert frame["model"].to_list() == [None, None, "m2"]


def test_edits_of_the_history(tmp_path: Path) -> None:
    used = {"inputTokens": 50, "outputTokens": 7, "cacheReadTokens": 40, "model": "m"}
    runs = load(
        tmp_path,
        *(start(), event("user.message", "u1", content="a"), reply("1")),
        *(event("user.message", "u2", content="b"), reply("2")),
        *(event("session.snapshot_rewind", upToEventId="u2", eventsRemoved=2), reply("3")),
        event(
            "session.compaction_complete",
            success=True,
            summaryContent="all of it",
            compactionTokensUsed=used,
        ),
        *(reply("4"), event("session.context_cleared"), user("c"), reply("5")),
    )
    assert steps(runs, "history_edit")[2:] == ["truncated", None, "compacted", "truncated"]
    contexts = steps(runs, "context")
    assert contexts[2] == [{"start": 0, "stop": 2}, {"start": 4, "stop": 5}]
    assert contexts[4] is None
    cleared = events(runs, "other").filter(actor="session.context_cleared")["seq"][0]
    assert contexts[5] == [{"start": cleared, "stop": cleared + 2}]
    assert events(runs, "compaction")["text"].to_list() == ["all of it"]
    assert (row(runs)["input_tokens"], row(runs)["output_tokens"]) == (50, 7)


@pytest.mark.parametrize(
    ("ends", "expected"),
    [
        ([event("abort", reason="user_initiated")], ("cancelled", "user_initiated")),
        ([event("session.shutdown", shutdownType="error")], ("error", "error")),
        ([event("session.shutdown", shutdownType="routine")], ("unknown", "routine")),
        ([event("abort", reason="x"), event("session.resume")], ("unknown", None)),
    ],
)
def test_how_a_session_ends(tmp_path: Path, ends: list[Any], expected: tuple[Any, ...]) -> None:
    run = row(load(tmp_path, start(), user("go"), *ends))
    assert (run["outcome"], run["end_reason"]) == expected


def test_two_sessions_in_one_file(tmp_path: Path) -> None:
    other = {**start(), "data": {"sessionId": "s2"}}
    frame = load(tmp_path, start(), user("a"), other, user("b")).trajectories.collect()
    assert frame["native_id"].to_list() == ["s1", "s2"]
    assert frame["events"].to_list() == [1, 1]


def test_hostile_events_are_problems_and_the_rest_is_read(tmp_path: Path) -> None:
    runs = load(
        tmp_path,
        *(start(context=[1], startTime={}, selectedModel=3), "[1]", '{"type":', {"data": {}}),
        *(event("assistant.message", content=4, toolRequests=[1, {"toolCallId": []}]), done([])),
        {"type": "tool.execution_complete", "data": None, "timestamp": 2**70, "id": []},
        *(event("session.shutdown", modelMetrics=[1]), event("assistant.reasoning", content=[1])),
        *(event("session.snapshot_rewind", upToEventId=[]), reply("end", reasoningBlocks="x")),
    )
    assert events(runs, "message")["text"].to_list() == ["end"]
    assert set(runs.problems.collect()["position"]) == {"L2", "L3", "L7"}


def test_a_session_cut_anywhere_gives_what_stands_before(tmp_path: Path) -> None:
    lines = [start(), user("go"), reply("one", "c"), done("c"), reply("two")]
    text = "\n".join(map(json.dumps, lines))
    whole = events(load(tmp_path, text))["text"].to_list()
    for end in range(len(json.dumps(lines[0])) + 1, len(text), 11):
        runs = load(tmp_path, text[:end])
        told = events(runs)["text"].to_list()
        assert told == whole[: len(told)]
        assert not runs.problems.collect().is_empty() or text[:end].endswith(("}", "\n"))


def test_only_own_files_are_recognised(tmp_path: Path) -> None:
    file = tmp_path / "x.jsonl"
    for record, expected in [
        (start(), True),
        ({**start(), "data": "text"}, False),
        ({**start(), "type": "thread.started"}, False),
        ({"type": "session.start", "data": {}}, False),
    ]:
        file.write_text(json.dumps(record) + "\n" + json.dumps(record))
        assert copilot.sniff(Source(file).head) is expected


def test_time_is_linear_in_events_and_subagents(tmp_path: Path) -> None:
    def seconds(size: int) -> float:
        lines = [start()]
        for number in range(size):
            lines += [reply("x", f"c{number}"), {**reply("y"), "agentId": f"a{number % 50}"}]
            lines += [event("user.message", f"u{number}", content="z")]
            lines += [event("session.snapshot_rewind", upToEventId=f"u{number}")]
        begun = time.process_time()
        load(tmp_path, *lines)
        return time.process_time() - begun

    seconds(200)
    assert seconds(4_000) < 16 * seconds(500) + 1
