"""LlamaIndex: our own runs against their raw files and the recorded wire, and shapes written here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from conftest import ROOT

import loaders
from loaders import Trajectories, load
from loaders.formats import llama_index
from loaders.sources import Source

Object = dict[str, Any]
SAMPLES = ROOT / "sample_logs" / "frameworks" / "llama_index"
TRUTH = json.loads((ROOT / "sample_logs" / "truth.json").read_text())["parts"]["llama_index"]


def events(runs: Trajectories, *columns: str, kind: str | None = None) -> list[tuple[Any, ...]]:
    rows = runs.events.filter(pl.col("kind") == kind) if kind else runs.events
    return rows.select(columns).collect().rows()


def write(path: Path, value: Any) -> Path:
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def leads_back(runs: Trajectories) -> bool:
    places = runs.events.select("trajectory_id", "seq").collect().rows()
    return all(runs.raw(run, seq) is not None for run, seq in places)


# ---------------------------------------------------------------------- our own runs


def raw_messages(path: Path) -> list[Object]:
    """The messages of a sample, each once, in the order in which the framework made them."""
    value = json.loads(path.read_text())
    if isinstance(value, dict):
        memory = json.loads(value["state"]["state_data"]["_data"]["memory"])
        return memory["value"]["chat_store"]["store"]["chat_history"]
    found: list[Object] = []
    for event in value:
        name = event["qualified_name"].rpartition(".")[2]
        if name == "AgentInput" and not found:
            found += event["value"]["input"]
        elif name == "AgentOutput":
            found.append(event["value"]["response"])
        elif name == "ToolCallResult":
            found.append({"role": "tool", **event["value"]["tool_output"]})
    return found


@pytest.mark.parametrize("run", TRUTH["runs"], ids=lambda run: f"{run['style']}/{run['task_id']}")
def test_a_run_of_ours(run: Object) -> None:
    path = ROOT / "sample_logs" / run["log"]
    messages = raw_messages(path)
    runs = loaders.load(path)
    trajectory = runs.trajectories.collect().row(0, named=True)
    replies = [m for m in messages if m["role"] == "assistant"]
    replies = [m for m in replies if "tool_call_id" not in m["additional_kwargs"]]
    blocks = [block["block_type"] for message in replies for block in message["blocks"]]
    assert (trajectory["format"], trajectory["steps"]) == ("llama_index", run["steps"])
    assert (trajectory["unanswered_calls"], trajectory["orphan_results"]) == (0, 0)
    assert len(events(runs, "seq", kind="tool_call")) == blocks.count("tool_call") == run["steps"]
    results = events(runs, "text", kind="tool_result")
    shown = [m["blocks"][0]["text"] for m in messages if m["role"] == "tool"]
    assert [text for (text,) in results] == shown
    states = {"think_tags": "tagged_in_text"}
    thinking = events(runs, "thinking_state", "signature", kind="thinking")
    assert [state for state, _ in thinking] == [states.get(run["style"], "text")] * run["steps"]
    assert all(bool(mark) == (run["style"] == "anthropic") for _, mark in thinking)
    steps = runs.steps.collect()
    assert steps["thinking_available"].to_list() == run["thinking_available"]
    assert set(steps["thinking_sent"].drop_nulls()) <= {0}
    assert leads_back(runs)


def test_errors_are_flagged_in_events_and_are_bare_text_in_messages() -> None:
    flagged = loaders.load(SAMPLES / "reasoning_content" / "tables-easy-8.json")
    told = events(flagged, "text", "is_error", kind="tool_result")
    assert told == [("ServiceError: the connection to the service was lost", True), ("0", False)]
    bare = loaders.load(SAMPLES / "reasoning_content" / "orders-easy-3.json")
    errors = bare.events.filter(pl.col("text").str.starts_with("ServiceError")).collect()
    assert errors["kind"].to_list() == ["tool_result"]
    assert errors["is_error"].to_list() == [None]


def test_the_wire_tells_what_the_input_of_a_call_can_not() -> None:
    """``AgentInput`` holds the same thinking blocks, whether the adapter drops them or not."""
    wire = loaders.load(SAMPLES / "wire.har").steps.collect()
    sent = wire.group_by("run", maintain_order=True).agg("thinking_sent", "thinking_available")
    truth = [
        next(r for r in TRUTH["runs"] if (r["style"], r["task_id"]) == run)
        for run in (("reasoning_content", "tables-easy-8"), ("anthropic", "orders-easy-7"))
    ]
    assert sent["thinking_sent"].to_list() == [run["thinking_sent"] for run in truth]
    assert truth[0]["thinking_sent"] == [0, 0]
    assert truth[1]["thinking_sent"] == truth[1]["thinking_available"]
    for style, task in (("reasoning_content", "tables-easy-8"), ("anthropic", "orders-easy-7")):
        steps = loaders.load(SAMPLES / style / f"{task}.json").steps.collect()
        assert set(steps["evidence"]) == {"request"}
        assert steps["thinking_sent"].to_list() == [0, *[None] * (steps.height - 1)]
        assert [row[-1]["stop"] for row in steps["context"]] == steps["seq"].to_list()


# ---------------------------------------------------------------------- messages


def text(words: str) -> Object:
    return {"block_type": "text", "text": words}


def message(role: str, *blocks: Object, **more: Any) -> Object:
    return {"role": role, "additional_kwargs": more, "blocks": list(blocks)}


def thinking(content: str | None, **known: Any) -> Object:
    more = {"num_tokens": None, "additional_information": known}
    return {"block_type": "thinking", "content": content, **more}


def call(call_id: str, name: str = "ls", arguments: Any = None) -> Object:
    known = {"tool_call_id": call_id, "tool_name": name, "tool_kwargs": arguments or {"p": "/"}}
    return {"block_type": "tool_call", **known}


def openai_call(call_id: str, name: str = "ls") -> Object:
    return {"id": call_id, "function": {"name": name, "arguments": "{}"}, "type": "function"}


HISTORY = [
    message("system", text("You list.")),
    message(
        "user",
        text("look"),
        {"block_type": "image", "image": "eHg=", "image_mimetype": "image/png"},
    ),
    message(
        "assistant",
        thinking("Plan.", signature="sig"),
        text("Looking."),
        call("a"),
        tool_calls=[openai_call("a"), openai_call("b", "cat")],
    ),
    message("tool", text("x"), tool_call_id="a"),
    message("tool", text("slow"), tool_call_id="b"),
    message("assistant", text("<think>hm</think>All there.")),
    message("assistant", text("copied"), tool_call_id="b"),
]
TOLD = [
    ("system", None, "You list.", None),
    ("user", None, "look", None),
    ("thinking", 0, "Plan.", None),
    ("message", 0, "Looking.", None),
    ("tool_call", 0, None, "ls"),
    ("tool_call", 0, None, "cat"),
    ("tool_result", 0, "x", "ls"),
    ("tool_result", 0, "slow", "cat"),
    ("thinking", 1, "hm", None),
    ("message", 1, "All there.", None),
    ("other", 1, "copied", None),
]


def component(value: Object) -> str:
    return json.dumps({"__is_component": True, "value": value, "qualified_name": "x.Memory"})


def memory(messages: list[Object]) -> str:
    return component({"chat_store": {"store": {"chat_history": messages}}, "token_limit": 9})


def context(**state: str) -> Object:
    data = {"_data": state}
    named = {"state_type": "DictState", "state_module": "m", "state_data": data}
    return {"version": 2, "state": named, "is_running": False, "workers": {}}


@pytest.mark.parametrize("layout", ["list", "lines", "row", "store", "context", "older"])
def test_layouts_of_messages(tmp_path: Path, layout: str) -> None:
    state = {"memory": memory(HISTORY), "max_iterations": "3"}
    values = {
        "list": HISTORY,
        "lines": "\n".join(map(json.dumps, HISTORY)),
        "row": {"task_id": "t1", "success": True, "messages": HISTORY},
        "store": {"store": {"ann/1": HISTORY}, "class_name": "SimpleChatStore"},
        "context": context(**state),
        "older": {"globals": state, "queues": {}, "broker_log": []},
    }
    path = write(tmp_path / "m.json", values[layout])
    assert llama_index.sniff(Source(path).head)
    runs = loaders.load(path)
    assert events(runs, "kind", "step", "text", "tool") == TOLD
    assert events(runs, "call_seq", kind="tool_result") == [(4,), (5,)]
    assert events(runs, "media", kind="user") == [(["image/png"],)]
    assert events(runs, "signature", kind="thinking") == [("sig",), (None,)]
    trajectory = runs.trajectories.collect().row(0, named=True)
    assert trajectory["framework"] == "llama_index"
    assert (trajectory["outcome"] == "success") == (layout == "row")
    if layout == "context":
        known = json.loads(trajectory["metadata"])
        assert (known, trajectory["format_version"]) == (
            {"max_iterations": 3, "is_running": False, "memory_token_limit": 9},
            "2",
        )
    if layout == "store":
        assert trajectory["native_id"] == "ann~11"
    assert leads_back(runs)


@pytest.mark.parametrize(
    ("block", "state", "signature"),
    [
        (thinking("words"), "text", None),
        (thinking("in short", id="rs_1", encrypted_content="enc"), "summary", "enc"),
        (thinking(None, id="rs_1", encrypted_content="enc"), "hidden", "enc"),
        (thinking("", signature="sig"), "hidden", "sig"),
    ],
)
def test_states_of_thinking(
    tmp_path: Path, block: Object, state: str, signature: str | None
) -> None:
    reply = message("assistant", {**block, "num_tokens": 7}, text("ok"))
    runs = loaders.load(write(tmp_path / "m.json", [message("user", text("hi")), reply]))
    assert events(runs, "thinking_state", "signature", kind="thinking") == [(state, signature)]
    assert runs.steps.collect()["reasoning_tokens"].to_list() == [7]


def test_calls_in_the_forms_of_their_providers(tmp_path: Path) -> None:
    forms = [
        {"type": "tool_use", "id": "a", "name": "ls", "input": {"p": "/"}},
        {"type": "function_call", "call_id": "b", "name": "cat", "arguments": "{}", "id": "fc_1"},
    ]
    reply = message("assistant", tool_calls=forms)
    older = {"role": "assistant", "content": "old", "additional_kwargs": {"reasoning_content": "r"}}
    path = write(tmp_path / "m.json", [message("user", text("hi")), reply, older])
    told = events(loaders.load(path), "kind", "tool", "call_id", "text")
    assert told[1:] == [
        ("tool_call", "ls", "a", None),
        ("tool_call", "cat", "b", None),
        ("thinking", None, None, "r"),
        ("message", None, None, "old"),
    ]


def test_a_context_of_a_run_that_broke_off(tmp_path: Path) -> None:
    """The messages stand in the scratchpad, and what came back last with its flag beside it."""
    output = {"blocks": [text("slow")], "tool_name": "cat", "raw_output": 1, "is_error": True}
    result = {"tool_name": "cat", "tool_kwargs": {}, "tool_id": "b", "tool_output": output}
    state = context(
        user_msg_str='"look"',
        scratchpad=json.dumps([pydantic("ChatMessage", m) for m in HISTORY[2:5]]),
        current_tool_calls=json.dumps([pydantic("ToolCallResult", result)]),
        current_reasoning='[{"thought": "t"}]',
    )
    runs = loaders.load(write(tmp_path / "c.json", state))
    told = events(runs, "kind", "text", "is_error")
    assert told[0] == ("user", "look", None)
    assert told[5:] == [
        ("tool_result", "x", None),
        ("tool_result", "slow", True),
        ("other", '[{"thought":"t"}]', None),
    ]
    assert leads_back(runs)


def test_a_pickled_value_is_a_problem_and_not_read(tmp_path: Path) -> None:
    runs = loaders.load(write(tmp_path / "c.json", context(memory="gASVBQ==", state="{}")))
    assert runs.problems.collect()["reason"].str.contains("another serializer").to_list() == [True]
    assert runs.trajectories.collect()["events"].to_list() == [0]


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_context_cut_inside_its_memory_gives_what_stands_before(
    tmp_path: Path, share: float
) -> None:
    whole = json.dumps(context(memory=memory(HISTORY)))
    start, end = whole.index("__is_component"), whole.index('"}}}, "is_running')
    cut = whole[: int(start + (end - start) * share)]
    path = write(tmp_path / "c.json", cut)
    runs = load(path, format="llama_index")  # in a broken text no place leads anywhere
    told = events(runs, "kind", "step", "text", "tool")
    assert 2 <= len(told) < len(TOLD)
    assert [row for row in told[:-1] if row not in TOLD] == []
    assert any("cut short" in reason for reason in runs.problems.collect()["reason"])


# ---------------------------------------------------------------------- events


def pydantic(name: str, value: Object) -> Object:
    return {"__is_pydantic": True, "value": value, "qualified_name": f"llama_index.{name}"}


def result(call_id: str, words: str, tool: str = "ls", **more: Any) -> Object:
    output = {"tool_name": tool, "raw_input": {}, "raw_output": words, "is_error": False, **more}
    known = {"tool_name": tool, "tool_kwargs": {"p": "/"}, "tool_id": call_id}
    return {**known, "tool_output": {"blocks": [text(words)], **output}, "return_direct": False}


def output(reply: Object, *calls: Object, **more: Any) -> Object:
    known = {"structured_response": None, "current_agent_name": "r", "retry_messages": []}
    return {"response": reply, "tool_calls": list(calls), **known, **more}


def selection(call_id: str) -> Object:
    return {"tool_id": call_id, "tool_name": "ls", "tool_kwargs": {"p": "/"}}


def told_events() -> list[tuple[str, Object]]:
    asked = [message("system", text("You list.")), message("user", text("look"))]
    reply = message("assistant", thinking("Plan."), text("Looking."), call("a"))
    answer = message("tool", text("x"), tool_call_id="a")
    done = message("assistant", text("Done."))
    usage = {"prompt_tokens": 9, "completion_tokens": 4}
    choices = [{"finish_reason": "stop", "message": {"reasoning_content": "raw thought"}}]
    raw = {"model": "m-1", "usage": usage, "choices": choices}
    return [
        ("AgentInput", {"input": asked, "current_agent_name": "r"}),
        ("AgentOutput", output(reply, selection("a"))),
        ("ToolCall", selection("a")),
        ("ToolCallResult", result("a", "x")),
        ("AgentInput", {"input": [*asked, reply, answer], "current_agent_name": "r"}),
        ("AgentStream", {"delta": "Do", "response": "Do", "current_agent_name": "r"}),
        ("AgentOutput", output(done, raw=raw)),
        ("StopEvent", {"result": output(done)}),
    ]


@pytest.mark.parametrize("form", ["serialized", "bare", "array"])
def test_forms_of_events(tmp_path: Path, form: str) -> None:
    lines = [pydantic(*event) if form != "bare" else event[1] for event in told_events()]
    path = write(
        tmp_path / "e.jsonl", lines if form == "array" else "\n".join(map(json.dumps, lines))
    )
    assert llama_index.sniff(Source(path).head)
    runs = loaders.load(path)
    assert events(runs, "kind", "step", "text", "is_error") == [
        ("system", None, "You list.", None),
        ("user", None, "look", None),
        ("thinking", 0, "Plan.", None),
        ("message", 0, "Looking.", None),
        ("tool_call", 0, None, None),
        ("tool_result", 0, "x", False),
        ("thinking", 1, "raw thought", None),
        ("message", 1, "Done.", None),
    ]
    steps = runs.steps.select("agent", "model", "input_tokens", "stop_reason", "thinking_sent")
    assert steps.collect().rows() == [("r", None, None, None, 0), ("r", "m-1", 9, "stop", None)]
    assert leads_back(runs)


def test_an_input_that_lacks_thinking_shows_that_it_was_dropped(tmp_path: Path) -> None:
    lines = [json.loads(json.dumps(pydantic(*event))) for event in told_events()]
    del lines[4]["value"]["input"][2]["blocks"][0]
    steps = loaders.load(write(tmp_path / "e.json", lines)).steps.collect()
    assert steps["thinking_sent"].to_list() == [0, 0]
    assert steps["history_edit"].to_list() == ["none", "thinking_dropped"]


def test_another_conversation_in_the_same_file_is_another_run(tmp_path: Path) -> None:
    goes_on = ("AgentInput", {**told_events()[4][1]})
    after = [goes_on, told_events()[6], told_events()[7]]
    lines = [pydantic(*event) for event in [*told_events(), *after, *told_events()]]
    runs = loaders.load(write(tmp_path / "e.json", lines))
    assert runs.trajectories.collect()["steps"].to_list() == [3, 2]


def test_a_react_agent(tmp_path: Path) -> None:
    """Its calls have no place in its messages, which it repeats in other words."""
    said = 'Thought: I look.\nAction: ls\nAction Input: {"p": "/"}'
    repeated = said.replace('"', "'")
    asked = [message("system", text("ReAct.")), message("user", text("look"))]
    again = [message("assistant", text(repeated)), message("user", text("Observation: slow"))]
    lines = [
        pydantic("AgentInput", {"input": asked, "current_agent_name": "r"}),
        pydantic("AgentOutput", output(message("assistant", text(said)), selection("u1"))),
        pydantic("ToolCallResult", result("u1", "slow", is_error=True)),
        pydantic("AgentInput", {"input": [*asked, *again], "current_agent_name": "r"}),
        pydantic("AgentOutput", output(message("assistant", text("Thought: ok.\nAnswer: 7")))),
        pydantic("StopEvent", {"result": output(message("assistant", text("7")))}),
    ]
    runs = loaders.load(write(tmp_path / "e.json", lines))
    assert events(runs, "kind", "step", "text", "is_error")[2:] == [
        ("message", 0, said, None),
        ("tool_call", 0, None, None),
        ("tool_result", 0, "slow", True),
        ("message", 1, "Thought: ok.\nAnswer: 7", None),
        ("other", 1, "7", None),
    ]
    assert runs.steps.collect()["context"].to_list()[1] == [{"start": 0, "stop": 5}]


def test_the_broker_log_of_an_older_context_is_read_in_place_of_the_memory(tmp_path: Path) -> None:
    start = {"_data": {"user_msg": "look", "chat_history": None, "memory": None}}
    log = [json.dumps(pydantic("StartEvent", start))]
    for name, value in told_events():
        log.append(json.dumps(pydantic("AgentSetup" if name == "AgentInput" else name, value)))
    record = {"globals": {"memory": memory(HISTORY)}, "queues": {}, "broker_log": log}
    runs = loaders.load(write(tmp_path / "c.json", record))
    assert [kind for (kind,) in events(runs, "kind")][:4] == [
        "user",
        "system",
        "thinking",
        "message",
    ]
    assert len(events(runs, "kind")) == 8
    # What an agent is set up with is not yet what its model is given.
    assert set(runs.steps.collect()["evidence"]) == {"unknown"}
    assert leads_back(runs)


@pytest.mark.parametrize("is_nested", [True, False])
@pytest.mark.parametrize(
    ("name", "words", "outcome"),
    [
        ("WorkflowFailedEvent", "slow", "error"),
        ("WorkflowFailedEvent", "Max iterations of 3 reached!", "limit"),
        ("WorkflowTimedOutEvent", "slow", "limit"),
        ("WorkflowCancelledEvent", "slow", "cancelled"),
    ],
)
def test_ends_other_than_a_result(
    tmp_path: Path, name: str, words: str, outcome: str, *, is_nested: bool
) -> None:
    known = {"exception_type": "E", "exception_message": words}
    end = pydantic(name, {"step_name": "s", "exception": known} if is_nested else known)
    lines = [*(pydantic(*event) for event in told_events()[:2]), end]
    runs = loaders.load(write(tmp_path / "e.json", lines))
    assert events(runs, "text", "error_type", kind="error") == [(words, "E")]
    ended = runs.trajectories.select("outcome", "end_reason").collect().row(0)
    assert ended == (outcome, f"E: {words}")


def test_a_reply_that_was_still_streamed_is_told(tmp_path: Path) -> None:
    stream = {"delta": "", "response": "Loo", "current_agent_name": "r", "thinking_delta": "Pl"}
    lines = [pydantic(*told_events()[0]), pydantic("AgentStream", stream)]
    lines.append(pydantic("AgentStream", {**stream, "response": "Look", "thinking_delta": "an"}))
    runs = load(write(tmp_path / "e.json", lines))  # a text in pieces has no place of its own
    told = events(runs, "kind", "step", "text")
    assert told[2:] == [("thinking", 0, "Plan"), ("message", 0, "Look")]


# ---------------------------------------------------------------------- what else there is


def test_no_other_file_is_claimed(real_logs: Path) -> None:
    files = [path for path in real_logs.rglob("*") if path.is_file()]
    assert len(files) > 100
    assert [path for path in files if llama_index.sniff(Source(path).head)] == []


@pytest.mark.parametrize("junk", [None, 3, "x", [], {}, [[1]], "\ud800", 2**70])
def test_hostile_values_do_not_stop_the_rest(tmp_path: Path, junk: Any) -> None:
    lines: list[Any] = [pydantic(*event) for event in told_events()]
    for name, value in told_events():
        lines += [pydantic(name, {**value, key: junk}) for key in value]
    lines += [{**one, "role": junk} for one in HISTORY]
    lines += [{**one, "blocks": [junk]} for one in HISTORY]
    lines += [message("assistant", {"block_type": "thinking", **{k: junk}}) for k in thinking("x")]
    lines += [context(memory=junk, scratchpad=junk), junk, HISTORY[5]]
    path = write(tmp_path / "e.jsonl", "\n".join(map(json.dumps, lines)))
    runs = load(
        path, format="llama_index"
    )  # places of nulls, and times before others, may be there
    assert ("message", "All there.") in events(runs, "kind", "text")
    assert not [reason for reason in runs.problems.collect()["reason"] if "Error:" in reason]
