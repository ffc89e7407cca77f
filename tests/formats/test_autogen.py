"""AutoGen's states and messages, against figures counted from logs of its own, and on small ones."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

import loaders
from loaders import Trajectories
from loaders.formats import autogen
from loaders.reading import load as unchecked_load  # pieces of a stream have no one place
from loaders.sources import Source

Object = dict[str, Any]
SAMPLES = ROOT / "sample_logs"
LOGS = SAMPLES / "frameworks" / "autogen"
TRUTH = json.loads((SAMPLES / "truth.json").read_text())["parts"]["autogen"]["runs"]
FILES = sorted(path for path in LOGS.rglob("*.json*") if path.is_file())


# ---------------------------------------------------------------------- logs written by AutoGen


def raw_messages(path: Path) -> list[Object]:
    """The messages of a log, found by their layout alone."""
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text().splitlines()]
    log = json.loads(path.read_text())
    if "agent_states" in log:
        return log["agent_states"]["RoundRobinGroupChatManager"]["message_thread"]
    return log["messages"] if "messages" in log else log["llm_context"]["messages"]


def results_of(messages: list[Object]) -> Iterator[Object]:
    for message in messages:
        for part in message["content"] if isinstance(message["content"], list) else []:
            if "call_id" in part:
                yield part


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_calls_results_and_tokens_are_those_in_the_file(path: Path) -> None:
    messages = raw_messages(path)
    runs = loaders.load(path)
    events, steps = runs.events.collect(), runs.steps.collect()
    calls = [p for m in messages for p in m["content"] if isinstance(p, dict) and "arguments" in p]
    told = (
        events.filter(events["kind"] == "tool_call").select("tool", "call_id", "arguments").rows()
    )
    assert told == [(call["name"], call["id"], call["arguments"]) for call in calls]
    assert len(calls) > 1
    results = events.filter(events["kind"] == "tool_result")
    assert results.select("text", "call_id", "is_error").rows() == [
        (part["content"], part["call_id"], part["is_error"]) for part in results_of(messages)
    ]
    assert results["is_error"].any()
    assert results["call_seq"].null_count() == 0
    usages = [m["models_usage"] for m in messages if m.get("models_usage")]
    if "agent_state" not in path.name:
        assert steps["input_tokens"].to_list() == [usage["prompt_tokens"] for usage in usages]
        assert steps["output_tokens"].to_list() == [usage["completion_tokens"] for usage in usages]
        assert steps["ended_at"].null_count() == 0
    assert steps["agent"].to_list() == ["clerk"] * (len(calls) + 1)
    row = runs.trajectories.collect().row(0, named=True)
    assert (row["framework"], row["unanswered_calls"], row["orphan_results"]) == ("autogen", 0, 0)
    for run, seq in events.select("trajectory_id", "seq").rows():
        assert runs.raw(run, seq)


@pytest.mark.parametrize("run", TRUTH, ids=lambda run: f"{run['style']}-{run['task_id']}")
def test_thinking_is_told_where_the_log_has_it(run: Object) -> None:
    """Beside tool calls OpenAI's client drops ``reasoning_content``: the log has no place for it."""
    runs = loaders.load(SAMPLES / run["log"])
    steps, events = runs.steps.collect(), runs.events.collect()
    expected = {
        "reasoning_content": ["not_logged"] * (run["steps"] - 1) + ["text"],
        "think_tags": ["tagged_in_text"] * (run["steps"] - 1) + ["text"],
        "anthropic": ["text"] * run["steps"],
    }[run["style"]]
    assert steps["thinking"].to_list() == expected
    assert len(expected) - expected.count("not_logged") == run["thinking_in_log"]
    assert steps["thinking_sent"].null_count() == steps.height
    thoughts = events.filter(events["kind"] == "thinking")["text"].str.strip_chars()
    assert thoughts[-1] == "My answer is handed in: nothing is left to do."
    assert "Plan:" in thoughts[0] or run["style"] == "reasoning_content"
    said = events.filter(events["kind"] == "message")["text"].str.strip_chars().to_list()
    is_lost = run["style"] == "anthropic" and not run["log"].endswith(".jsonl")
    assert said[-1] == "I have submitted my answer."
    assert len(said) == (1 if is_lost else run["steps"])
    warned = [r for r in runs.problems.collect()["reason"] if "beside tool calls" in r]
    assert len(warned) == is_lost


def test_no_other_log_is_claimed(real_logs: Path) -> None:
    assert not [p for p in real_logs.rglob("*") if p.is_file() and autogen.sniff(Source(p).head)]
    assert all(autogen.sniff(Source(path).head) for path in FILES)


# ---------------------------------------------------------------------- written here

CREATED = "2026-03-01T10:00:0{}Z"


def message(kind: str, source: str, content: Any, second: int = 0, **more: Any) -> Object:
    known = {"id": f"{kind}{second}", "source": source, "models_usage": None, "metadata": {}}
    return {**known, "created_at": CREATED.format(second), "content": content, "type": kind, **more}


def usage(asked: int, made: int) -> Object:
    return {"models_usage": {"prompt_tokens": asked, "completion_tokens": made}}


def call(identity: str = "call_1", name: str = "ls") -> Object:
    return {"id": identity, "arguments": '{"path":"/"}', "name": name}


def result(content: str, identity: str = "call_1", *, is_error: bool | None = False) -> Object:
    return {"content": content, "name": "ls", "call_id": identity, "is_error": is_error}


def chat() -> list[Object]:
    return [
        message("TextMessage", "user", "look", 0),
        message("ThoughtEvent", "helper", "I look.", 1),
        message("ToolCallRequestEvent", "helper", [call()], 2, **usage(9, 4)),
        message("ToolCallExecutionEvent", "helper", [result("boom", is_error=True)], 3),
        message("ThoughtEvent", "helper", "It failed.", 4),
        message("TextMessage", "helper", "no luck", 5, **usage(0, 0)),
    ]


EXPECTED = [
    ("user", None, None, "look", None, None),
    ("message", 0, "helper", "I look.", None, None),
    ("tool_call", 0, "helper", None, None, None),
    ("tool_result", 0, "helper", "boom", True, 2),
    ("thinking", 1, "helper", "It failed.", None, None),
    ("message", 1, "helper", "no luck", None, None),
]
COLUMNS = ("kind", "step", "actor", "text", "is_error", "call_seq")


def write(path: Path, value: Any) -> Path:
    path.write_text(json.dumps(value))
    return path


def events(runs: Trajectories, *columns: str) -> list[tuple[Any, ...]]:
    return runs.events.select(columns).collect().rows()


def team(thread: list[Object], contexts: dict[str, list[Object]], **more: Any) -> Object:
    agents: Object = {
        name: {"agent_state": {"llm_context": {"messages": messages}}, "message_buffer": []}
        for name, messages in contexts.items()
    }
    manager = {"type": "SwarmManagerState", "version": "1.0.0", "current_turn": 3}
    states = {**agents, "Manager/x": {**manager, "message_thread": thread}}
    return {"type": "TeamState", "version": "1.0.0", "agent_states": states, **more}


@pytest.mark.parametrize("layout", ["result", "list", "lines", "stream", "response", "team", "row"])
def test_messages_in_every_layout(tmp_path: Path, layout: str) -> None:
    whole = {"messages": chat(), "stop_reason": "Maximum number of turns 1 reached."}
    values: Object = {
        "result": whole,
        "list": chat(),
        "response": {"chat_message": chat()[-1], "inner_messages": chat()[:-1]},
        "team": team(chat(), {}),
        "row": {"task_id": "t1", "note": "n", **whole},
    }
    path = tmp_path / "log.json"
    if layout in values:
        write(path, values[layout])
    else:
        lines = [*chat(), *([whole] if layout == "stream" else [])]
        path.write_text("\n".join(json.dumps(line) for line in lines))
    assert autogen.sniff(Source(path).head)
    runs = loaders.load(path)
    assert events(runs, *COLUMNS) == EXPECTED
    steps = runs.steps.collect()
    assert steps["input_tokens"].to_list() == [9, None]
    assert steps["thinking"].to_list() == ["not_logged", "text"]
    assert [(a.second, b.second) for a, b in steps.select("started_at", "ended_at").rows()] == [
        (0, 2),
        (3, 5),
    ]
    row = runs.trajectories.collect().row(0, named=True)
    has_reason = layout in ("result", "stream", "row")
    assert row["outcome"] == ("limit" if has_reason else "unknown")
    assert row["end_reason"] == (whole["stop_reason"] if has_reason else None)
    assert row["task_id"] == ("t1" if layout == "row" else None)
    assert runs.problems.collect().height == 0


@pytest.mark.parametrize(
    ("reason", "outcome"),
    [
        ("Token usage limit reached, total token count: 9", "limit"),
        ("Timeout of 5 seconds reached", "limit"),
        ("External termination requested", "cancelled"),
        ("Text 'DONE' mentioned", "unknown"),
    ],
)
def test_reasons_to_stop(tmp_path: Path, reason: str, outcome: str) -> None:
    runs = loaders.load(write(tmp_path / "r.json", {"messages": chat(), "stop_reason": reason}))
    assert runs.trajectories.select("outcome", "end_reason").collect().row(0) == (outcome, reason)


def test_thoughts_beside_calls(tmp_path: Path) -> None:
    """Plain text of most clients; think tags tell; Anthropic's client puts thinking there."""
    thoughts = [("call_1", "text"), ("call_1", "<think>deep</think>text"), ("toolu_1", "deep")]
    for (identity, thought), kinds in zip(
        thoughts, (["message"], ["thinking", "message"], ["thinking"]), strict=True
    ):
        calls = message("ToolCallRequestEvent", "a", [call(identity)])
        log = [message("ThoughtEvent", "a", thought), calls]
        runs = loaders.load(write(tmp_path / "l.json", log))
        assert [kind for (kind,) in events(runs, "kind")] == [*kinds, "tool_call"]
        warned = runs.problems.collect()["reason"].str.contains("may be the reply's plain text")
        assert warned.sum() == (identity == "toolu_1")


def chunks(*texts: str) -> list[Object]:
    return [
        message("ModelClientStreamingChunkEvent", "a", text, 1, full_message_id="x")
        for text in texts
    ]


def test_chunks_hold_what_is_nowhere_else(tmp_path: Path) -> None:
    path = tmp_path / "l.json"
    calls = message("ToolCallRequestEvent", "a", [call()], 3)
    thought = message("ThoughtEvent", "a", "I look.", 2)
    log = [*chunks("<think>", "deep", "</think>", "I lo", "ok."), thought, calls]
    runs = unchecked_load(write(path, log))
    told = [("thinking", "deep"), ("message", "I look."), ("tool_call", None)]
    assert events(runs, "kind", "text") == told
    runs = unchecked_load(write(path, [*chunks("<think>", "deep", "</think>", "I look."), calls]))
    assert events(runs, "kind", "text") == told
    of_claude = message("ToolCallRequestEvent", "a", [call("toolu_1")], 3)
    thought = message("ThoughtEvent", "a", "deep", 2)
    runs = unchecked_load(write(path, [*chunks("de", "ep", "I look."), thought, of_claude]))
    assert events(runs, "kind", "text", "source_pos")[1] == ("message", "I look.", "/2")
    assert events(runs, "kind", "text")[0] == told[0]
    assert runs.problems.collect().height == 0


def test_a_reply_in_text_repeats_its_chunks_and_one_cut_off_does_not(tmp_path: Path) -> None:
    log = [*chunks("he", "llo"), message("TextMessage", "a", "hello", 2, **usage(3, 1))]
    runs = unchecked_load(write(tmp_path / "l.json", [*log, *chunks("good", "bye")]))
    assert events(runs, "kind", "step", "text") == [
        ("message", 0, "hello"),
        ("message", 1, "goodbye"),
    ]
    cut = [message("TextMessage", "user", "q"), message("ThoughtEvent", "a", "hm", 1)]
    assert events(loaders.load(write(tmp_path / "l.json", cut)), "kind", "step")[1:] == [
        ("thinking", 0)
    ]


def test_people_orchestrators_and_other_messages(tmp_path: Path) -> None:
    picture = {"data": "eHg="}
    log = [
        message("MultiModalMessage", "user", ["what is it?", picture]),
        message("MemoryQueryEvent", "a", [{"content": "likes tea", "mime_type": "text/plain"}]),
        message("UserInputRequestedEvent", "person", "", request_id="r"),
        message("TextMessage", "person", "go on"),
        message("TextMessage", "Orchestrator", "next: a"),
        message("StructuredMessage[Answer]", "a", {"n": 3}, **usage(4, 2)),
        message("HandoffMessage", "a", "to b", target="b", context=[]),
        message("SelectSpeakerEvent", "m", ["b"], metadata={"why": "turn"}),
        message(
            "CodeGenerationEvent",
            "b",
            "```sh\nls\n```",
            retry_attempt=0,
            code_blocks=[{"code": "ls", "language": "sh"}],
        ),
        {**message("CodeExecutionEvent", "b", None), "result": {"exit_code": 2, "output": "no"}},
        message("ToolCallSummaryMessage", "b", "no", tool_calls=[], results=[]),
        message("StopMessage", "b", "enough"),
    ]
    runs = loaders.load(write(tmp_path / "l.json", log))
    assert events(runs, "kind", "step", "actor", "text", "media") == [
        ("user", None, None, "what is it?", ["image/png"]),
        ("system", None, "memory", "likes tea", None),
        ("other", None, "person", "UserInputRequestedEvent", None),
        ("user", None, "person", "go on", None),
        ("user", None, "Orchestrator", "next: a", None),
        ("message", 0, "a", '{"n":3}', None),
        ("other", 0, "a", "to b", None),
        ("other", 0, "m", '["b"]', None),
        ("message", 1, "b", "```sh\nls\n```", None),
        ("tool_call", 1, "b", None, None),
        ("tool_result", 1, "b", "no", None),
        ("other", 1, "b", "no", None),
        ("other", 1, "b", "enough", None),
    ]
    assert events(runs, "exit_code", "call_seq")[10] == (2, 9)
    assert '"why":"turn"' in runs.trajectories.collect()["metadata"][0]


def model_message(kind: str, content: Any, **more: Any) -> Object:
    return {"content": content, "type": kind, **more}


def context_of_chat() -> list[Object]:
    return [
        model_message("UserMessage", "look", source="user"),
        model_message("AssistantMessage", [call()], source="helper", thought="I look."),
        model_message("FunctionExecutionResultMessage", [result("boom", is_error=True)]),
        model_message("AssistantMessage", "no luck", source="helper", thought="It failed."),
    ]


def test_the_state_of_one_agent(tmp_path: Path) -> None:
    state: Object = {"type": "AssistantAgentState", "version": "1.0.0"}
    state["llm_context"] = {"messages": context_of_chat()}
    for log in (state, context_of_chat()):
        path = write(tmp_path / "s.json", log)
        assert autogen.sniff(Source(path).head)
        found = [(k, s, None if k == "tool_result" else a, *rest) for k, s, a, *rest in EXPECTED]
        assert events(loaders.load(path), *COLUMNS) == found
    runs = loaders.load(write(tmp_path / "s.json", state))
    assert runs.trajectories.collect()["format_version"][0] == "1.0.0"


def test_a_team_tells_thread_and_contexts_once(tmp_path: Path) -> None:
    """What only a context has stands behind the last message that the thread has too."""
    other = [
        model_message("SystemMessage", "remember tea"),
        model_message("UserMessage", "look", source="user"),
        model_message("UserMessage", "no luck", source="helper"),
    ]
    log = team(chat(), {"helper": context_of_chat(), "other": other})
    runs = loaders.load(write(tmp_path / "t.json", log))
    assert events(runs, *COLUMNS)[1:] == [
        (k, s, a, t, e, c if c is None else c + 1) for k, s, a, t, e, c in EXPECTED
    ]
    assert events(runs, "kind", "text")[0] == ("system", "remember tea")
    assert '"current_turn":3' in runs.trajectories.collect()["metadata"][0]


def test_a_thread_of_replies_alone_gets_calls_and_thoughts_from_the_context(tmp_path: Path) -> None:
    """So the first versions wrote it: what an agent did before its reply is in its context only."""
    thread = [chat()[0], message("TextMessage", "helper", "no luck", 5, **usage(3, 1))]
    runs = loaders.load(write(tmp_path / "t.json", team(thread, {"helper": context_of_chat()})))
    assert [row[:4] for row in events(runs, *COLUMNS)] == [
        (k, s, None if k == "tool_result" else a, t) for k, s, a, t, *_ in EXPECTED
    ]
    assert runs.steps.collect()["input_tokens"].to_list() == [None, 3]


def test_without_a_thread_each_agent_is_a_run(tmp_path: Path) -> None:
    other = [model_message("UserMessage", "hi", source="user")]
    log = team([], {"helper": context_of_chat(), "other": other})
    runs = loaders.load(write(tmp_path / "t.json", log)).trajectories.collect()
    assert runs.select("native_id", "steps").rows() == [("helper", 2), ("other", 0)]


def test_a_state_without_messages_is_no_run(tmp_path: Path) -> None:
    """So an inner team's is that was set back after its answer: the framework does that."""
    empty = team([], {"helper": []})
    with pytest.raises(loaders.LoadError, match="without messages"):
        loaders.load(write(tmp_path / "t.json", empty))
    log = team(chat(), {})
    log["agent_states"]["mind"] = {"agent_state": {"inner_team_state": empty}}
    assert events(loaders.load(write(tmp_path / "t.json", log)), *COLUMNS) == EXPECTED


def test_an_inner_team_is_a_run_of_its_own(tmp_path: Path) -> None:
    log = team([chat()[0], message("TextMessage", "mind", "done", 6, **usage(1, 1))], {})
    inner = {"type": "SocietyOfMindAgentState", "inner_team_state": team(chat(), {})}
    log["agent_states"]["mind"] = {"agent_state": inner}
    runs = loaders.load(write(tmp_path / "t.json", log)).trajectories.collect()
    assert runs["steps"].to_list() == [1, 2]
    assert runs["parent_id"].to_list() == [None, runs["trajectory_id"][0]]
    assert runs["parent_seq"].to_list() == [None, 1]


def test_a_log_cut_short(tmp_path: Path) -> None:
    path = write(tmp_path / "t.json", {"messages": chat()})
    path.write_text(path.read_text()[:-20])
    runs = loaders.load(path)
    assert [row[:4] for row in events(runs, *COLUMNS)] == [row[:4] for row in EXPECTED]
    assert any("stands before it" in reason for reason in runs.problems.collect()["reason"])


@pytest.mark.parametrize("junk", [None, 3, "x", [], {}, [[1]], True])
def test_hostile_values_do_not_stop_the_rest(tmp_path: Path, junk: Any) -> None:
    whole = [*chat(), *context_of_chat(), *chunks("a")]
    broken = [{**one, key: junk} for one in whole for key in one]
    parts = [{**one, "content": [{**call(), key: junk}]} for one in whole for key in call()]
    last = message("TextMessage", "user", "one thing more")
    log = [*chat(), *broken, *parts, junk, last]
    for value in (
        log,
        {"messages": log},
        team(log, {"helper": [*context_of_chat(), *broken, junk]}),
    ):
        runs = loaders.load(write(tmp_path / "s.json", value))
        assert ("one thing more",) in events(runs, "text")
        assert runs.trajectories.collect().height == 1
        assert not [r for r in runs.problems.collect()["reason"] if "Error:" in r]
    for key in ("agent_states", "llm_context", "version"):
        state = {**team(chat(), {"helper": context_of_chat()}), key: junk}
        loaders.load([write(tmp_path / "s.json", state), write(tmp_path / "u.json", chat())])
