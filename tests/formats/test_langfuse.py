"""Langfuse: eleven frameworks' real traces against counts made by hand of their raw files."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import loaders
from loaders import Trajectories

# file: (runs, steps, calls, results, messages, input tokens, names of offered tools)
EXPECTED: dict[str, tuple[int, int, int, int, int, int, set[str]]] = {
    "agno-2025-06-11": (1, 2, 1, 1, 1, 826, {"duckduckgo_search", "duckduckgo_news"}),
    "autogen-2025-06-06": (1, 1, 0, 0, 1, 41, set()),
    "beeai-2025-08-01": (1, 3, 1, 1, 3, 5542, set()),
    "google-adk-2025-08-28": (1, 2, 1, 1, 1, 67, {"say_hello"}),
    "google-gemini-2025-08-01": (1, 1, 0, 0, 1, 6, set()),
    "langgraph-2025-08-22": (1, 2, 1, 1, 1, 168, {"Web-Search"}),
    "llamaindex-2025-06-05": (1, 1, 0, 0, 1, 13, set()),
    "microsoft-agent-2025-10-14": (1, 2, 1, 1, 1, 656, {"get_weather"}),
    "openai-agents-2025-09-30": (1, 2, 1, 1, 1, 140, {"get_weather"}),
    "openai-assistants-2024-05-29": (1, 2, 0, 0, 2, 49, set()),
    "pydantic-ai-tools-2025-12-04": (2, 4, 4, 3, 2, 1315, {"get_pun_suggestion", "final_result"}),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_a_framework_s_trace(real_logs: Path, name: str) -> None:
    runs = loaders.load(real_logs / "langfuse" / f"{name}.json")
    count, steps, calls, results, messages, tokens, tools = EXPECTED[name]
    rows = runs.trajectories.collect()
    assert (rows.height, rows["steps"].sum(), rows["input_tokens"].sum()) == (count, steps, tokens)
    kinds = Counter(runs.events.collect()["kind"])
    assert (kinds["tool_call"], kinds["tool_result"], kinds["message"]) == (
        calls,
        results,
        messages,
    )
    assert tools <= set(runs.tools.collect()["name"])
    assert (rows["unanswered_calls"].sum(), rows["orphan_results"].sum()) == (calls - results, 0)
    for run, seq in runs.events.select("trajectory_id", "seq").collect().iter_rows():
        assert runs.raw(run, seq) is not None


def test_scores_and_costs_are_the_trace_s_own(real_logs: Path) -> None:
    paths = sorted((real_logs / "langfuse").glob("*.json"))
    for path in paths:
        raw = json.loads(path.read_text())
        rows = loaders.load(path).trajectories.collect()
        names = [score["name"] for score in rows["scores"].to_list()[0] or []]
        assert names == [score["name"] for score in raw["trace"].get("scores") or []]
        spent = [item.get("totalCost") or 0 for item in raw["observations"]]
        nested = path.name.startswith("agno")  # counts one call twice
        assert (
            (rows["cost_usd"].sum() < sum(spent))
            if nested
            else rows["cost_usd"].sum() == pytest.approx(sum(spent))
        )
        assert rows["success"].null_count() == rows.height


def test_langgraph_s_definitions_are_no_results(real_logs: Path) -> None:
    runs = loaders.load(real_logs / "langfuse" / "langgraph-2025-08-22.json")
    results = runs.events.filter(pl.col("kind") == "tool_result").collect()
    assert results["call_id"].null_count() == 0
    assert runs.trajectories.collect()["toolset"].null_count() == 0
    assert runs.steps.collect()["context"].to_list()[1] == [{"start": 0, "stop": 4}]


def test_an_agent_called_again_goes_on_where_it_was(real_logs: Path) -> None:
    runs = loaders.load(real_logs / "langfuse" / "pydantic-ai-tools-2025-12-04.json")
    steps = runs.steps.collect()
    assert steps["agent"].to_list() == ["joke_agent"] * 3 + ["evaluator_agent"]


def test_a_reply_of_which_the_stream_s_end_is_left_is_marked_as_cut(real_logs: Path) -> None:
    runs = loaders.load(real_logs / "langfuse" / "beeai-2025-08-01.json")
    messages = runs.events.filter(pl.col("kind") == "message").collect()
    assert messages["truncated"].to_list() == [None, None, True]
    assert runs.problems.collect().height == 2  # the ends of a tool and of a call say nothing


# ---------------------------------------------------------------------- written here


def observation(number: int, kind: str = "GENERATION", **more: Any) -> dict[str, Any]:
    time = f"2026-01-01T00:00:{number:02}.000Z"
    return {
        "id": f"o{number}",
        "type": kind,
        "name": "n",
        "startTime": time,
        "endTime": time,
        **more,
    }


def load(tmp_path: Path, *observations: Any, inside: bool = False, **trace: Any) -> Trajectories:
    record: dict[str, Any] = {
        "id": "t",
        "projectId": "p",
        "timestamp": "2026-01-01T00:00:00Z",
        **trace,
    }
    listed = list(observations)
    record = (
        {**record, "observations": listed} if inside else {"trace": record, "observations": listed}
    )
    (tmp_path / "trace.json").write_text(json.dumps(record))
    return loaders.load(tmp_path)


ASKED = [{"role": "user", "content": "hi"}]
CALL = {"id": "c", "function": {"name": "get", "arguments": "{}"}}


@pytest.mark.parametrize("inside", [False, True])
def test_a_download_without_inputs_and_outputs_has_usage_alone(
    tmp_path: Path, inside: bool
) -> None:
    usage = {"input": 5, "output": 2, "input_cache_read": 3, "total": 10}
    calls = [
        observation(1, usageDetails=usage, model="m", totalCost=0.5),
        observation(2, "TOOL", name="get"),
        observation(3),
    ]
    runs = load(tmp_path, *calls, inside=inside)
    step = runs.steps.collect().row(0, named=True)
    assert (step["input_tokens"], step["output_tokens"], step["cached_tokens"]) == (8, 2, 3)
    assert (step["evidence"], step["context"], step["thinking_sent"]) == ("unknown", None, None)
    events = runs.events.collect()
    assert events.select("kind", "tool", "text").rows() == [
        ("tool_call", "get", None),
        ("tool_result", "get", None),
    ]
    row = runs.trajectories.collect().row(0, named=True)
    assert (row["steps"], row["cost_usd"]) == (1, 0.5)
    assert "without input, output or usage" in runs.problems.collect()["reason"][0]


def test_what_the_attributes_hold_stands_in_for_a_missing_input(tmp_path: Path) -> None:
    attributes = {
        "llm.input_messages.0.message.role": "user",
        "llm.input_messages.0.message.content": "hi",
    }
    runs = load(tmp_path, observation(1, metadata={"attributes": attributes}, output="ok"))
    assert runs.events.collect()["text"].to_list() == ["hi", "ok"]
    assert runs.raw(runs.ids[0], 0) == "hi"


def test_thinking_in_replies_and_requests(tmp_path: Path) -> None:
    reply = {"role": "assistant", "content": None, "reasoning_content": "hm", "tool_calls": [CALL]}
    result = {"role": "tool", "tool_call_id": "c", "content": "rain"}
    first = observation(1, input=ASKED, output=reply)
    runs = load(tmp_path, first, observation(2, input=[*ASKED, reply, result], output="ok"))
    assert runs.steps.collect()["thinking_sent"].to_list() == [0, 1]
    without = {**reply, "reasoning_content": None}
    runs = load(tmp_path, first, observation(2, input=[*ASKED, without, result], output="ok"))
    assert runs.steps.collect()["thinking_sent"].to_list() == [None, None]
    assert runs.events.collect()["kind"].to_list() == [
        *("user", "thinking", "tool_call", "tool_result", "message")
    ]


def test_blocks_of_anthropic_and_of_langchain(tmp_path: Path) -> None:
    blocks = [
        {"type": "thinking", "thinking": "hm", "signature": "s"},
        {"type": "text", "text": "let me"},
        {"type": "tool_use", "id": "c", "name": "get", "input": {}},
    ]
    result = {"type": "tool_result", "tool_use_id": "c", "content": "rain", "is_error": True}
    answered = {"role": "user", "content": [result, {"type": "text", "text": "go on"}]}
    asked: dict[str, Any] = {"system": "be good", "messages": [{"type": "human", "content": "hi"}]}
    runs = load(
        tmp_path,
        observation(1, input=asked, output={"type": "ai", "content": blocks}),
        observation(
            2, input=[*ASKED, {"role": "assistant", "content": blocks}, answered], output="ok"
        ),
    )
    events = runs.events.collect()
    assert events.select("kind", "text", "is_error").rows() == [
        *[("system", "be good", None), ("user", "hi", None), ("thinking", "hm", None)],
        *[("message", "let me", None), ("tool_call", None, None), ("tool_result", "rain", True)],
        *[("user", "go on", None), ("message", "ok", None)],
    ]
    assert runs.steps.collect()["thinking_sent"].to_list() == [0, 1]


def test_signatures_of_gemini_stand_on_the_part_after_the_thinking(tmp_path: Path) -> None:
    call = {"function_call": {"name": "get", "args": {}}, "thought_signature": "s1"}
    parts = [{"text": "hm", "thought": True}, call, {"text": "so", "thought_signature": "s2"}]
    runs = load(tmp_path, observation(1, input=ASKED, output={"role": "model", "parts": parts}))
    columns = ("kind", "text", "thinking_state", "signature")
    assert runs.events.select(columns).collect().rows()[1:] == [
        ("thinking", "hm", "summary", "s1"),
        ("tool_call", None, None, None),
        ("thinking", None, "hidden", "s2"),
        ("message", "so", None, None),
    ]


def test_what_a_trace_says_beside_its_calls_is_kept(tmp_path: Path) -> None:
    judged = {"name": "good", "value": 0.5, "comment": "It went in a circle.", "source": "EVAL"}
    program = {
        "resourceAttributes": {"service.name": "svc"},
        "scope": {"name": "sdk", "version": "3"},
    }
    runs = load(
        tmp_path,
        observation(1, "SPAN", name="guard", input="is it fine?", output="it is", metadata=program),
        observation(2, "RETRIEVER", name="search", input={"q": "w"}, output=["found"]),
        observation(
            *(3,),
            input=ASKED,
            output="ok",
            promptName="planner",
            level="WARNING",
            statusMessage="slow",
            modelParameters={"temperature": 1},
            usageDetails={"input": 4, "output": 2, "input_audio": 3},
            completionStartTime="2026-01-01T00:00:03.500Z",
        ),
        observation(4, input=ASKED, output="so", modelParameters={"temperature": 0.5}),
        scores=[judged],
        metadata={"email": "u@x.org"},
    )
    asides = runs.events.filter(pl.col("kind") == "other").select("text", "actor", "error_type")
    assert asides.collect().rows() == [
        ('{"input":{"q":"w"},"output":["found"]}', "search", "retriever")
    ]
    row = runs.trajectories.collect().row(0, named=True)
    assert json.loads(row["params"]) == {"temperature": 1}
    assert json.loads(row["metadata"]) == {
        "params_of_calls": [{"temperature": 1}, {"temperature": 0.5}],
        "service.name": "svc",
        "scopes": {"name": "sdk", "version": "3"},
        "instrumentation": "sdk",
        "email": "u@x.org",
        "spans": {"name": "guard", "input": "is it fine?", "output": "it is"},
        "promptName": "planner",
        "statusMessage": "slow",
        "completionStartTime": "2026-01-01T00:00:03.500Z",
        "level": "WARNING",
        "usage.input_audio": 3,
        "scores": [{"name": "good", "comment": "It went in a circle.", "source": "EVAL"}],
    }


def test_errors_flagged_by_level(tmp_path: Path) -> None:
    failed = {"level": "ERROR", "statusMessage": "boom"}
    runs = load(
        tmp_path,
        observation(1, input=ASKED, **failed),
        observation(2, "TOOL", name="get", input={"a": 1}, **failed),
        scores=[{"name": "ok", "value": "x", "stringValue": "good"}, 3],
    )
    assert runs.steps.collect()["error"].to_list() == ["boom"]
    events = runs.events.collect()
    assert events.select("kind", "text", "is_error").rows() == [
        *[("user", "hi", None), ("error", "boom", None)],
        *[("tool_call", None, None), ("tool_result", "boom", True)],
    ]
    row = runs.trajectories.collect().row(0, named=True)
    assert row["scores"][0] == {"name": "ok", "value": None, "raw": "good"}


def test_hostile_types_and_a_cut_file(tmp_path: Path) -> None:
    deep: Any = "x"
    for _ in range(200):
        deep = [deep]
    runs = load(
        tmp_path,
        5,
        observation(
            1, input=deep, output={"role": 5, "content": [1, {"type": 7}]}, usageDetails=[1]
        ),
        observation(
            2, input=[1, None, {"role": "user"}], metadata="[", modelParameters=3, totalCost="x"
        ),
        {"id": {"a": 1}, "type": [], "startTime": 1e99, "parentObservationId": "o1", "level": {}},
        observation(
            3, input=ASKED, output={"choices": [{"message": 3}, {"message": {"content": "ok"}}]}
        ),
        scores={"no": "list"},
    )
    assert "ok" in runs.events.collect()["text"].to_list()
    file = tmp_path / "trace.json"
    file.write_text(file.read_text()[:-80])
    assert "what stands before" in loaders.load(tmp_path).problems.collect()["reason"][0]
