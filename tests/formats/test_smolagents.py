"""smolagents against figures counted from the raw files."""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import loaders
from loaders import Trajectories

FILES = ("gpt-4o__code__math__2025-07-24.jsonl", "gpt-4o__tool-calling__simpleqa__2025-07-24.jsonl")


@pytest.fixture(scope="module")
def runs(real_logs: Path) -> Trajectories:
    return loaders.load([real_logs / "smolagents" / file for file in FILES])


@pytest.fixture(scope="module")
def raw(real_logs: Path) -> list[dict[str, Any]]:
    lines = [(real_logs / "smolagents" / file).read_text().splitlines() for file in FILES]
    return [json.loads(line) for file in lines for line in file]


def texts(raw: list[dict[str, Any]], role: str) -> list[str]:
    messages = [message for row in raw for message in row["intermediate_steps"]]
    return [m["content"][0]["text"] for m in messages if m["role"] == role]


# ---------------------------------------------------------------------- real files


def test_every_message_is_there(runs: Trajectories, raw: list[dict[str, Any]]) -> None:
    events = runs.events.collect()
    for kind, role in (
        ("system", "system"),
        ("user", "user"),
        ("message", "assistant"),
        ("tool_result", "tool-response"),
    ):
        assert events.filter(pl.col("kind") == kind)["text"].to_list() == texts(raw, role)
    assert runs.steps.collect().height == len(texts(raw, "assistant")) == 237


def test_calls_are_read_out_of_their_text(runs: Trajectories, raw: list[dict[str, Any]]) -> None:
    written = texts(raw, "tool-call")
    calls = runs.events.filter(pl.col("kind") == "tool_call").collect()
    assert calls.height == sum(text.count("'type': 'function'") for text in written) == 227
    names = ("python_interpreter", "web_search", "visit_webpage", "final_answer")
    counted = {name: sum(t.count(f"'name': '{name}'") for t in written) for name in names}
    assert Counter(calls["tool"]) == counted == dict(zip(names, (116, 54, 7, 50), strict=True))
    joined = "\n".join(written)
    assert all(f"'id': '{name}'" in joined for name in calls["call_id"])
    assert runs.problems.collect().is_empty()


def test_errors_and_responses_without_a_call(runs: Trajectories, raw: list[dict[str, Any]]) -> None:
    results = runs.events.filter(pl.col("kind") == "tool_result").collect()
    is_error = [
        text.startswith("Error:") or text.partition("\n")[2].startswith("Error:")
        for text in texts(raw, "tool-response")
    ]
    assert results["is_error"].to_list() == is_error
    assert sum(is_error) == 35
    parse_failures = 0
    for row in raw:
        roles = [message["role"] for message in row["intermediate_steps"]]
        parse_failures += list(pairwise(roles)).count(("assistant", "tool-response"))
    table = runs.trajectories.collect()
    assert table["orphan_results"].sum() == parse_failures == 11
    assert table["unanswered_calls"].sum() == 1, "two calls, one response"
    answers = results.drop_nulls("call_seq").group_by("run", "call_seq").len()
    assert answers["len"].to_list().count(2) == 1, "an observation and then an error"


def test_tokens_tasks_and_answers_are_the_row_s(
    runs: Trajectories, raw: list[dict[str, Any]]
) -> None:
    table = runs.trajectories.collect()
    for name in ("input_tokens", "output_tokens"):
        assert table[name].to_list() == [row["token_counts"][name] for row in raw]
    assert set(table["model"]) == {"gpt-4o"}
    assert table["benchmark"].to_list() == [row["source"] for row in raw]
    assert table["task_id"].n_unique() == len({row["original_question"] for row in raw})
    assert [at.timestamp() for at in table["started_at"]] == pytest.approx(
        [row["start_time"] for row in raw]
    )
    metadata = [json.loads(text) for text in table["metadata"]]
    assert [m["true_answer"] for m in metadata] == [row["true_answer"] for row in raw]
    assert table["success"].null_count() == len(raw)


def test_positions_lead_to_the_raw_record(runs: Trajectories, raw: list[dict[str, Any]]) -> None:
    last = runs[runs.ids[-1]]
    for event in last.events.collect().iter_rows(named=True):
        found = last.raw(runs.ids[-1], event["seq"])[0]["text"]
        assert found == event["text"] or event["tool"] in found


# ---------------------------------------------------------------------- variants made here


def write(folder: Path, content: Any) -> Trajectories:
    (folder / "d.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return loaders.load(folder / "d.json")


def row(*messages: tuple[str, Any]) -> dict[str, Any]:
    steps = [{"role": role, "content": content} for role, content in messages]
    return {"agent_action_type": "code", "question": "q", "intermediate_steps": steps}


@pytest.mark.parametrize(
    ("written", "tool", "arguments"),
    [
        ("[{'id': '1', 'function': {'name': 'f', 'arguments': {'a': None}}}]", "f", '{"a":null}'),
        ("[{'name': 'f', 'arguments': (1, 2j)}]", "f", "(1, 2j)"),
        (f"[{{'name': 'f', 'arguments': [{10**30}]}}]", "f", f"[{10**30}]"),
        ("[{'name': 'f', 'arguments': '\\(x'}]", "f", "\\(x"),
        ("[f(1)]", None, "Calling tools:\n[f(1)]"),
        ("[" * 9000, None, "Calling tools:\n" + "[" * 9000),
    ],
)
def test_calls_are_literals_or_kept_as_text(
    tmp_path: Path, written: str, tool: str | None, arguments: str
) -> None:
    runs = write(tmp_path, [row(("assistant", ""), ("tool-call", f"Calling tools:\n{written}"))])
    call = runs.events.filter(pl.col("kind") == "tool_call").collect()
    assert (call["tool"].to_list(), call["arguments"].to_list()) == ([tool], [arguments])
    assert runs.problems.collect().height == (tool is None)


def memory() -> list[dict[str, Any]]:
    usage = {"token_usage": {"input_tokens": 9, "output_tokens": 2}}
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "x = 1"}}
    action = {
        "step_number": 1,
        "model_input_messages": [],
        "timing": {"start_time": 1753386130.5, "end_time": 1753386131.5},
        "tool_calls": [call],
        "model_output": "do",
        "observations": "seen",
        "error": {"type": "AgentExecutionError", "message": "bad"},
        **usage,
    }
    parse_failure = {**action, "tool_calls": None, "observations": None}
    return [
        {"system_prompt": "be brief"},
        {"task": "look", "task_images": [1, 2]},
        {"plan": "first", **usage},
        action,
        parse_failure,
        {"output": "42"},
    ]


def test_full_memory_steps(tmp_path: Path) -> None:
    runs = write(tmp_path, memory())
    events = runs.events.collect()
    kinds = (
        "system user message message tool_call tool_result tool_result message tool_result other"
    )
    assert events["kind"].to_list() == kinds.split()
    assert events["call_seq"].to_list()[5:9] == [4, 4, None, None]
    assert events["is_error"].drop_nulls().to_list() == [False, True, True]
    assert events["error_type"][6] == "AgentExecutionError"
    assert events["media"].to_list()[1] == ["image", "image"]
    row = runs.trajectories.collect().row(0, named=True)
    assert (row["input_tokens"], row["output_tokens"], row["orphan_results"]) == (27, 6, 1)
    steps = runs.steps.collect()
    assert (steps["ended_at"] - steps["started_at"]).dt.total_seconds().to_list() == [None, 1, 1]
    assert runs.raw(runs.ids[0], 6) == "bad"


def test_what_the_provider_said_of_a_step_is_told(tmp_path: Path) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": {"a": 1}}}
    message = {"role": "assistant", "content": "I look.", "reasoning_content": "where is it?"}
    raw = {
        "id": "r1",
        "model": "m-1",
        "choices": [{"finish_reason": "tool_calls", "index": 0, "message": message}],
        "usage": {
            "prompt_tokens": 9,
            "completion_tokens": 5,
            "prompt_tokens_details": {"cached_tokens": 4},
            "completion_tokens_details": {"reasoning_tokens": 3},
        },
    }
    failed = {
        "step_number": 1,
        "model_input_messages": [
            {"role": "system", "content": [{"type": "text", "text": "be brief"}]},
            {"role": "user", "content": "look"},
        ],
        "tool_calls": [],
        "model_output": "I look.",
        "model_output_message": {"role": "assistant", "tool_calls": [call], "raw": raw},
        "error": {"type": "AgentToolExecutionError", "message": "no such tool"},
        "token_usage": {"input_tokens": 9, "output_tokens": 5},
    }
    last = {
        "step_number": 2,
        "model_input_messages": None,
        "tool_calls": [call],
        "model_output": "<think>that was it</think>Here.",
        "observations": None,
        "action_output": "forty-two",
        "is_final_answer": True,
    }
    runs = write(tmp_path, [{"task": "look", "task_images": None}, failed, last])
    events = runs.events.collect()
    kinds = (
        "system user thinking message tool_call tool_result thinking message tool_call tool_result"
    )
    assert events["kind"].to_list() == kinds.split()
    assert events["call_seq"][5] == 4, "the call that failed stands in the reply alone"
    assert events["text"].to_list()[6:10] == ["that was it", "Here.", None, "forty-two"]
    steps = runs.steps.collect()
    assert steps["thinking"].to_list() == ["text", "tagged_in_text"]
    first = steps.row(0, named=True)
    assert (first["model"], first["stop_reason"]) == ("m-1", "tool_calls")
    assert (first["cached_tokens"], first["reasoning_tokens"]) == (4, 3)
    metadata = json.loads(runs.trajectories.collect()["metadata"][0])
    assert metadata["final_answer"] == "forty-two"
    assert loaders.coverage(tmp_path, progress=False).lost.is_empty()


def test_a_run_s_result_around_its_steps(tmp_path: Path) -> None:
    runs = write(tmp_path, {"output": None, "state": "max_steps_error", "steps": memory()})
    row = runs.trajectories.collect().row(0, named=True)
    assert (row["outcome"], row["end_reason"], row["success"]) == ("limit", "max_steps_error", None)
    assert runs.raw(runs.ids[0], 1) == "look"


def test_hostile_and_cut_rows_cost_only_themselves(tmp_path: Path) -> None:
    odd = row(("assistant", {"a": 1}), ("tool-call", None), ("tool-response", "odd"), ("x", [7]))
    odd["intermediate_steps"].append("no message")
    kept = row(("user", "kept"))
    runs = write(tmp_path, [kept, odd, 7, {**kept, "intermediate_steps": 3}, kept])
    assert runs.events.filter(pl.col("text") == "kept").collect().height == 2
    assert runs.problems.collect()["position"].to_list() == [
        "/1/intermediate_steps/1",
        "/1/intermediate_steps/4",
        "/2",
        "/3",
    ]
    assert runs.events.collect()["is_error"].drop_nulls().is_empty()
    text = json.dumps([kept, row(("user", "lost"))])
    cut = write(tmp_path, text[: text.index("lost")])
    assert cut.events.collect()["text"].to_list()[0] == "kept"
    assert "error" in cut.problems.collect()["severity"].to_list()
