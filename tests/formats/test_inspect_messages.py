"""Messages of Inspect logs: each is told once, whatever its id and wherever it stands."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from inspect_cases import (
    message,
    model,
    problems,
    ranges,
    reader,
    reply,
    sample,
    steps,
    told,
)


@pytest.fixture
def load(tmp_path: Path) -> Any:
    return reader(tmp_path)


def test_references_to_attachments_are_followed_everywhere(load: Any) -> None:
    def ref(name: str) -> str:
        return f"attachment://{name}"

    tools = [{"name": "look", "description": ref("d"), "parameters": {"type": "object"}}]
    output = reply(ref("t"), ref("r"), "c")
    output["tool_calls"][0]["arguments"] = {"deep": [ref("a")]}
    runs = load(
        sample(
            model([message("user", ref("u"))], output, [], tools=tools),
            model(
                [output, message("tool", ref("o"), tool_call_id="c")],
                None,
                [message("assistant", "", reasoning_content=ref("r"))],
                tools=tools,
            ),
            messages=[message("user", "the user's words")],
            attachments={
                "u": "the user's words",
                "t": "the reply",
                "r": "the thought",
                "a": "the argument",
                "o": "the output",
                "d": "the description",
            },
        )
    )
    assert told(runs) == [
        ("user", "the user's words"),
        ("thinking", "the thought"),
        ("message", "the reply"),
        ("tool_call", None),
        ("tool_result", "the output"),
    ]
    assert told(runs, "arguments")[3] == '{"deep":["the argument"]}'
    assert runs.tools.collect()["description"].to_list() == ["the description"]
    assert steps(runs)[1]["thinking_sent"] == 1
    assert problems(runs) == []


def test_a_reference_that_leads_nowhere_is_kept_and_counted(load: Any) -> None:
    runs = load(sample(model([message("user", "attachment://gone")], None), attachments={"x": "y"}))
    assert told(runs) == [("user", "attachment://gone")]
    ((severity, reason),) = problems(runs)
    assert severity == "warning"
    assert reason == "1 attachments are not in the log: attachment://gone"


def test_messages_that_the_pool_merged_are_told_as_often_as_they_were_said(load: Any) -> None:
    """Equal messages are one pool entry; the second in an input is another message."""
    pool = [message("user", "go on", id="a"), reply("yes", id="b")]
    event = model([], reply("yes", id="b2"))
    runs = load(
        sample(
            {**event, "input_refs": [[0, 1]], "output": {"choices": [{"message": pool[1]}]}},
            {**event, "input_refs": [[0, 2], [0, 1]]},
            messages=[pool[0], pool[1], message("user", "go on", id="c"), reply("yes", id="b2")],
            events_data={"messages": pool, "calls": []},
        )
    )
    assert told(runs, "kind") == ["user", "message", "user", "message"]
    assert ranges(steps(runs)[1]) == [(0, 3)]


def test_messages_that_no_event_told_are_not_lost(load: Any) -> None:
    asked = message("user", "q", id="u")
    runs = load(
        sample(
            model([asked], reply("a", None, "c", id="r")),
            messages=[
                asked,
                reply("a", None, "c", id="r"),
                message("tool", "late", tool_call_id="c"),
                message("user", "one more", id="v"),
                message("assistant", "own words", id="w"),
            ],
        )
    )
    assert told(runs) == [
        ("user", "q"),
        ("message", "a"),
        ("tool_call", None),
        ("tool_result", "late"),
        ("user", "one more"),
        ("message", "own words"),
    ]
    assert len(steps(runs)) == 1, "words that no call put out are no step"


def test_a_log_without_events_is_told_from_its_messages(load: Any) -> None:
    runs = load(
        sample(
            messages=[
                message("user", "example?", source="input"),
                message("assistant", "example!", source="input"),
                message("user", "go on"),
                reply("a", "hm", source="generate"),
                message("user", "go on"),
                reply("b", source="generate"),
            ],
            model_usage={"m": {"input_tokens": 7, "output_tokens": 2, "total_tokens": 9}},
        )
    )
    assert told(runs, "kind") == [
        "user",
        "message",
        "user",
        "thinking",
        "message",
        "user",
        "message",
    ]
    assert [(row["seq"], row["context"], row["evidence"]) for row in steps(runs)] == [
        (3, None, "unknown"),
        (6, None, "unknown"),
    ]
    assert runs.trajectories.collect()["input_tokens"].item() == 7


def test_results_of_tools_that_only_their_events_show(load: Any) -> None:
    ran = {"event": "tool", "function": "look", "timestamp": "2026-01-01T00:00:00Z"}
    runs = load(
        sample(
            {**ran, "id": "0", "arguments": {"by": "solver"}, "result": "before any call"},
            model([message("user", "q")], reply("", None, "1", "2", "3")),
            {**ran, "id": "1", "result": "fine", "completed": "2026-01-01T00:00:02.5Z"},
            {**ran, "id": "2", "result": "", "error": {"type": "timeout", "message": "too slow"}},
            {**ran, "id": "3", "pending": True},
        )
    )
    events = runs.events.collect()
    assert events.row(0, named=True)["kind"] == "other"
    assert json.loads(events.row(0, named=True)["text"]) == {
        "function": "look",
        "arguments": {"by": "solver"},
        "result": "before any call",
    }
    results = events.filter(pl.col("kind") == "tool_result")
    assert results.select("text", "is_error", "error_type", "duration_s").rows() == [
        ("fine", False, None, 2.5),
        ("too slow", True, "timeout", None),
    ]
    assert runs.trajectories.collect()["unanswered_calls"].item() == 1


def test_an_error_reads_as_the_model_read_it_with_partial_output_behind(load: Any) -> None:
    failed = {"type": "timeout", "message": "too slow"}
    answers = [
        message("tool", "half", tool_call_id="1", error=failed),
        message("tool", "", tool_call_id="2", error=failed),
        message("tool", "", tool_call_id="3", tool_error="old style"),
    ]
    asked = [message("user", "q"), reply("", None, "1", "2", "3")]
    runs = load(sample(model(asked[:1], asked[1]), model([*asked, *answers], None)))
    results = runs.events.filter(pl.col("kind") == "tool_result").collect()
    assert results["text"].to_list() == ["too slow\nhalf", "too slow", "old style"]
    assert results["is_error"].to_list() == [True] * 3
    assert results["source_pos"].str.split("/").list.last().to_list() == [
        "2",
        "message",
        "tool_error",
    ]


def test_neighbours_that_were_sent_as_one_message_are_told_once(load: Any) -> None:
    runs = load(
        sample(
            model([message("user", "a\nb", id="ab")], reply("r", id="r")),
            messages=[
                message("user", "a", id="a"),
                message("user", "b", id="b"),
                reply("r", id="r"),
                message("user", "c"),
            ],
        )
    )
    assert told(runs) == [("user", "a\nb"), ("message", "r"), ("user", "c")]


def test_a_reply_stripped_under_a_new_id_is_still_this_reply(load: Any) -> None:
    asked = message("user", "q", id="u")
    runs = load(
        sample(
            model([asked], reply("same", "first", id="r1")),
            model(
                [asked, reply("same", id="x1"), message("user", "n")],
                reply("same", "second", id="r2"),
            ),
            model(
                [asked, reply("same", id="y1"), message("user", "n"), reply("same", id="y2")],
                None,
            ),
        )
    )
    assert told(runs, "kind").count("message") == 2
    assert ranges(steps(runs)[2]) == [(0, 6)]


def test_a_reply_with_calls_trimmed_or_merged_with_the_next_is_still_known(load: Any) -> None:
    ask, two = message("user", "q", id="u"), reply("x", "t", "c1", "c2", id="r1")
    result = message("tool", "o", tool_call_id="c2", id="o2")
    trimmed = reply("x (one call removed)", None, "c2", id="new1")
    last = reply("end", id="r2")
    merged = message("assistant", "x\nend", id="new2", metadata={"combined_from": ["r1", "r2"]})
    runs = load(
        sample(model([ask], two), model([ask, trimmed, result], last), model([ask, merged], None))
    )
    assert told(runs, "kind").count("message") == 2
    assert ranges(steps(runs)[1]) == [(0, 6)]
    assert ranges(steps(runs)[2]) == [(0, 5), (6, 7)]


def test_a_result_whose_images_were_moved_is_told_as_it_was_sent(load: Any) -> None:
    """Some providers take no images in tool results: Inspect sends them as a user message."""
    ask, look = message("user", "q", id="u"), reply("", None, "c", id="r")
    image = {"type": "image", "image": "data:image/png;base64,AA"}
    sent = message("tool", [{"type": "text", "text": "(image below)"}], tool_call_id="c")
    runs = load(
        sample(
            model([ask], look),
            model([ask, look, sent, message("user", [image])], reply("seen", id="e")),
            messages=[
                ask,
                look,
                message("tool", [image], tool_call_id="c", id="o"),
                reply("seen", id="e"),
            ],
        )
    )
    assert told(runs, "kind") == ["user", "tool_call", "tool_result", "user", "message"]
    assert told(runs, "text")[2] == "(image below)"
    assert told(runs, "media")[3] == ["image"]


def test_an_id_says_which_of_equal_messages_is_meant(load: Any) -> None:
    """After trimming, the first "go on" of an input is the second that was said."""
    said = [
        message("user", "go on", id="u1"),
        reply("yes", id="a1"),
        message("user", "go on", id="u2"),
        reply("yes", id="a2"),
    ]
    runs = load(sample(model(said[:1], said[1]), model(said[:3], said[3]), model(said[2:], None)))
    assert told(runs, "kind") == ["user", "message", "user", "message"]
    assert ranges(steps(runs)[2]) == [(2, 4)]


def test_parts_of_a_reply(load: Any) -> None:
    content = [
        {"type": "reasoning", "reasoning": "plain", "signature": "s1"},
        {"type": "reasoning", "reasoning": "", "summary": "short", "signature": "s2"},
        {"type": "reasoning", "reasoning": "", "signature": "s3"},
        {"type": "reasoning", "reasoning": "crypt", "redacted": True},
        {"type": "reasoning", "reasoning": "crypt2", "summary": "short2", "redacted": True},
        {"type": "reasoning", "reasoning": ""},
        {"type": "text", "text": "<think>tagged</think>said"},
        {"type": "text", "text": "no", "refusal": True},
        {
            "type": "tool_use",
            "tool_type": "web_search",
            "id": "w",
            "name": "search",
            "arguments": "{}",
            "result": "hits",
        },
        {"type": "image", "image": "data:image/png;base64,AA"},
        {"type": "data", "data": {"k": 1}},
    ]
    runs = load(sample(model([], {"role": "assistant", "content": content})))
    assert told(runs, "kind", "text", "thinking_state", "signature") == [
        ("thinking", "plain", "text", "s1"),
        ("thinking", "short", "summary", "s2"),
        ("thinking", None, "hidden", "s3"),
        ("thinking", None, "redacted", "crypt"),
        ("thinking", "short2", "summary", "crypt2"),
        ("thinking", "tagged", "tagged_in_text", None),
        ("message", "said", None, None),
        ("message", "no", None, None),
        ("tool_call", None, None, None),
        ("tool_result", "hits", None, None),
        ("message", None, None, None),
        ("other", '{"k":1}', None, None),
    ]
    assert told(runs, "error_type")[7] == "refusal"
    assert told(runs, "media")[10] == ["image"]
    assert steps(runs)[0]["thinking"] == "text"


def test_times_are_the_samples_or_those_of_its_events(load: Any) -> None:
    first = model([], reply("a"), timestamp="2026-01-01T10:00:00+00:00")
    last = model([], reply("b"), timestamp="2026-01-01T10:05:00+00:00")
    last["output"]["time"] = 2.5
    times = {"started_at": "2026-01-01T09:00:00Z", "completed_at": "2026-01-01T11:00:00Z"}
    begun = {"event": "sample_init", "timestamp": "2026-01-01T09:59:00+00:00"}
    runs = load(sample(begun, first, last), sample(begun, first, last, **times))
    rows = runs.trajectories.select("started_at", "ended_at").collect().rows()
    assert [[t.strftime("%H:%M") for t in row] for row in rows] == [
        ["09:59", "10:05"],
        ["09:00", "11:00"],
    ]
    ended = runs.steps.collect()["ended_at"].to_list()
    assert ended[0] is None
    assert ended[1].strftime("%M:%S.%f") == "05:02.500000"


def test_only_the_first_choice_is_the_reply(load: Any) -> None:
    event = model([], reply("first"))
    event["output"]["choices"].append({"message": reply("second")})
    assert told(load(sample(event))) == [("message", "first"), ("other", "second")]
