"""ATIF against figures counted from the raw files, and what the specification allows beyond them."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import loaders
from loaders import Trajectories

FILES = ["accountant_trajectory.json", "recipe_finder_trajectory.json"]


@pytest.fixture(scope="module")
def runs(real_logs: Path) -> Trajectories:
    return loaders.load(real_logs / "atif" / "*.json")


@pytest.fixture(scope="module")
def raw(real_logs: Path) -> list[dict[str, Any]]:
    return [json.loads((real_logs / "atif" / file).read_text()) for file in FILES]


# ---------------------------------------------------------------------- real files


def test_every_step_call_and_result_is_there(runs: Trajectories, raw: list[dict[str, Any]]) -> None:
    steps = [step for document in raw for step in document["steps"]]
    sources = Counter(step["source"] for step in steps)
    calls = [call for step in steps for call in step.get("tool_calls", [])]
    kinds = dict(runs.events.group_by("kind").len().collect().iter_rows())
    replies = sum(bool(step.get("extra", {}).get("response")) for step in steps)
    assert kinds == {
        "user": sources["user"],
        "message": sources["agent"] + replies,
        "tool_call": len(calls),
        "tool_result": len(calls),
    }
    assert (sources["user"], sources["agent"], replies, len(calls)) == (10, 20, 10, 36)
    told = runs.events.filter(pl.col("kind") == "tool_call").collect()
    assert Counter(told["tool"]) == Counter(call["function_name"] for call in calls)
    results = runs.events.filter(pl.col("kind") == "tool_result").collect()
    linked = results.join(told, left_on=["run", "call_seq"], right_on=["run", "seq"])
    assert (linked["call_id"] == linked["call_id_right"]).sum() == len(calls)
    assert results["is_error"].null_count() == len(calls)


def test_tokens_model_and_version_are_the_log_s(
    runs: Trajectories, raw: list[dict[str, Any]]
) -> None:
    table = runs.trajectories.collect()
    sums = [document["final_metrics"] for document in raw]
    assert table["input_tokens"].to_list() == [one["total_prompt_tokens"] for one in sums]
    assert table["output_tokens"].to_list() == [one["total_completion_tokens"] for one in sums]
    assert table["input_tokens"].to_list() == [26494, 130557]
    assert table["native_id"].to_list() == [document["session_id"] for document in raw]
    assert set(table["format_version"]) == {"ATIF-v1.2"}
    assert set(table["model"]) == {"openai/kimi-k2.5"}
    assert table["framework_version"].null_count() == table["cost_usd"].null_count() == 2
    assert runs.steps.collect()["cached_tokens"].sum() == 0


def test_the_visible_reply_and_every_position_lead_to_the_raw_record(
    runs: Trajectories, raw: list[dict[str, Any]]
) -> None:
    replies = [
        step["extra"]["response"]
        for document in raw
        for step in document["steps"]
        if step.get("extra", {}).get("response")
    ]
    told = runs.events.filter(pl.col("source_pos").str.ends_with("/extra/response")).collect()
    assert told["text"].to_list() == replies
    for event in runs.events.filter(pl.col("run") == 0).collect().iter_rows(named=True):
        found = runs.raw(event["trajectory_id"], event["seq"])
        assert found == event["text"] or found["tool_call_id"] == event["call_id"]


# ---------------------------------------------------------------------- variants made here


def document(*steps: dict[str, Any], **more: Any) -> dict[str, Any]:
    agent = {"name": "tester", "version": "1.0", "model_name": "m"}
    return {"schema_version": "ATIF-v1.8", "agent": agent, "steps": list(steps), **more}


def agent_step(*results: dict[str, Any], calls: int = 0, **more: Any) -> dict[str, Any]:
    made = [
        {"tool_call_id": f"c{n}", "function_name": f"f{n}", "arguments": {}} for n in range(calls)
    ]
    return {
        "source": "agent",
        "message": "",
        "tool_calls": made,
        "observation": {"results": list(results)},
        **more,
    }


def write(folder: Path, content: Any, name: str = "log.json") -> Trajectories:
    folder.mkdir(exist_ok=True, parents=True)
    (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))
    return loaders.load(folder / name)


def test_thinking_tools_and_metrics_of_later_versions(tmp_path: Path) -> None:
    metrics = {
        "prompt_tokens": 90,
        "cached_tokens": 80,
        "completion_tokens": 30,
        "cost_usd": 0.5,
        "extra": {"reasoning_tokens": 20},
    }
    log = document(
        {"source": "system", "message": "be brief"},
        {"source": "user", "message": [{"type": "text", "text": "look"}, {"type": "audio"}]},
        agent_step(
            reasoning_content="hm",
            metrics=metrics,
            model_name="other",
            reasoning_effort="high",
            timestamp="2026-01-31T10:00:00Z",
        ),
    )
    log["agent"]["tool_definitions"] = [{"type": "function", "function": {"name": "ls"}}]
    runs = write(tmp_path, log)
    row = runs.trajectories.collect().row(0, named=True)
    step = runs.steps.collect().row(0, named=True)
    assert (step["model"], step["thinking"], step["thinking_sent"]) == ("other", "text", None)
    assert (step["input_tokens"], step["cached_tokens"], step["reasoning_tokens"]) == (90, 80, 20)
    assert (row["cost_usd"], json.loads(row["params"])) == (0.5, {"reasoning_effort": "high"})
    assert runs.tools.collect()["name"].to_list() == ["ls"]
    events = runs.events.collect()
    assert events["kind"].to_list() == ["system", "user", "thinking"]
    assert events["media"].to_list()[1] == ["audio"]
    assert str(events["started_at"][2]) == "2026-01-31 10:00:00+00:00"


def test_results_without_an_id_answer_the_step_s_calls_in_order(tmp_path: Path) -> None:
    runs = write(
        tmp_path,
        document(
            agent_step(calls=1),
            agent_step(
                {"content": "first"},
                {"content": "of c1", "source_call_id": "c1"},
                {"content": "third"},
                {"content": "of none"},
                calls=3,
            ),
            {"source": "system", "message": "", "observation": {"results": [{"content": "up"}]}},
        ),
    )
    events = runs.events.collect()
    results = events.filter(pl.col("kind") == "tool_result")
    assert dict(results.select("text", "tool").iter_rows()) == {
        "first": "f0",
        "of c1": "f1",
        "third": "f2",
        "of none": None,
    }
    assert events.row(-1, named=True)["kind"] == "other"
    row = runs.trajectories.collect().row(0, named=True)
    assert (row["unanswered_calls"], row["orphan_results"]) == (1, 1)


def test_copied_and_deterministic_steps_are_no_model_calls(tmp_path: Path) -> None:
    runs = write(
        tmp_path,
        document(
            agent_step(is_copied_context=True, message="before"),
            agent_step(llm_call_count=0, message="by rule"),
            agent_step(llm_call_count=2, message="twice"),
            final_metrics={"total_prompt_tokens": 7},
        ),
    )
    assert runs.events.collect()["step"].to_list() == [None, None, 0]
    assert runs.trajectories.collect()["input_tokens"].to_list() == [7]
    assert runs.problems.collect()["position"].to_list() == ["/steps/2"]


def test_embedded_subagents_are_runs_of_their_own(tmp_path: Path) -> None:
    leaf = document(agent_step(message="leaf"), trajectory_id="leaf")
    child = document(
        agent_step({"subagent_trajectory_ref": [{"trajectory_id": "leaf"}]}, calls=1),
        trajectory_id="child",
        subagent_trajectories=[leaf],
    )
    reference = {"source_call_id": "c0", "subagent_trajectory_ref": [{"trajectory_id": "child"}]}
    parent = document(agent_step(reference, calls=1), session_id="s", subagent_trajectories=[child])
    runs = write(tmp_path, parent)
    table = runs.trajectories.collect()
    assert table["native_id"].to_list() == ["s", "child", "leaf"]
    ids = table["trajectory_id"].to_list()
    assert table["parent_id"].to_list() == [None, ids[0], ids[1]]
    assert runs.raw(ids[2], 0) == "leaf"
    assert runs.raw(ids[0], table["parent_seq"][1]) == reference


def trial(folder: Path, result: Any, **more: str) -> Trajectories:
    write(folder / "agent", document(agent_step(message="hi")), "trajectory.json")
    if result is not None:
        (folder / "result.json").write_text(json.dumps(result))
    (folder / "verifier").mkdir()
    for name, text in more.items():
        (folder / "verifier" / name.replace("_", ".")).write_text(text)
    return loaders.load(folder)


@pytest.mark.parametrize(
    ("reward", "exception", "expected"),
    [
        (1.0, None, ("success", True, None)),
        (0, None, ("failure", False, None)),
        (0.5, None, ("unknown", None, None)),
        (None, "AgentTimeoutError", ("limit", None, "AgentTimeoutError")),
        (0.0, "VerifierError", ("error", False, "VerifierError")),
        (1.0, "AgentTimeoutError", ("success", True, "AgentTimeoutError")),
    ],
)
def test_the_outcome_is_that_of_the_trial_s_result(
    tmp_path: Path, reward: Any, exception: Any, expected: tuple[Any, ...]
) -> None:
    result = {
        "task_name": "t",
        "trial_name": "t__1",
        "source": "bench",
        "verifier_result": None if reward is None else {"rewards": {"reward": reward}},
        "exception_info": exception and {"exception_type": exception, "exception_message": "why"},
        "agent_result": {"n_input_tokens": 5, "cost_usd": 0.25},
    }
    runs = trial(tmp_path / "t__1", result)
    row = runs.trajectories.collect().row(0, named=True)
    assert (row["outcome"], row["success"], row["end_reason"]) == expected
    assert (row["task_id"], row["trial"], row["benchmark"]) == ("t", "t__1", "bench")
    assert (row["score"], row["input_tokens"], row["cost_usd"]) == (reward, 5, 0.25)
    assert runs.problems.collect().is_empty()
    if exception:
        assert runs.raw(runs.ids[0], 1)["exception_message"] == "why"


def test_without_a_result_the_verifier_s_reward_counts(tmp_path: Path) -> None:
    runs = trial(tmp_path / "a", None, reward_txt="1\n")
    assert runs.trajectories.collect()["success"].to_list() == [True]
    assert runs.problems.collect().is_empty()
    both = trial(tmp_path / "b", {"task_name": "t", "trial_name": "n"}, reward_json='{"reward": 0}')
    assert both.trajectories.collect()["success"].to_list() == [False]
    broken = trial(tmp_path / "c", None, reward_txt="passed?")
    assert broken.trajectories.collect()["success"].to_list() == [None]
    assert broken.problems.collect()["severity"].to_list() == ["error"]


def test_hostile_and_cut_documents_keep_what_can_be_read(tmp_path: Path) -> None:
    odd = document(
        7,  # pyright: ignore[reportArgumentType]
        {"source": ["agent"], "message": "kept", "observation": {"results": [1]}},
        agent_step({"source_call_id": ["x"], "content": {"a": 1}}, metrics=[1], usage="u"),
        agent_step(tool_calls=[None, {"function_name": 1}], observation=[2], extra=3),
        final_metrics=4,
        subagent_trajectories=[5],
    )
    runs = write(tmp_path, odd)
    assert runs.events.filter(pl.col("text") == "kept").collect().height == 1
    assert runs.trajectories.collect()["steps"].to_list() == [2, 0]
    text = json.dumps(document(agent_step(message="kept"), agent_step(message="lost")))
    cut = write(tmp_path, text[: text.index("lost")])
    assert cut.events.collect()["text"].to_list() == ["kept"]
    assert cut.problems.collect()["severity"].to_list() == ["error"]


# ---------------------------------------------------------------------- what is kept in extra


def kept_step(**extra: Any) -> dict[str, Any]:
    return agent_step(message="one\n\nthree", reasoning_content="ab\n\ncd", extra=extra)


def test_thinking_of_every_state_is_read_from_extra(tmp_path: Path) -> None:
    blocks = [
        {"state": "text", "chars": 2, "signature": "s"},
        {"state": "summary", "text": "in short", "actor": "critic"},
        {"state": "tagged_in_text", "chars": 2, "started_at": None},
        {"state": "redacted", "signature": "sealed", "of": "else"},
        {"state": "hidden"},
    ]
    texts = [{"chars": 3}, {"chars": 0}, {"chars": 5, "media": ["image"]}]
    order = ["message", *["thinking"] * 5, *["message"] * 2]
    step = kept_step(thinking=blocks, messages=texts, order=order, agent="a", stop_reason="stop")
    runs = write(tmp_path, document({**step, "timestamp": "2026-01-31T10:00:00Z"}))
    told = runs.events.select("kind", "text", "thinking_state", "signature").collect().rows()
    assert told == [
        ("message", "one", None, None),
        ("thinking", "ab", "text", "s"),
        ("thinking", "in short", "summary", None),
        ("thinking", "cd", "tagged_in_text", None),
        ("thinking", None, "redacted", "sealed"),
        ("thinking", None, "hidden", None),
        ("message", "", None, None),
        ("message", "three", None, None),
    ]
    events = runs.events.collect()
    assert events["media"].to_list()[-1] == ["image"]
    assert events["actor"].to_list()[2] == "critic"
    assert [at is None for at in events["started_at"]] == [False] * 3 + [True] + [False] * 4
    row = runs.steps.collect().row(0, named=True)
    assert (row["agent"], row["stop_reason"], row["thinking"]) == ("a", "stop", "text")
    metadata = json.loads(runs.trajectories.collect()["metadata"][0])
    assert metadata["beside"] == {"/steps/0/extra": {"thinking/3": {"of": "else"}}}
    assert runs.problems.collect().is_empty()


def test_blocks_that_do_not_fit_their_text_are_a_problem_and_are_kept(tmp_path: Path) -> None:
    blocks = [{"state": "text", "chars": 7, "signature": "s"}, {"state": "hidden"}]
    step = kept_step(thinking=blocks, messages=[{"chars": 99}], order=["tool_call"])
    runs = write(tmp_path, document(step))
    told = runs.events.select("kind", "text", "thinking_state").collect().rows()
    assert told == [
        ("thinking", "ab\n\ncd", "text"),
        ("thinking", None, "hidden"),
        ("message", "one\n\nthree", None),
    ]
    places = ["/steps/0/extra/thinking", "/steps/0/extra/messages"]
    assert runs.problems.collect()["position"].to_list() == places
    beside = json.loads(runs.trajectories.collect()["metadata"][0])["beside"]
    assert beside["/steps/0/extra"] == step["extra"]


def test_columns_are_read_from_extra_and_what_can_be_none_stays(tmp_path: Path) -> None:
    result = {"source_call_id": "c0", "content": "x", "extra": {"is_error": True, "exit_code": "1"}}
    step = agent_step(result, calls=1, extra={"thinking_sent": 0, "evidence": "request"})
    later = agent_step(message="m", extra={"thinking_sent": 3, "evidence": "wire", "agent": 7})
    other = {"source": "system", "message": "m", "extra": {"kind": "error", "error_type": "e"}}
    alone = {"source": "system", "message": "m", "extra": {"kind": "thinking", "exit_code": 2}}
    extra = {
        "outcome": "limit",
        "score": 0.5,
        "scores": [{"name": "s", "value": 0.5, "raw": "half"}],
        "task_id": "t",
        "params": {"temperature": 0},
        "metadata": {"note": "n", "session_id": "other"},
        "format": "x",
    }
    runs = write(tmp_path, document(step, later, other, alone, session_id="s", extra=extra))
    events = runs.events.collect()
    assert events["kind"].to_list() == ["tool_call", "tool_result", "message", "error", "system"]
    assert events["is_error"].to_list() == [None, True, None, None, None]
    assert events["error_type"].to_list()[3] == "e"
    assert events["exit_code"].to_list() == [None, None, None, None, 2]
    sent = runs.steps.select("thinking_sent", "evidence", "agent").collect().rows()
    assert sent == [(0, "request", None), (None, "wire", None)]
    row = runs.trajectories.collect().row(0, named=True)
    assert (row["outcome"], row["score"], row["task_id"]) == ("limit", 0.5, "t")
    assert row["scores"] == extra["scores"]
    assert json.loads(row["params"]) == {"temperature": 0}
    metadata = json.loads(row["metadata"])
    assert (metadata["note"], metadata["session_id"]) == ("n", "s")
    assert metadata["extra"] == {"format": "x", "metadata": {"session_id": "other"}}
    assert metadata["beside"] == {
        "/steps/0/observation/results/0/extra": {"exit_code": "1"},
        "/steps/1/extra": {"thinking_sent": 3, "agent": 7},
        "/steps/3/extra": {"kind": "thinking"},
    }
    assert runs.problems.collect()["position"].to_list() == ["/steps/1"]


def test_an_outcome_that_its_success_belies_is_not_taken(tmp_path: Path) -> None:
    runs = write(tmp_path, document(extra={"outcome": "success", "success": False}))
    row = runs.trajectories.collect().row(0, named=True)
    assert (row["outcome"], row["success"]) == ("failure", False)
    assert json.loads(row["metadata"])["extra"] == {"outcome": "success"}
    assert runs.problems.collect()["position"].to_list() == ["/extra/outcome"]


def test_nothing_of_a_trial_is_lost(tmp_path: Path) -> None:
    result = {
        "id": "0197",
        "task_name": "t",
        "trial_name": "t__1",
        "trial_uri": "file:///jobs/t__1",
        "config": {"environment": {"type": "docker"}, "timeout_multiplier": 1.5},
        "agent_result": {"n_input_tokens": 5, "metadata": {"turns": 3}},
        "exception_info": {
            "exception_type": "AgentTimeoutError",
            "exception_message": "after 60 seconds",
            "exception_traceback": "in run, line 1",
            "occurred_at": "2026-01-31T10:00:00Z",
        },
        "agent_setup": {"started_at": "2026-01-31T09:00:00Z"},
    }
    runs = trial(tmp_path / "t__1", result, reward_txt="0")
    kept = json.loads(runs.trajectories.collect()["metadata"][0])["trial"]
    assert set(kept) == {
        *("id", "trial_uri", "config", "agent_result", "exception_info", "agent_setup"),
    }
    assert str(runs.events.collect()["started_at"][-1]) == "2026-01-31 10:00:00+00:00"
    assert loaders.coverage(tmp_path / "t__1").lost.is_empty()
