"""Runs of Inspect logs: agents and scorers, calls that went wrong, outcomes, tokens, metadata."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from inspect_cases import (
    log_of,
    message,
    metadata_of,
    model,
    problems,
    ranges,
    reader,
    reply,
    sample,
    span,
    steps,
    told,
)

from loaders.formats._inspect_parts import usage_columns


@pytest.fixture
def load(tmp_path: Path) -> Any:
    return reader(tmp_path)


# ---------------------------------------------------------------------- agents and scorers


def test_agents_are_named_and_do_not_lose_what_was_never_theirs(load: Any) -> None:
    ask, task = message("user", "q", id="u"), message("user", "sub", id="v")
    first = reply("", "parent thinks", "c", id="p")
    inner = reply("done", "child thinks", id="k")
    back = message("tool", "done", tool_call_id="c", id="o")
    runs = load(
        sample(
            span("solvers", "solvers"),
            span("main", "agent", "solvers"),
            model([ask], first, [ask], span_id="main"),
            span("tool", "tool", "main"),
            span("helper", "agent", "tool"),
            model([task], inner, [task], span_id="helper"),
            model([ask, first, back], reply("end", id="e"), [ask, first, back], span_id="main"),
        )
    )
    rows = steps(runs)
    assert [row["agent"] for row in rows] == ["main", "helper", "main"]
    assert [row["history_edit"] for row in rows] == ["none"] * 3
    assert [row["thinking_available"] for row in rows] == [0, 1, 2]
    assert [row["thinking_sent"] for row in rows] == [0, 0, 1]
    assert ranges(rows[1]) == [(3, 4)]
    assert ranges(rows[2]) == [(0, 3), (6, 7)]
    thinking = runs.events.filter(pl.col("kind") == "thinking").collect()
    assert thinking["actor"].to_list() == ["main", "helper"]


@pytest.mark.parametrize(
    "scoring",
    [
        [span("scorers", "scorers"), span("judge", "scorer", "scorers")],
        [{"event": "step", "action": "begin", "type": "scorer", "name": "judge"}],
    ],
)
def test_a_judge_is_no_step_of_the_agent(load: Any, scoring: list[Any]) -> None:
    judged = model([message("user", "grade this")], reply("GRADE: C"), span_id="judge")
    runs = load(sample(model([message("user", "q")], reply("a")), *scoring, judged))
    assert len(steps(runs)) == 1
    assert told(runs, "kind", "text", "actor")[-1] == ("other", "GRADE: C", "judge")
    assert "grade this" not in told(runs, "text")


def test_events_nested_in_tools_and_subtasks_are_told(load: Any) -> None:
    """Old logs put a subagent's events inside the tool's or subtask's event."""
    inner = model([message("user", "sub")], reply("inner"))
    ask = message("user", "q")
    runs = load(
        sample(
            model([ask], reply("", None, "c")),
            {"event": "tool", "id": "c", "function": "look", "result": "o", "events": [inner]},
            {"event": "subtask", "name": "planner", "events": [inner]},
        )
    )
    assert [row["agent"] for row in steps(runs)] == [None, None, "planner"]
    assert steps(runs)[1]["source_pos"] == "/samples/0/events/1/events/0"
    assert told(runs, "text").count("inner") == 2


def test_tools_on_offer_can_change(load: Any) -> None:
    def offer(*names: str) -> list[dict[str, Any]]:
        return [{"name": n, "description": "", "parameters": {}} for n in names]

    runs = load(
        sample(
            model([], reply("1"), tools=offer("a")),
            model([], reply("2"), tools=offer("a", "b")),
            model([], reply("3"), tools=offer("b", "a")),
            model([], reply("4"), tools=[]),
        )
    )
    sets = [row["toolset"] for row in steps(runs)]
    assert sets[1] == sets[2]
    assert len(set(sets)) == 3
    assert runs.tools.select(pl.len()).collect().item() == 3


# ---------------------------------------------------------------------- calls that went wrong


def test_a_call_that_failed_is_a_step_with_its_error(load: Any) -> None:
    ask = message("user", "q")
    empty = {"role": "assistant", "content": "", "id": "e"}
    runs = load(
        sample(
            model([ask], empty, error="TimeoutError('slow')", retries=2),
            model([ask], reply("a"), cache="read"),
            {"event": "error", "error": {"message": "ValueError('bad')"}},
            error={"message": "ValueError('bad')"},
        )
    )
    assert [(row["error"], row["stop_reason"]) for row in steps(runs)] == [
        ("TimeoutError('slow')", None),
        (None, "stop"),
    ]
    assert told(runs, "kind", "text", "error_type") == [
        ("user", "q", None),
        ("error", "TimeoutError('slow')", "TimeoutError"),
        ("message", "a", None),
        ("error", "ValueError('bad')", "ValueError"),
    ]
    run = runs.trajectories.collect().to_dicts()[0]
    assert (run["outcome"], run["end_reason"]) == ("error", "ValueError('bad')")
    metadata = json.loads(run["metadata"])
    assert (metadata["cache_reads"], metadata["retries"]) == (1, 2)


LIMIT = {"event": "sample_limit", "type": "token", "message": "Token limit reached"}


@pytest.mark.parametrize(
    ("more", "outcome", "reason"),
    [
        ({}, "unknown", None),
        ({"events": [LIMIT]}, "limit", "Token limit reached"),
        ({"limit": {"type": "message", "limit": 5}}, "limit", "message"),
        ({"limit": {"type": "operator", "reason": "stop"}}, "cancelled", "stop"),
        ({"error": {"message": "CancelledError()"}}, "cancelled", "CancelledError()"),
        ({"error": {"message": "boom"}}, "error", "boom"),
    ],
)
def test_how_a_sample_ended(load: Any, more: Any, outcome: str, reason: str | None) -> None:
    runs = load({**sample(messages=[message("user", "q")]), **more})
    row = runs.trajectories.collect().to_dicts()[0]
    assert (row["outcome"], row["end_reason"]) == (outcome, reason)


def test_a_cancelled_eval_cancels_what_was_not_scored(load: Any) -> None:
    said = [message("user", "q")]
    scored = sample(messages=said, scores={"s": {"value": "C"}})
    runs = load(sample(messages=said), scored, status="cancelled").trajectories.collect()
    assert runs["outcome"].to_list() == ["cancelled", "success"]


@pytest.mark.parametrize(
    ("value", "score", "success"),
    [
        ("C", 1.0, True),
        ("I", 0.0, False),
        ("P", 0.5, False),
        ("N", 0.0, False),
        (True, 1.0, True),
        (False, 0.0, False),
        (1, 1.0, True),
        (0.0, 0.0, False),
        (0.3, 0.3, None),
        (7, 7.0, None),
        ("no", 0.0, False),
        ("well", None, None),
        ({"a": 1, "b": "I"}, None, None),
        (None, None, None),
    ],
)
def test_scores_of_every_type(
    load: Any, value: Any, score: float | None, success: bool | None
) -> None:
    runs = load(sample(messages=[message("user", "q")], scores={"s": {"value": value}}))
    row = runs.trajectories.collect().to_dicts()[0]
    assert (row["score"], row["success"]) == (score, success)
    raw = row["scores"][0]["raw"]
    assert raw == (
        value if isinstance(value, str | None) else json.dumps(value, separators=(",", ":"))
    )


def test_parts_of_a_score_and_further_scores_follow_the_main_one(load: Any) -> None:
    scores = {"s": {"value": {"a": 1, "b": "I"}}, "t": {"value": [0.5, "C"]}}
    runs = load(sample(messages=[message("user", "q")], scores=scores))
    found = runs.trajectories.collect()["scores"].item()
    assert [(s["name"], s["value"]) for s in found] == [
        ("s", None),
        ("s/a", 1.0),
        ("s/b", 0.0),
        ("t", None),
        ("t/0", 0.5),
        ("t/1", 1.0),
    ]


def test_the_nameless_score_of_early_logs_gets_the_scorers_name(load: Any) -> None:
    record = sample(messages=[message("user", "q")], score={"value": "C"})
    runs = load(record, results={"scores": [{"name": "match"}]}).trajectories.collect()
    assert runs["scores"].item()[0]["name"] == "match"
    assert runs["success"].item() is True


@pytest.mark.parametrize(
    ("read", "write", "reasoning", "total", "expected"),
    [
        (60, 30, None, 200, (190, 10)),  # input leaves the cache out
        (60, 30, None, 110, (100, 10)),  # input includes it
        (None, None, None, 110, (100, 10)),
        (60, None, 7, 117, (100, 17)),  # output leaves reasoning out
        (60, None, 7, 177, (160, 17)),
        (60, 30, None, None, (190, 10)),  # nothing to check against: as documented
    ],
)
def test_tokens_are_added_up_as_the_total_says(
    read: int | None, write: int | None, reasoning: int | None, total: int | None, expected: Any
) -> None:
    columns = usage_columns(
        {
            "input_tokens": 100,
            "output_tokens": 10,
            "total_tokens": total,
            "input_tokens_cache_read": read,
            "input_tokens_cache_write": write,
            "reasoning_tokens": reasoning,
        }
    )
    assert (columns["input_tokens"], columns["output_tokens"]) == expected
    assert (columns["cached_tokens"], columns["reasoning_tokens"]) == (read, reasoning)


def test_costs_are_those_of_the_calls_and_not_of_the_judge(load: Any) -> None:
    def priced(cost: float, **more: Any) -> dict[str, Any]:
        event = model([], reply("a"), **more)
        event["output"]["usage"] = {"input_tokens": 1, "output_tokens": 1, "total_cost": cost}
        return event

    usage = {"m": {"input_tokens": 2, "output_tokens": 2, "total_cost": 0.75}}
    scoring = [span("s", "scorer"), priced(0.5, span_id="s")]
    runs = load(
        sample(priced(0.125), priced(0.125), *scoring, model_usage=usage),
        sample(messages=[message("user", "q")], model_usage=usage),
    )
    assert runs.trajectories.collect()["cost_usd"].to_list() == [0.25, 0.75]


def test_an_unknown_type_of_event_is_reported_once(load: Any) -> None:
    runs = load(sample({"event": "novel"}, {"event": "novel"}, messages=[message("user", "q")]))
    assert problems(runs) == [("warning", "events of type novel are unknown and not told")]


def test_sandbox_and_what_is_known_of_the_eval(load: Any) -> None:
    spec = log_of()["eval"] | {
        "sandbox": {"type": "docker", "config": "compose.yaml"},
        "task_args": {"hard": True},
        "model_args": {"api_key": "abc"},
        "tags": ["pilot"],
    }
    record = sample(
        messages=[message("user", "q")],
        metadata={"level": 3},
        error_retries=[{"message": "first try", "traceback": "..."}],
    )
    runs = load(record, {**record, "sandbox": ["local", None]}, eval=spec)
    rows = runs.trajectories.collect()
    assert rows["environment"].n_unique() == 2
    metadata = json.loads(rows["metadata"][0])
    assert metadata["task_args"] == {"hard": True}
    assert metadata["tags"] == ["pilot"]
    assert metadata["sample_metadata"] == {"level": 3}
    assert metadata["errors_before_retry"] == ["first try"]
    assert "abc" not in rows["metadata"][0]


def test_settings_scores_and_state_are_metadata(load: Any) -> None:
    spec = log_of()["eval"] | {
        "config": {"message_limit": 30, "epochs": 2},
        "dataset": {"name": "d", "samples": 2, "sample_ids": ["s", "t"]},
        "packages": {"inspect_ai": "0.3.200", "own_tasks": "1.2"},
    }
    plan = {"steps": [{"solver": "react", "params": {"attempts": 3}}], "config": {"top_p": 1}}
    score = {"value": "C", "answer": "a", "explanation": "it says so"}
    record = sample(
        model([message("user", "q")], reply("a"), tool_choice="any"),
        {"event": "score", "score": {"value": 0.5}, "intermediate": True},
        {"event": "score", "score": score},
        scores={"judge": score},
        store={"turns": 4},
        choices=["a", "b"],
        total_time=2.5,
        error={"message": "no", "traceback": "line 3"},
    )
    record["events"][0]["output"]["model"] = "m-2026"
    runs = load(record, eval=spec, plan=plan, tags=["x"])
    assert metadata_of(runs) == {
        "tags": ["x"],
        "run_id": "r",
        "config": {"message_limit": 30, "epochs": 2},
        "store": {"turns": 4},
        "choices": ["a", "b"],
        "total_time": 2.5,
        "dataset": {"name": "d", "samples": 2},
        "packages": {"own_tasks": "1.2"},
        "eval_status": "success",
        "solvers": ["react"],
        "plan": {"steps": plan["steps"]},
        "traceback": "line 3",
        "score_details": {"judge": {"answer": "a", "explanation": "it says so"}},
        "served_models": ["m-2026"],
        "tool_choices": ["any"],
        "intermediate_scores": [{"value": 0.5}],
    }


def test_what_people_and_solvers_put_in_is_told(load: Any) -> None:
    decided = {"event": "approval", "decision": "reject", "approver": "human", "uuid": "u"}
    runs = load(sample({"event": "info", "data": {"n": 1}}, decided))
    assert told(runs, "kind", "actor") == [("other", "info"), ("other", "approval")]
    texts = [json.loads(text) for text in told(runs, "text")]
    assert texts == [{"data": {"n": 1}}, {"decision": "reject", "approver": "human"}]
