"""A recording of the requests, joined to the log that the framework wrote of the same run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import loaders
from loaders import LoadError, Trajectories
from loaders.pairing import paired_steps

Message = dict[str, Any]


def conversation(name: str, turns: int = 4, marks: bool = True) -> list[Message]:
    """What a run's own log holds: every turn but the last calls a tool."""
    log: list[Message] = [
        {"role": "system", "content": "You count."},
        {"role": "user", "content": f"Count for {name}."},
    ]
    for turn in range(turns):
        said: Message = {"role": "assistant", "content": f"turn {turn}"}
        said["reasoning_content"] = f"{name} thinks {turn}" if marks else "thinking"
        if turn < turns - 1:
            call = {"name": "count", "arguments": json.dumps({"to": turn})}
            identity = f"{name}-{turn}" if marks else f"call_{turn}"
            said["tool_calls"] = [{"id": identity, "type": "function", "function": call}]
            answer = {"role": "tool", "tool_call_id": identity, "content": f"{name} {turn}"}
            log += [said, answer]
        else:
            log.append(said)
    return log


def sent(history: list[Message], policy: str) -> list[Message]:
    """The history as a framework of that policy sends it."""
    replies = [n for n, message in enumerate(history) if message["role"] == "assistant"]
    keeping = {"all": replies, "last": replies[-1:], "none": []}[policy]
    return [
        {k: v for k, v in message.items() if k != "reasoning_content" or n in keeping}
        for n, message in enumerate(history)
    ]


def har(path: Path, *logs: tuple[list[Message], str], failing: bool = False) -> Path:
    """An archive of the calls that those runs made, one run after the other."""
    entries: list[Message] = []
    for log, policy in logs:
        for number, message in enumerate(log):
            if message["role"] != "assistant":
                continue
            request = {"model": "m-1", "messages": sent(log[:number], policy)}
            if failing and not entries:
                entries.append(entry(request, {"error": {"message": "busy"}}, 0, 529))
            usage = {"prompt_tokens": 10 + number, "completion_tokens": 5}
            reply = {"model": "m-1", "choices": [{"message": message}], "usage": usage}
            entries.append(entry(request, reply, len(entries), 200))
    path.write_text(json.dumps({"log": {"version": "1.2", "creator": {}, "entries": entries}}))
    return path


def entry(request: Message, reply: Message, second: int, status: int) -> Message:
    body = {"mimeType": "application/json", "text": json.dumps(request)}
    url = "http://127.0.0.1/v1/chat/completions"
    return {
        "startedDateTime": f"2026-01-01T00:{second // 60:02}:{second % 60:02}Z",
        "time": 10,
        "request": {"method": "POST", "url": url, "postData": body, "headers": []},
        "response": {"status": status, "content": {"text": json.dumps(reply)}, "headers": []},
    }


def steps(runs: Trajectories) -> pl.DataFrame:
    return runs.steps.collect()


@pytest.mark.parametrize(
    ("policy", "expected", "edits"),
    [
        ("all", [0, 1, 2, 3], ["none"] * 4),
        ("last", [0, 1, 1, 1], ["none", "none", "thinking_dropped", "thinking_dropped"]),
        ("none", [0, 0, 0, 0], ["none", *["thinking_dropped"] * 3]),
    ],
)
def test_what_was_sent_comes_from_the_wire(
    policy: str, expected: list[int], edits: list[str], tmp_path: Path
) -> None:
    log = conversation("a")
    runs = loaders.from_messages(log)
    assert steps(runs)["thinking_sent"].to_list() == [None] * 4
    seen = loaders.attach_wire(runs, har(tmp_path / "wire.har", (log, policy)))
    found = steps(seen)
    assert found["thinking_sent"].to_list() == expected
    assert found["thinking_available"].to_list() == [0, 1, 2, 3]
    assert found["history_edit"].to_list() == edits
    assert found["evidence"].to_list() == ["wire"] * 4
    assert found["input_tokens"].to_list() == [12, 14, 16, 18]
    assert [piece[0]["stop"] for piece in found["context"].to_list()] == found["seq"].to_list()
    thinking = seen.events.filter(pl.col("kind") == "thinking").collect()["seq"].to_list()
    last = {"all": [0, 2], "last": [2, 2], "none": None}[policy]
    wanted = [] if last is None else [{"start": thinking[last[0]], "stop": thinking[last[1]] + 1}]
    assert found["thinking_context"].to_list()[3] == wanted
    assert seen.events.collect().equals(runs.events.collect())
    assert seen.problems.collect().is_empty()
    assert seen.trajectories.collect()["wire"][0].startswith((tmp_path / "wire.har").as_posix())


def test_each_run_finds_its_own_recording(tmp_path: Path) -> None:
    logs = [conversation(name) for name in "abc"]
    wire = har(tmp_path / "wire.har", (logs[2], "none"), (logs[0], "all"), (logs[1], "last"))
    seen = loaders.attach_wire(loaders.from_messages(logs), wire)
    last = steps(seen).group_by("run", maintain_order=True).last()
    assert last["thinking_sent"].to_list() == [3, 1, 0]


def test_runs_of_equal_calls_are_told_apart_by_what_they_said(tmp_path: Path) -> None:
    # Call ids, arguments and thinking are the same in both: only texts of replies tell them apart.
    logs = [conversation(name, marks=False) for name in "ab"]
    for log, name in zip(logs, "ab", strict=True):
        log[-1]["content"] = f"done with {name}"
    wire = har(tmp_path / "wire.har", (logs[1], "none"), (logs[0], "all"))
    seen = loaders.attach_wire(loaders.from_messages(logs), wire)
    last = steps(seen).group_by("run", maintain_order=True).last()
    assert last["thinking_sent"].to_list() == [3, 0]


def test_thinking_that_the_log_does_not_hold_is_known_from_the_wire(tmp_path: Path) -> None:
    log = conversation("a")
    bare = [{k: v for k, v in m.items() if k != "reasoning_content"} for m in log]
    seen = loaders.attach_wire(
        loaders.from_messages(bare), har(tmp_path / "wire.har", (log, "none"))
    )
    found = steps(seen)
    assert found["thinking"].to_list() == ["text"] * 4
    assert found["thinking_chars"].to_list() == [len("a thinks 0")] * 4
    assert found["thinking_available"].to_list() == [0, 1, 2, 3]
    assert found["thinking_sent"].to_list() == [0] * 4
    assert found["thinking_context"].to_list() == [[]] * 4
    assert not seen.events.filter(pl.col("kind") == "thinking").collect().height


def test_a_history_that_was_cut_shows_in_the_numbers_of_the_run(tmp_path: Path) -> None:
    log = conversation("a", turns=5)
    path = har(tmp_path / "wire.har", (log, "all"))
    archive = json.loads(path.read_text())
    last = archive["log"]["entries"][-1]["request"]["postData"]
    request = json.loads(last["text"])
    del request["messages"][2:6]  # two turns of the model and what the tools answered
    last["text"] = json.dumps(request)
    path.write_text(json.dumps(archive))
    runs = loaders.from_messages(log)
    found = steps(loaders.attach_wire(runs, path)).row(-1, named=True)
    assert found["history_edit"] == "truncated"
    assert found["thinking_sent"] == 2
    events = runs.events.collect()
    lacking = events.filter(pl.col("step").is_in([0, 1]), pl.col("kind") != "thinking")
    in_context = {n for piece in found["context"] for n in range(piece["start"], piece["stop"])}
    assert not in_context & set(lacking["seq"])
    others = events.filter(pl.col("step").is_in([2, 3]) | pl.col("step").is_null())
    assert set(others.filter(pl.col("kind") != "thinking")["seq"]) <= in_context


def test_calls_without_a_partner_are_told(tmp_path: Path) -> None:
    logs = [conversation(name) for name in "abc"]
    wire = har(tmp_path / "wire.har", (logs[0], "all"), (logs[2], "all"))
    seen = loaders.attach_wire(loaders.from_messages(logs[:2]), wire)
    problems = seen.problems.collect()
    assert problems["reason"].to_list() == [
        "4 model calls are not in the recording; what they were sent stays unknown",
        "4 model calls are in the recording and in none of the runs",
    ]
    assert steps(seen)["evidence"].to_list() == ["wire"] * 4 + ["unknown"] * 4


def test_calls_that_emitted_nothing_are_paired_by_their_place(tmp_path: Path) -> None:
    log = conversation("a")
    for message in log:
        if message["role"] == "assistant" and message["content"] in ("turn 1", "turn 2"):
            message.update(content=f"turn {message['content']}", reasoning_content="same")
    native = json.loads(json.dumps(log))
    for message in native:  # the log tells two replies in its own words
        if message.get("reasoning_content") == "same":
            message.update(content="rewritten", reasoning_content="rewritten")
            for call in message["tool_calls"]:
                call["id"] += "x"
                call["function"]["arguments"] = "{}"
    for message in native:
        if message["role"] == "tool" and message["tool_call_id"] in ("a-1", "a-2"):
            message["tool_call_id"] += "x"
    runs = loaders.from_messages(native)
    recorded = loaders.load(har(tmp_path / "wire.har", (log, "all")))
    assert paired_steps(runs, recorded) == {(0, n): (0, n) for n in range(4)}


def test_a_recording_of_other_runs_is_refused(tmp_path: Path) -> None:
    wire = har(tmp_path / "wire.har", (conversation("z", turns=1), "all"))
    log = conversation("a", turns=1)
    log[-1].update(content="something else")
    with pytest.raises(LoadError, match="No call of these runs is in the recording"):
        loaders.attach_wire(loaders.from_messages(log), wire)


def test_a_long_run_under_the_policy_of_the_last(tmp_path: Path) -> None:
    """Of three hundred calls under a policy of the last: one range each, not a trail of holes."""
    log = conversation("a", turns=300)
    recorded = loaders.load(har(tmp_path / "wire.har", (log, "last")))
    found = steps(loaders.attach_wire(loaders.from_messages(log), recorded))
    assert found["thinking_sent"].to_list() == [0] + [1] * 299
    assert found["context"].list.len().unique().to_list() == [1]
