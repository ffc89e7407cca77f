"""What the calls of Inspect logs saw: thinking in their requests, and edited histories."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from inspect_cases import (
    message,
    metadata_of,
    model,
    ranges,
    reader,
    reply,
    sample,
    span,
    steps,
    told,
)

from loaders.context import ThinkingWitness


@pytest.fixture
def load(tmp_path: Path) -> Any:
    return reader(tmp_path)


# ---------------------------------------------------------------------- what was in the request


def one_thought(part: dict[str, Any], key: str, sent: list[Any]) -> dict[str, Any]:
    """A reply with this reasoning and a call, then a call whose request is given."""
    output = reply("", None, "c1")
    output["content"] = [{"type": "reasoning", **part}]
    second = model([message("user", "q"), output, message("tool", "o", tool_call_id="c1")], None)
    second["call"] = {"request": {"model": "m", key: sent}}
    return sample(model([message("user", "q")], output), second)


OPENROUTER = [{"type": "reasoning.text", "text": "deep thought", "signature": "sig"}]
WIRES: list[tuple[str, dict[str, Any], str, list[Any], int]] = [
    (
        "chat field",
        {"reasoning": "deep thought"},
        "messages",
        [{"role": "assistant", "content": "", "reasoning_content": "deep thought"}],
        1,
    ),
    (
        "chat without",
        {"reasoning": "deep thought"},
        "messages",
        [{"role": "assistant", "content": "", "tool_calls": [{"id": "c1"}]}],
        0,
    ),
    (
        "think tags",
        {"reasoning": "deep thought"},
        "messages",
        [{"role": "assistant", "content": "<think>\ndeep thought\n</think>"}],
        1,
    ),
    (
        "words of the user",
        {"reasoning": "deep thought"},
        "messages",
        [{"role": "user", "content": "deep thought"}, {"role": "assistant", "content": "a"}],
        0,
    ),
    (
        "Anthropic signature",
        {"reasoning": "", "signature": "signed"},
        "messages",
        [{"role": "assistant", "content": [{"type": "thinking", "signature": "signed"}]}],
        1,
    ),
    (
        "Responses items",
        {"reasoning": "crypt", "summary": "short", "redacted": True, "signature": "rs_1"},
        "input",
        [
            {"role": "user", "content": "q"},
            {"type": "reasoning", "encrypted_content": "crypt", "summary": []},
            {"type": "function_call", "call_id": "c1"},
            {"type": "function_call_output", "call_id": "c1", "output": "o"},
        ],
        1,
    ),
    (
        "Responses items without",
        {"reasoning": "crypt", "summary": "short", "redacted": True, "signature": "rs_1"},
        "input",
        [
            {"role": "user", "content": "q"},
            {"type": "function_call", "call_id": "c1"},
            {"type": "function_call_output", "call_id": "c1", "output": "crypt"},
        ],
        0,
    ),
    (
        "Google parts",
        {"reasoning": "a+b/c=", "redacted": True},
        "contents",
        [
            {"role": "user", "parts": [{"text": "q"}]},
            {"role": "model", "parts": [{"functionCall": {}, "thoughtSignature": "a-b_c="}]},
        ],
        1,
    ),
    (
        "OpenRouter details",
        {"reasoning": "shown", "signature": "reasoning-details://" + json.dumps(OPENROUTER)},
        "messages",
        [{"role": "assistant", "content": "", "reasoning_details": OPENROUTER}],
        1,
    ),
    (
        "more turns than in the input: matched by the call",
        {"reasoning": "deep thought"},
        "messages",
        [
            {"role": "assistant", "content": "prefix"},
            {"role": "user", "content": "q"},
            {"role": "assistant", "content": "so: deep thought", "tool_calls": [{"id": "c1"}]},
        ],
        1,
    ),
    (
        "one text for all: matched by think tags",
        {"reasoning": "deep thought"},
        "prompt",
        ["user: q\nassistant: <think>deep thought</think>"],
        1,
    ),
]


@pytest.mark.parametrize(("name", "part", "key", "sent", "found"), WIRES, ids=[w[0] for w in WIRES])
def test_thinking_is_found_in_the_requests_of_every_provider(
    load: Any, name: str, part: dict[str, Any], key: str, sent: list[Any], found: int
) -> None:
    row = steps(load(one_thought(part, key, sent)))[1]
    assert (row["thinking_available"], row["thinking_sent"]) == (1, found), name
    assert row["evidence"] == "request"
    assert row["history_edit"] == ("none" if found else "thinking_dropped")


@pytest.mark.parametrize("call", [None, {}, {"request": None}, {"request": {"model": "m"}}])
def test_without_the_request_nothing_is_said_of_thinking(load: Any, call: Any) -> None:
    first, second = one_thought({"reasoning": "t"}, "messages", [])["events"]
    runs = load(sample(first, {**second, "call": call}))
    row = steps(runs)[1]
    assert (row["thinking_sent"], row["evidence"], row["history_edit"]) == (None, "unknown", None)
    assert ranges(row) == [(0, 4)], "the context is known all the same"


def test_replies_that_follow_each_other_are_one_turn(load: Any) -> None:
    ask, one, two = message("user", "q", id="u"), reply("1", "first"), reply("2", "second")
    sent_one, sent_two = (
        {"role": "assistant", "reasoning_content": t} for t in ("first", "second")
    )
    note, other_note = message("user", "a"), message("user", "b")
    runs = load(
        sample(
            model([ask], one, [ask]),
            model([ask, one, note], two, [ask, sent_one, note]),
            model([ask, one, two, other_note], None, [ask, sent_one, sent_two, other_note]),
        )
    )
    assert [row["thinking_sent"] for row in steps(runs)] == [0, 1, 2]


def test_each_turn_of_a_long_run_is_searched_once(
    load: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    searched = Counter[int]()
    find = ThinkingWitness.found_in

    def counted(self: ThinkingWitness, part: Any, among: Any = None) -> set[int]:
        searched["parts"] += len(part)
        return find(self, part, among)

    monkeypatch.setattr(ThinkingWitness, "found_in", counted)
    count = 60
    pool: list[Any] = [message("user", "q")]
    events: list[Any] = []
    for number in range(count):
        output = reply(f"r{number}", f"thought {number}", f"c{number}")
        event = model([], output, input_refs=[[0, len(pool)]])
        event["call"] = {"request": {}, "call_refs": [[0, len(pool)]], "call_key": "messages"}
        events.append(event)
        pool += [output, message("tool", f"o{number}", tool_call_id=f"c{number}")]
    runs = load(sample(*events, events_data={"messages": pool, "calls": pool}))
    assert runs.steps.collect()["thinking_sent"].to_list() == list(range(count))
    assert searched["parts"] == count - 1


# ---------------------------------------------------------------------- edited histories


def conversation(length: int) -> Iterator[dict[str, Any]]:
    yield message("user", "q", id="u")
    for number in range(length):
        yield reply(f"r{number}", f"t{number}", f"c{number}", id=f"a{number}")
        yield message("tool", f"o{number}", tool_call_id=f"c{number}", id=f"o{number}")


def test_a_trimmed_history_is_truncated(load: Any) -> None:
    said = list(conversation(3))
    runs = load(
        sample(
            *(model(said[:n], said[n], said[:n]) for n in (1, 3, 5)),
            model([said[0], *said[3:]], reply("end", id="e"), [said[0], *said[3:]]),
            model([said[0], *said[3:], message("user", "more")], None),
        )
    )
    assert [row["history_edit"] for row in steps(runs)] == [*["none"] * 3, "truncated", "truncated"]
    assert ranges(steps(runs)[3]) == [(0, 1), (5, 13)]
    assert steps(runs)[3]["thinking_sent"] == 2


def test_a_branch_and_another_conversation_are_no_truncation(load: Any) -> None:
    """What a branch gave up is not missed later, when the branch has replies of its own."""
    said = list(conversation(3))
    branch = [*said[:3], message("user", "instead"), reply("b", id="b")]
    runs = load(
        sample(
            *(model(said[:n], said[n], said[:n]) for n in (1, 3, 5)),
            model(branch[:4], branch[4], said[:3]),
            model([*branch, message("user", "one way")], None, [*said[:3], reply("b")]),
            model([*branch, message("user", "other way")], None, [*said[:3], reply("b")]),
            model([message("user", "new")], reply("n"), []),
        )
    )
    assert [row["history_edit"] for row in steps(runs)] == ["none"] * 7


def test_a_prompt_that_is_replaced_at_each_call_is_no_truncation(load: Any) -> None:
    said = list(conversation(3))
    inputs = [[message("system", f"{n} calls left"), *said[:n]] for n in (1, 3, 5)]
    runs = load(sample(*(model(shown, said[len(shown) - 1], shown) for shown in inputs)))
    assert [row["history_edit"] for row in steps(runs)] == ["none"] * 3
    assert told(runs, "kind").count("system") == 3
    assert all((0, 1) not in ranges(row) for row in steps(runs)[1:])


def compaction(kind: str) -> dict[str, Any]:
    return {"event": "compaction", "type": kind, "tokens_before": 900, "tokens_after": 80}


def test_a_summary_is_a_compaction_with_its_text(load: Any) -> None:
    said = list(conversation(2))
    summary = message("user", "what happened so far", metadata={"summary": True})
    after = [said[0], summary, reply("on", id="on"), message("user", "more")]
    runs = load(
        sample(
            *(model(said[:n], said[n], said[:n]) for n in (1, 3)),
            compaction("summary"),
            model(after[:2], after[2], after[:2]),
            model(after, None, after),
        )
    )
    assert [row["history_edit"] for row in steps(runs)] == [
        "none",
        "none",
        "compacted",
        "compacted",
    ]
    compacted = runs.events.filter(pl.col("kind") == "compaction").collect()
    assert compacted["text"].to_list() == ["what happened so far"]
    (facts,) = metadata_of(runs)["compactions"]
    assert (facts["seq"], facts["tokens_before"]) == (compacted["seq"].item(), 900)
    assert told(runs, "kind").count("user") == 2
    assert steps(runs)[2]["thinking_sent"] == 0


def test_a_result_that_compaction_replaced_is_no_second_result(load: Any) -> None:
    said = list(conversation(2))
    cleared = [said[0], said[1], message("tool", "(removed)", tool_call_id="c0"), *said[3:]]
    runs = load(
        sample(
            *(model(said[:n], said[n], said[:n]) for n in (1, 3)),
            compaction("edit"),
            model(cleared, None, cleared),
        )
    )
    kinds = Counter[str](told(runs, "kind"))
    assert kinds["tool_result"] == 2
    assert kinds["compaction"] == 1
    replaced = runs.events.filter(pl.col("kind") == "other").collect()
    assert replaced.select("text", "call_id").rows() == [("(removed)", "c0")]
    last = steps(runs)[2]
    assert last["history_edit"] == "compacted"
    original = runs.events.filter(pl.col("text") == "o0").collect()["seq"].item()
    assert not any(start <= original < stop for start, stop in ranges(last))


def test_trimming_by_compaction_is_truncation(load: Any) -> None:
    said = list(conversation(2))
    runs = load(
        sample(
            *(model(said[:n], said[n]) for n in (1, 3)),
            compaction("trim"),
            model([said[0], *said[3:]], None),
        )
    )
    assert [row["history_edit"] for row in steps(runs)] == [None, None, "truncated"]


def test_compactions_that_no_call_followed_are_told(load: Any) -> None:
    runs = load(sample(model([], reply("a")), compaction("trim"), compaction("edit")))
    facts = [(one["seq"], one["type"]) for one in metadata_of(runs)["compactions"]]
    assert told(runs, "kind")[1:] == ["compaction", "compaction"]
    assert facts == [(1, "trim"), (2, "edit")]


def test_a_compaction_belongs_to_the_task_in_which_it_happened(load: Any) -> None:
    said = list(conversation(2))
    cut = [said[0], *said[3:]]
    runs = load(
        sample(
            *(model(said[:n], said[n]) for n in (1, 3)),
            span("task-1", "task"),
            {**compaction("summary"), "span_id": "task-1"},
            model(cut, None),
            model(said, None, span_id="task-1"),
        )
    )
    assert steps(runs)[2]["history_edit"] == "truncated"
