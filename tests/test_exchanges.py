"""Runs rebuilt from recorded requests and responses, on logs written here."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import loaders
from loaders import Trajectories

Object = dict[str, Any]
SYSTEM = {"role": "system", "content": "You fix bugs."}
TOOLS = [{"type": "function", "function": {"name": "bash", "parameters": {"type": "object"}}}]


def user(text: str) -> Object:
    return {"role": "user", "content": text}


def result(number: int, text: str) -> Object:
    return {"role": "tool", "tool_call_id": f"c{number}", "content": text}


def reply(number: int, thinking: str | None = None, text: str = "", **more: Any) -> Object:
    function = {"name": "bash", "arguments": json.dumps({"command": f"step {number}"})}
    message: Object = {
        "role": "assistant",
        "content": text,
        "tool_calls": [{"id": f"c{number}", "type": "function", "function": function}],
    }
    if thinking is not None:
        message["reasoning_content"] = thinking
    return {**message, **more}


def said(text: str) -> Object:
    return {"role": "assistant", "content": text}


def without_thinking(message: Object) -> Object:
    return {key: value for key, value in message.items() if key != "reasoning_content"}


def response(message: Object, **more: Any) -> Object:
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return {"model": "m-1", "choices": [choice], **more}


def log(path: Path, *calls: tuple[list[Object], Any], **params: Any) -> Trajectories:
    """A log of (messages of the request, body of the response), as a proxy writes it."""
    lines: list[Object] = []
    for messages, body in calls:
        request = {"model": "m", "messages": messages, **params}
        lines.append({"type": "request", "request_params": request})
        lines.append({"type": "response", "response": body})
    path.write_text("\n".join(json.dumps(line) for line in lines))
    return loaders.load(path, format="openai_chat")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "calls.jsonl"


def kinds(runs: Trajectories, run: int = 0) -> list[str]:
    return runs.events.filter(pl.col("run") == run).collect()["kind"].to_list()


def steps(runs: Trajectories, *columns: str) -> list[tuple[Any, ...]]:
    return runs.steps.select(columns).collect().rows()


def ranges(runs: Trajectories, column: str = "context") -> list[list[tuple[int, int]]]:
    rows = runs.steps.select(column).collect()[column].to_list()
    return [[(part["start"], part["stop"]) for part in row or []] for row in rows]


def problems(runs: Trajectories) -> list[str]:
    return runs.problems.collect()["reason"].to_list()


# ---------------------------------------------------------------------- history told once


def history(count: int, keep: bool) -> list[tuple[list[Object], Object]]:
    messages = [SYSTEM, user("fix it")]
    calls: list[tuple[list[Object], Object]] = []
    for number in range(count):
        answer = reply(number, f"thought {number}")
        calls.append((list(messages), response(answer)))
        shown = answer if keep else without_thinking(answer)
        messages += [shown, result(number, f"out {number}")]
    return calls


def test_repeated_history_becomes_events_once(path: Path) -> None:
    runs = log(path, *history(3, keep=True), tools=TOOLS)
    one = ["thinking", "tool_call", "tool_result"]
    assert kinds(runs) == ["system", "user", *one, *one, "thinking", "tool_call"]
    assert runs.trajectories.select("steps", "unanswered_calls").collect().row(0) == (3, 1)
    assert runs.tools.collect()["name"].to_list() == ["bash"]


def test_thinking_sent_back_is_seen_on_the_wire(path: Path) -> None:
    runs = log(path, *history(4, keep=True))
    columns = ("thinking_available", "thinking_sent", "evidence", "history_edit")
    assert steps(runs, *columns) == [(n, n, "wire", "none") for n in range(4)]
    assert ranges(runs)[-1] == [(0, 11)]
    assert ranges(runs, "thinking_context")[-1] == [(2, 9)]


def test_thinking_left_out_is_seen_on_the_wire(path: Path) -> None:
    runs = log(path, *history(4, keep=False))
    edits = ["none", *["thinking_dropped"] * 3]
    assert steps(runs, "thinking_available", "thinking_sent", "history_edit") == [
        (n, 0, edits[n]) for n in range(4)
    ]
    assert ranges(runs)[-1] == [(0, 11)]
    assert ranges(runs, "thinking_context")[-1] == []


def test_thinking_dropped_at_a_user_turn_alone(path: Path) -> None:
    calls = history(2, keep=True)
    last = [SYSTEM, user("fix it"), *(without_thinking(m) for m in calls[1][0][2:])]
    last += [without_thinking(reply(1)), result(1, "out 1"), user("and now?")]
    runs = log(path, *calls, (last, response(said("done"))))
    assert steps(runs, "thinking_sent", "history_edit") == [
        (0, "none"),
        (1, "none"),
        (0, "thinking_dropped"),
    ]


@pytest.mark.parametrize(
    "shown",
    [
        said("<think>\nthought 0\n</think>\n\nok"),
        {"role": "assistant", "content": "ok", "reasoning": "thought  0"},
        {"role": "assistant", "content": "ok", "thinking_blocks": [{"type": "thinking", "thinking": "thought 0"}]},
        {"role": "assistant", "content": [{"type": "thinking", "thinking": [{"type": "text", "text": "thought 0"}]}, {"type": "text", "text": "ok"}]},
    ],
    ids=["tags", "reasoning", "blocks", "parts"],
)  # fmt: skip
def test_thinking_is_found_in_whatever_way_it_is_sent_back(path: Path, shown: Object) -> None:
    first = response({**said("ok"), "reasoning_content": "thought 0"})
    runs = log(path, ([user("a")], first), ([user("a"), shown, user("b")], response(said("yes"))))
    assert kinds(runs) == ["user", "thinking", "message", "user", "message"]
    assert steps(runs, "thinking_sent") == [(0,), (1,)]


def test_equal_replies_are_told_apart_by_their_thinking(path: Path) -> None:
    first = {**said("Hello!"), "reasoning_content": "be kind"}
    second = {**said("Hello!"), "reasoning_content": "be brief"}
    third = ([user("hi"), first, user("how are you?")], response(said("fine")))
    runs = log(path, ([user("hi")], response(first)), ([user("hi")], response(second)), third)
    assert runs.trajectories.collect()["steps"].to_list() == [2, 1]


@pytest.mark.parametrize(
    "shown",
    [
        reply(0, text=None),  # type: ignore[arg-type]
        reply(0, text=" look  here\n"),
        reply(0, text="look here", index=0, annotations=[], name=None),
        reply(0, text="look here", tool_calls=[{"id": "other", "function": {"name": "bash", "arguments": '{ "command":"step 0"}'}}]),
    ],
    ids=["as null", "white space", "extra keys", "arguments"],
)  # fmt: skip
def test_cosmetic_changes_are_no_edits(path: Path, shown: Object) -> None:
    text = "" if shown["content"] is None else "look here"
    later = [user("a"), shown, result(0, "out"), user("b")]
    runs = log(path, ([user("a")], response(reply(0, text=text))), (later, response(said("ok"))))
    assert runs.trajectories.collect().height == 1
    assert steps(runs, "history_edit") == [("none",), ("none",)]


# ---------------------------------------------------------------------- which run a call belongs to


def test_interleaved_agents_are_runs_of_their_own(path: Path) -> None:
    one, two = history(4, keep=True), history(4, keep=True)
    other = [([*m[:1], user("write docs"), *m[2:]], body) for m, body in two]
    for _, body in other:
        body["choices"][0]["message"]["content"] = "docs"
    for number, (messages, _) in enumerate(other):
        messages[2:] = [
            {**m, "content": "docs"} if m["role"] == "assistant" else m for m in messages[2:]
        ]
        assert len(messages) == 2 + 2 * number
    mixed = [call for pair in zip(one, other, strict=True) for call in pair]
    runs = log(path, *mixed)
    assert runs.trajectories.collect()["steps"].to_list() == [4, 4]
    assert steps(runs, "history_edit") == [("none",)] * 8
    users = runs.events.filter(pl.col("kind") == "user").collect()["text"].to_list()
    assert users == ["fix it", "write docs"]


def test_the_same_first_request_again_is_another_run(path: Path) -> None:
    runs = log(path, *history(2, keep=True), *history(2, keep=True))
    assert runs.trajectories.collect()["steps"].to_list() == [2, 2]


def test_the_same_request_after_an_error_is_the_same_run(path: Path) -> None:
    failed = {"error": {"message": "slow down", "type": "rate_limit_error"}}
    runs = log(
        path,
        ([user("a")], failed),
        ([user("a")], response(reply(0))),
        ([user("a"), reply(0), result(0, "out")], failed),
        ([user("a"), reply(0), result(0, "out")], response(said("ok"))),
    )
    assert kinds(runs) == ["user", "error", "tool_call", "tool_result", "error", "message"]
    assert steps(runs, "error", "history_edit") == [
        ("slow down", "none"),
        (None, "none"),
        ("slow down", "none"),
        (None, "none"),
    ]
    errors = runs.events.filter(pl.col("kind") == "error").collect()
    assert errors["error_type"].to_list() == ["rate_limit_error"] * 2


def test_an_empty_reply_that_is_asked_for_again_is_the_same_run(path: Path) -> None:
    runs = log(
        path,
        ([user("a")], response({"role": "assistant", "content": None})),
        ([user("a")], response(said("ok"))),
    )
    assert steps(runs, "history_edit") == [("none",), ("none",)]
    assert kinds(runs) == ["user", "message"]


def test_a_reply_taken_back_is_missing_from_the_next_context(path: Path) -> None:
    runs = log(
        path,
        ([user("a")], response(reply(0))),
        ([user("a"), reply(0), result(0, "out")], response(said("malformed"))),
        ([user("a"), reply(0), result(0, "out")], response(reply(1))),
        ([user("a"), reply(0), result(0, "out"), reply(1), result(1, "x")], response(said("ok"))),
    )
    assert kinds(runs) == [
        *("user", "tool_call", "tool_result"),
        *("message", "tool_call", "tool_result", "message"),
    ]
    assert steps(runs, "history_edit") == [("none",), ("none",), ("truncated",), ("truncated",)]
    assert ranges(runs)[2:] == [[(0, 3)], [(0, 3), (4, 6)]]


def test_unrecorded_history_is_told_from_the_first_request(path: Path) -> None:
    before = [SYSTEM, user("a"), reply(0, "thought 0"), result(0, "out"), user("b")]
    runs = log(path, (before, response(said("ok"))))
    assert kinds(runs) == [
        "system",
        "user",
        "thinking",
        "tool_call",
        "tool_result",
        "user",
        "message",
    ]
    assert steps(runs, "evidence", "thinking_sent", "model") == [
        ("unknown", None, None),
        ("wire", 1, "m-1"),
    ]


def test_a_reply_begun_by_the_client_is_no_call(path: Path) -> None:
    runs = log(path, ([user("a"), said("Sure, ")], response(said("here it is"))))
    events = runs.events.select("kind", "actor", "step").collect().rows()
    assert events == [("user", None, None), ("message", "prefill", None), ("message", None, 0)]


def test_of_several_replies_the_one_gone_on_with_is_told(path: Path) -> None:
    body = response(said("first"))
    body["choices"].append({"index": 1, "message": {**said("second"), "reasoning": "hm"}})
    later = [user("a"), {**said("second"), "reasoning": "hm"}, user("b")]
    runs = log(path, ([user("a")], body), (later, response(said("ok"))))
    texts = runs.events.filter(pl.col("kind") == "message").collect()["text"].to_list()
    assert texts == ["second", "ok"]
    assert steps(runs, "thinking_sent", "history_edit") == [(0, "none"), (1, "none")]
    assert problems(runs) == [
        "2 replies to one request; the one that the client went on with is told"
    ]


# ---------------------------------------------------------------------- edits of history


def test_a_history_cut_at_its_front_stays_one_run(path: Path) -> None:
    calls = history(6, keep=True)
    shortened = [
        (messages if len(messages) <= 8 else [*messages[:2], *messages[-4:]], body)
        for messages, body in calls
    ]
    runs = log(path, *shortened)
    assert runs.trajectories.collect()["steps"].to_list() == [6]
    assert steps(runs, "history_edit") == [("none",)] * 4 + [("truncated",)] * 2
    assert ranges(runs)[4:] == [[(0, 2), (8, 14)], [(0, 2), (11, 17)]]
    assert steps(runs, "thinking_available", "thinking_sent")[4:] == [(4, 2), (5, 2)]
    assert kinds(runs).count("tool_result") == 5


def test_a_window_without_its_first_message_stays_one_run(path: Path) -> None:
    calls = history(6, keep=True)
    runs = log(path, *[(m if len(m) <= 6 else m[-4:], body) for m, body in calls])
    assert runs.trajectories.collect()["steps"].to_list() == [6]
    assert ranges(runs)[-1] == [(11, 17)]


def test_a_window_over_short_replies_stays_one_run(path: Path) -> None:
    messages: list[Object] = []
    calls: list[tuple[list[Object], Object]] = []
    for number in range(4):
        messages.append(user(f"question {number}"))
        calls.append((messages[-3:], response(said("ok"))))
        messages.append(said("ok"))
    runs = log(path, *calls)
    assert runs.trajectories.collect()["steps"].to_list() == [4]
    assert ranges(runs) == [[(0, 1)], [(0, 3)], [(2, 5)], [(4, 7)]]


def test_an_elided_result_that_lost_its_call_is_not_told_twice(path: Path) -> None:
    calls = history(4, keep=True)
    request = calls[3][0]
    assert request[5]["role"] == "tool"
    calls[3] = ([*request[:4], {**request[5], "content": "[elided]"}, *request[6:]], calls[3][1])
    runs = log(path, *calls)
    assert "[elided]" not in runs.events.collect()["text"].to_list()
    assert runs.trajectories.collect()["orphan_results"].to_list() == [0]
    assert ranges(runs)[-1] == [(0, 5), (8, 11)]


def test_elided_results_are_not_told_twice(path: Path) -> None:
    calls = history(4, keep=True)
    elided = [
        (
            [
                {**m, "content": "[elided]"} if m["role"] == "tool" and i < len(messages) - 1 else m
                for i, m in enumerate(messages)
            ],
            body,
        )
        for messages, body in calls
    ]
    runs = log(path, *elided)
    assert kinds(runs).count("tool_result") == 3
    in_its_place = runs.events.filter(pl.col("text") == "[elided]").collect()
    assert in_its_place.select("kind", "error_type").rows() == [("other", "rewritten")] * 2
    assert steps(runs, "history_edit") == [("none",), ("none",), ("truncated",), ("truncated",)]
    assert ranges(runs)[-1] == [(0, 4), (5, 7), (8, 13)]


def test_a_reply_in_the_words_of_the_client_is_what_the_model_was_shown(path: Path) -> None:
    shown = {"role": "assistant", "content": "I called: step 0"}
    runs = log(
        path,
        ([user("a")], response(reply(0, text="I call"))),
        ([user("a"), shown, user("and then?")], response(said("ok"))),
        ([user("a"), shown, user("and then?"), said("ok"), user("b")], response(said("end"))),
    )
    told = runs.events.filter(pl.col("error_type") == "rewritten").collect()
    assert told.select("kind", "actor", "text").rows() == [("other", "client", shown["content"])]
    seq = told["seq"][0]
    said_by_the_model = runs.events.filter(pl.col("text") == "I call").collect()["seq"][0]
    contexts = ranges(runs)
    for context in contexts[1:]:
        assert any(start <= seq < stop for start, stop in context)
        assert not any(start <= said_by_the_model < stop for start, stop in context)


def test_what_responses_say_beside_their_replies_is_kept(path: Path) -> None:
    bodies: list[Object] = []
    for number in range(2):
        body = response(said(f"answer {number}"))
        body.update(id=f"r{number}", service_tier="flex", system_fingerprint=f"fp_{number}")
        body["choices"][0].update(index=0, native_finish_reason="STOP")
        cached = {"cached_tokens": 0, "audio_tokens": 2}
        body["usage"] = {"prompt_tokens": 5, "prompt_tokens_details": cached, "queue_time": 0.25}
        bodies.append(body)
    asked = [user("a")], [user("a"), said("answer 0"), user("b")]
    runs = log(path, *zip(asked, bodies, strict=True))
    metadata = json.loads(runs.trajectories.collect()["metadata"][0])
    assert metadata["response"] == {
        "service_tier": "flex",
        "system_fingerprint": ["fp_0", "fp_1"],
        "native_finish_reason": "STOP",
    }
    assert metadata["usage"] == {"prompt_tokens_details/audio_tokens": 4, "queue_time": 0.5}


def test_the_details_of_an_error_are_kept(path: Path) -> None:
    error = {"message": "too long", "type": "invalid_request", "code": "limit", "param": "messages"}
    runs = log(path, ([user("a")], {"error": error}))
    assert steps(runs, "error") == [("too long",)]
    metadata = json.loads(runs.trajectories.collect()["metadata"][0])
    assert metadata["response"] == {"error": {"code": "limit", "param": "messages"}}


def test_a_call_taken_out_of_a_reply_is_an_edit(path: Path) -> None:
    runs = log(
        path,
        ([user("a")], response(reply(0, text="look"))),
        ([user("a"), said("look"), user("no such tool")], response(said("sorry"))),
    )
    assert kinds(runs) == ["user", "message", "tool_call", "user", "message"]
    assert steps(runs, "history_edit") == [("none",), ("truncated",)]
    assert ranges(runs)[1] == [(0, 4)]


def summarised(tools: Any, system: Object = SYSTEM) -> list[tuple[list[Object], Object]]:
    calls = history(3, keep=True)
    summary = "The bug is in the parser; its test is written. " * 6
    ask = [*calls[-1][0], reply(2, "thought 2"), result(2, "out 2"), user("Sum it up.")]
    calls.append((ask, response(said(summary))))
    go_on = [system, user(f"Summary of the work so far: {summary}")]
    calls.append((go_on, response(reply(9, "thought 9"))))
    calls.append(([*go_on, reply(9, "thought 9"), result(9, "x")], response(said("done"))))
    return calls


def test_a_summary_by_the_client_is_a_compaction(path: Path) -> None:
    runs = log(path, *summarised(TOOLS), tools=TOOLS)
    assert runs.trajectories.collect()["steps"].to_list() == [6]
    assert steps(runs, "history_edit", "thinking_available", "thinking_sent")[4:] == [
        ("compacted", 3, 0),
        ("compacted", 4, 1),
    ]
    new = runs.events.filter(pl.col("text").str.starts_with("Summary of")).collect()["seq"].item()
    assert ranges(runs)[4:] == [[(0, 1), (new, new + 1)], [(0, 1), (new, new + 4)]]


def test_another_agent_that_is_given_a_reply_is_no_compaction(path: Path) -> None:
    other = {"role": "system", "content": "You review work."}
    runs = log(path, *summarised(TOOLS, other), tools=TOOLS)
    assert runs.trajectories.collect()["steps"].to_list() == [4, 2]


def test_changed_system_prompt_and_tools_are_told_when_they_change(path: Path) -> None:
    path.write_text(
        "\n".join(
            json.dumps(line)
            for line in (
                {"request": {"messages": [SYSTEM, user("a")], "tools": TOOLS, "temperature": 0}, "response": response(reply(0))},
                {"request": {"messages": [{"role": "system", "content": "Be quick."}, user("a"), reply(0), result(0, "x")], "temperature": 1}, "response": response(said("ok"))},
            )
        )
    )  # fmt: skip
    runs = loaders.load(path)
    assert kinds(runs) == ["system", "user", "tool_call", "system", "tool_result", "message"]
    assert ranges(runs) == [[(0, 2)], [(1, 5)]]
    toolsets = [toolset for (toolset,) in steps(runs, "toolset")]
    assert toolsets[0] != toolsets[1]
    row = runs.trajectories.collect().row(0, named=True)
    assert json.loads(row["params"]) == {"temperature": 0}
    assert json.loads(row["metadata"]) == {"params_changed": {"temperature": [0, 1]}}


# ---------------------------------------------------------------------- what may be wrong


def test_missing_and_odd_responses_are_problems(path: Path) -> None:
    lines = [
        {"type": "request", "request_params": {"messages": [user("a")]}},
        {"type": "request", "request_params": {"messages": [user("b")]}},
        {"type": "response", "response": response(said("to a"))},
        {"type": "response", "response": {"choices": [{"message": 7}]}},
        {"type": "response", "response": response(said("to nobody"))},
        {"type": "weather"},
        [1, 2],
    ]
    path.write_text("\n".join(json.dumps(line) for line in lines) + '\n{"type": "resp')
    runs = loaders.load(path)
    messages = runs.events.filter(pl.col("kind") == "message").collect()["text"].to_list()
    assert messages == ["to a", "to nobody"]
    assert runs.trajectories.collect()["steps"].to_list() == [1, 1, 1]
    reasons = problems(runs)
    assert sum("neither a message nor a row" in reason for reason in reasons) == 2
    assert sum("JSON" in reason for reason in reasons) == 1


def test_responses_find_their_requests_by_number(path: Path) -> None:
    lines = [
        {"type": "request", "request_id": 1, "request_params": {"messages": [user("a")]}},
        {"type": "request", "request_id": 2, "request_params": {"messages": [user("b")]}},
        {"type": "response", "request_id": 2, "response": response(said("to b"))},
        {"type": "response", "request_id": 1, "response": response(said("to a"))},
    ]
    path.write_text("\n".join(json.dumps(line) for line in lines))
    events = loaders.load(path).events.select("run", "text").collect().rows()
    assert events == [(0, "a"), (0, "to a"), (1, "b"), (1, "to b")]


@pytest.mark.parametrize("junk", [None, 7, "x", [], {}, [[]], {"a": None}, [None, 3], True])
def test_hostile_values_do_not_stop_the_rest(path: Path, junk: Any) -> None:
    answer = response(said("r"))
    calls: list[Any] = [
        {"request": {"messages": [user("a")], key: junk}, "response": answer}
        for key in ("messages", "tools", "model", "temperature")
    ]
    for key in ("role", "content", "tool_calls", "reasoning_details", "function_call", "name"):
        message = {"role": "assistant", "content": "x", key: junk}
        calls.append(
            {"request": {"messages": [user("a"), message, junk]}, "response": response(message)}
        )
    calls.append(
        {
            "request": {"messages": [user("a")]},
            "response": {"choices": [junk, {"message": {}}], "usage": junk},
        }
    )
    calls.append({"request": {"messages": [user("last")]}, "response": response(said("end"))})
    path.write_text("\n".join(json.dumps(call) for call in calls))  # fmt: skip
    runs = loaders.load(path, format="openai_chat")
    assert runs.events.filter(pl.col("text") == "end").collect().height == 1
    assert not [reason for reason in problems(runs) if "Error:" in reason]


def test_time_grows_with_the_size_of_the_log(tmp_path: Path) -> None:
    """A sliding window over a long run: each request is short, however many turns are known."""

    def seconds(count: int) -> float:
        calls = [(m if len(m) <= 6 else m[-4:], body) for m, body in windows(count)]
        path = tmp_path / f"{count}.jsonl"
        start = time.perf_counter()
        runs = log(path, *calls)
        assert runs.trajectories.collect()["steps"].to_list() == [count]
        return time.perf_counter() - start

    seconds(50)
    assert seconds(4_000) < 12 * max(seconds(1_000), 0.05)


def windows(count: int) -> list[tuple[list[Object], Object]]:
    messages = [SYSTEM, user("fix it")]
    calls: list[tuple[list[Object], Object]] = []
    for number in range(count):
        answer = reply(number, f"thought {number}")
        calls.append((messages[:2] + messages[2:][-4:], response(answer)))
        messages += [answer, result(number, f"out {number}")]
    return calls


# ---------------------------------------------------------------------- any client


@st.composite
def clients(draw: st.DrawFn) -> list[tuple[list[Object], Object]]:
    """Calls of a client that edits its history as it likes, but goes on from its last reply."""
    history: list[Object] = [SYSTEM, user("task")]
    calls: list[tuple[list[Object], Object]] = []
    for number in range(draw(st.integers(1, 7))):
        middle = [message for message in history[2:-2] if draw(st.booleans())]
        request = [*history[:2], *middle, *history[2:][-2:]]
        request = [without_thinking(m) if draw(st.booleans()) else m for m in request]
        if draw(st.booleans()):
            calls.append((request, {"error": {"message": f"error {number}"}}))
        answer = reply(number, f"thought {number}", text=f"text {number}")
        calls.append((request, response(answer)))
        history += [answer, result(number, f"result {number}")]
    return calls


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(calls=clients())
def test_whatever_a_client_sends_is_the_context(
    path: Path, calls: list[tuple[list[Object], Object]]
) -> None:
    runs = log(path, *calls)
    assert runs.trajectories.collect()["steps"].to_list() == [len(calls)]
    events = runs.events.collect()
    told, is_thinking = events["text"].to_list(), (events["kind"] == "thinking").to_list()
    assert len({text for text in told if text}) == len([text for text in told if text])
    for (request, _), step in zip(calls, runs.steps.collect().iter_rows(named=True), strict=True):
        shown = [seq for part in step["context"] for seq in range(part["start"], part["stop"])]
        texts = {told[seq] for seq in shown if told[seq] and not is_thinking[seq]}
        assert texts == {message["content"] for message in request}
        thoughts = {m["reasoning_content"] for m in request if "reasoning_content" in m}
        ranges = [
            seq for part in step["thinking_context"] for seq in range(part["start"], part["stop"])
        ]
        assert {told[seq] for seq in ranges if is_thinking[seq]} == thoughts
        assert step["thinking_sent"] == len(thoughts)
