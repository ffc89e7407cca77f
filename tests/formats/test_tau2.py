"""tau2-bench against its published figures and figures counted from the raw files."""

from __future__ import annotations

import json
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import loaders
from loaders import Trajectories

SONNET = "claude-sonnet-4-5"


@pytest.fixture(scope="module")
def runs(real_logs: Path) -> Trajectories:
    return loaders.load(real_logs / "tau2")


@pytest.fixture(scope="module")
def raw(real_logs: Path) -> dict[str, dict[str, Any]]:
    files = {
        path.as_posix(): json.loads(path.read_text()) for path in real_logs.rglob("tau2/**/*.json")
    }
    return {name: value for name, value in files.items() if "simulations" in value}


@pytest.fixture(scope="module")
def messages(raw: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    return [m for value in raw.values() for s in value["simulations"] for m in s["messages"]]


def rate(runs: Trajectories, model: str) -> Any:
    return runs.filter(model=model).trajectories.collect()["success"].mean()


# ---------------------------------------------------------------------- real files


def test_success_and_cost_are_those_of_the_leaderboard(runs: Trajectories) -> None:
    assert rate(runs, SONNET) == 0.72
    cost = runs.filter(model=SONNET).trajectories.collect()["cost_usd"]
    assert cost.sum() / 50 == pytest.approx(0.28886496)
    assert rate(runs, "gpt-4.1") == 0.50
    assert rate(runs, "ft:gpt-4.1-2025-04-14:sierra:tau2-full-sft:BzrYdMNm") == 0.65


def test_every_message_call_and_result_is_there(
    runs: Trajectories, messages: list[dict[str, Any]]
) -> None:
    kinds = dict(runs.events.group_by("kind").len().collect().iter_rows())
    roles = Counter(message["role"] for message in messages)
    assert kinds["user"] == roles["user"] == 570
    assert kinds["tool_result"] == roles["tool"] == 666
    assert kinds["tool_call"] == sum(len(m.get("tool_calls") or []) for m in messages) == 666
    replies = [message for message in messages if message["role"] == "assistant"]
    assert kinds["message"] == sum(bool(reply["content"]) for reply in replies)
    assert kinds["system"] == 90
    table = runs.trajectories.collect()
    assert table["unanswered_calls"].sum() == table["orphan_results"].sum() == 0


def test_greetings_are_no_model_calls(runs: Trajectories, messages: list[dict[str, Any]]) -> None:
    generated = [m for m in messages if m["role"] == "assistant" and m["usage"] is not None]
    assert runs.steps.collect().height == len(generated) == 921
    by_harness = runs.events.filter(pl.col("actor") == "harness").collect()
    greetings = by_harness.filter(pl.col("kind") == "message")
    assert greetings.height == 90
    assert greetings["step"].null_count() == 90
    errors = by_harness.filter(pl.col("kind") == "error")
    assert errors.height == sum(len(m.get("errors") or []) for m in messages) == 2
    assert errors["step"].null_count() == 0


def test_467_of_517_assistant_turns_have_thinking(
    runs: Trajectories, raw: dict[str, dict[str, Any]]
) -> None:
    sonnet = runs.filter(model=SONNET)
    turns = [
        m
        for value in raw.values()
        if value["info"]["agent_info"]["llm"] == SONNET
        for s in value["simulations"]
        for m in s["messages"]
        if m["role"] == "assistant"
    ]
    blocks = [b for m in turns if m["raw_data"] for b in m["raw_data"]["thinking_blocks"]]
    thoughts = sonnet.events.filter(pl.col("kind") == "thinking").collect()
    assert (len(turns), len(blocks), thoughts.height) == (517, 467, 467)
    assert thoughts["text"].str.len_chars().sum() == sum(len(b["thinking"]) for b in blocks)
    assert thoughts["thinking_state"].unique().to_list() == ["text"]
    assert sorted(thoughts["signature"]) == sorted(b["signature"] for b in blocks)
    steps = sonnet.steps.collect()
    assert steps["thinking"].unique().to_list() == ["text"]
    assert steps["thinking_sent"].null_count() == steps.height
    assert steps["model"].unique().to_list() == ["claude-sonnet-4-5-20250929"]


def test_without_thinking_in_the_log_nothing_is_claimed(runs: Trajectories) -> None:
    steps = runs.filter(model="gpt-4.1").steps.collect()
    assert steps["thinking"].null_count() == steps.height == 206


def test_tokens_times_and_stop_reasons(runs: Trajectories, messages: list[dict[str, Any]]) -> None:
    generated = [m for m in messages if m["role"] == "assistant" and m["usage"]]
    steps = runs.steps.collect()
    for column, key in (("input_tokens", "prompt_tokens"), ("output_tokens", "completion_tokens")):
        assert steps[column].sum() == sum(m["usage"][key] for m in generated)
    reasons = [
        m["raw_data"].get("finish_reason") or m["raw_data"]["stop_reason"] for m in generated
    ]
    assert Counter(steps["stop_reason"]) == Counter(reasons)
    assert steps["ended_at"].null_count() == 0
    assert steps["started_at"].null_count() == steps.height
    ended = runs.trajectories.collect()
    assert (ended["ended_at"] > ended["started_at"]).all()


def test_tool_errors_are_those_that_the_log_flags(
    runs: Trajectories, messages: list[dict[str, Any]]
) -> None:
    flags = Counter(message["error"] for message in messages if message["role"] == "tool")
    results = runs.events.filter(pl.col("kind") == "tool_result").collect()
    assert Counter(results["is_error"]) == flags == {False: 663, True: 3}


def test_scores_end_and_cost_are_the_log_s(
    runs: Trajectories, raw: dict[str, dict[str, Any]]
) -> None:
    simulations = [s for value in raw.values() for s in value["simulations"]]
    table = runs.trajectories.collect()
    assert table["end_reason"].unique().to_list() == ["user_stop"]
    scores = table.explode("scores").unnest("scores").group_by("name").agg(pl.col("value").sum())
    expected: Counter[str] = Counter()
    for simulation in simulations:
        expected.update(simulation["reward_info"]["reward_breakdown"])
    assert dict(scores.iter_rows()) == expected
    assert sorted(table["native_id"]) == sorted(s["id"] for s in simulations)
    unpriced = table.filter(pl.col("model").str.starts_with("ft:"))
    assert unpriced["cost_usd"].null_count() == 20, "a cost of 0 is an unknown price"


def test_both_arms_have_the_same_tasks_and_policy(runs: Trajectories) -> None:
    pair = runs.filter(pl.col("source").str.contains("model_training")).trajectories.collect()
    tasks = pair.group_by("model").agg(pl.col("task_id").sort())["task_id"].to_list()
    assert len(tasks) == 2
    assert tasks[0] == tasks[1]
    assert pair["system_prompt"].n_unique() == 1
    assert json.loads(pair["params"][0]) == {"temperature": 0.0}


def test_a_colon_in_the_file_name_does_no_harm(runs: Trajectories) -> None:
    tuned = runs.filter(pl.col("model").str.starts_with("ft:"))
    first = tuned.ids[0]
    for event in tuned[first].events.collect().iter_rows(named=True):
        found = tuned.raw(first, event["seq"])
        assert found == event["text"] or found["name"] == event["tool"]


def test_the_submission_is_read_with_its_trajectories(runs: Trajectories, real_logs: Path) -> None:
    metadata = json.loads(runs.filter(model=SONNET).trajectories.collect()["metadata"][0])
    assert metadata["submission"]["tau2_bench_version"] == "0.2.1-dev"
    sources = runs.problems.collect()["source"]
    assert not sources.str.ends_with("submission.json").any()
    with pytest.raises(loaders.LoadError, match="belongs to a tau2 log"):
        loaders.load(next(real_logs.rglob("submission.json")))


# ---------------------------------------------------------------------- variants made here

USAGE = {"prompt_tokens": 10, "completion_tokens": 4}
GREETING = {"role": "assistant", "content": "Hi!", "usage": None, "raw_data": None}


def reply(content: str | None = "ok", **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, "usage": USAGE, **more}


def simulation(*messages: Any, **more: Any) -> dict[str, Any]:
    return {
        "id": "s1",
        "task_id": "1",
        "start_time": "2025-01-01T10:00:00",
        "termination_reason": "user_stop",
        "reward_info": {"reward": 1.0},
        "trial": 0,
        "messages": list(messages),
        **more,
    }


def results(*simulations: Any, **info: Any) -> dict[str, Any]:
    return {
        "info": {
            "user_info": {"llm": "u"},
            "agent_info": {"llm": "m", "llm_args": {"temperature": 0}},
            "environment_info": {"domain_name": "telecom", "policy": "be kind"},
            **info,
        },
        "tasks": [{"id": "1"}],
        "simulations": list(simulations),
    }


def load(folder: Path, value: Any) -> Trajectories:
    (folder / "results.json").write_text(json.dumps(value))
    return loaders.load(folder)


def test_the_user_s_tool_calls_are_the_user_s(tmp_path: Path) -> None:
    call = {"id": "u1", "name": "toggle", "arguments": {"on": True}, "requestor": "user"}
    runs = load(
        tmp_path,
        results(
            simulation(
                GREETING,
                {"role": "user", "content": None, "tool_calls": [call]},
                {"role": "tool", "id": "u1", "content": "on", "requestor": "user", "error": False},
                {"role": "user", "content": "It is on."},
                reply(),
            )
        ),
    )
    events = runs.events.collect()
    assert events["kind"].to_list() == [
        "system",
        "message",
        "tool_call",
        "tool_result",
        "user",
        "message",
    ]
    assert events["actor"].to_list() == [None, "harness", "user", "user", None, None]
    assert events["call_seq"][3] == 2
    assert runs.steps.collect().height == 1


def test_results_wrapped_together_are_told_one_by_one(tmp_path: Path) -> None:
    calls = [{"id": name, "name": name, "arguments": {}} for name in "ab"]
    wrapped = [{"id": name, "content": name, "error": name == "b"} for name in "ba"]
    runs = load(
        tmp_path,
        results(
            simulation(reply(None, tool_calls=calls), {"role": "tool", "tool_messages": wrapped})
        ),
    )
    answers = runs.events.filter(pl.col("kind") == "tool_result").collect()
    assert answers.select("tool", "text", "is_error").rows() == [
        ("b", "b", True),
        ("a", "a", False),
    ]
    assert runs.raw(runs.ids[0], 3) == "b"


def test_calls_without_ids_are_answered_in_order(tmp_path: Path) -> None:
    calls = [{"id": "", "name": name, "arguments": {}} for name in "ab"]
    answers = [{"role": "tool", "id": "", "content": name} for name in "ab"]
    runs = load(tmp_path, results(simulation(reply(None, tool_calls=calls), *answers)))
    told = runs.events.filter(pl.col("kind") == "tool_result").collect()
    assert told["tool"].to_list() == ["a", "b"]
    assert told["is_error"].to_list() == [None, None]


def test_thinking_is_told_once_wherever_the_client_left_it(tmp_path: Path) -> None:
    block = {"type": "thinking", "thinking": "hm", "signature": "s"}
    twice = {"thinking_blocks": [block], "message": {"reasoning_content": "hm"}}
    runs = load(
        tmp_path,
        results(
            simulation(
                reply(raw_data=twice),
                reply(raw_data={"thinking_blocks": None}),
                reply(raw_data={"message": {"thinking_blocks": [{**block, "thinking": ""}]}}),
            )
        ),
    )
    thoughts = runs.events.filter(pl.col("kind") == "thinking").collect()
    assert thoughts["thinking_state"].to_list() == ["text", "hidden"]
    assert thoughts["signature"].to_list() == ["s", "s"], "one of the two places has none"
    assert runs.steps.collect()["thinking"].to_list() == ["text", "absent", "hidden"]
    assert runs.raw(runs.ids[0], 1)["thinking"] == "hm"


def test_cached_tokens_of_anthropic_s_usage_are_input(tmp_path: Path) -> None:
    usage = {"input_tokens": 3, "cache_read_input_tokens": 100, "output_tokens": 4}
    runs = load(tmp_path, results(simulation(reply(raw_data={"usage": usage}))))
    step = runs.steps.collect().row(0, named=True)
    assert (step["input_tokens"], step["cached_tokens"], step["output_tokens"]) == (103, 100, 4)


def test_a_generation_time_gives_the_start_of_a_call(tmp_path: Path) -> None:
    message = reply(timestamp="2025-01-01T10:00:09", generation_time_seconds=2.5)
    endless = reply(timestamp="2025-01-01T10:00:09", generation_time_seconds=1e300)
    steps = load(tmp_path, results(simulation(message, endless))).steps.collect()
    assert (steps["ended_at"] - steps["started_at"]).to_list() == [timedelta(seconds=2.5), None]


def test_a_call_whose_input_was_truncated_says_so(tmp_path: Path) -> None:
    runs = load(
        tmp_path,
        results(simulation(reply(), reply(context_truncation={"messages_dropped": 3}))),
    )
    steps = runs.steps.collect()
    assert steps["history_edit"].to_list() == [None, "truncated"]
    metadata = json.loads(runs.trajectories.collect()["metadata"][0])
    assert metadata["messages"] == {"1": {"context_truncation": {"messages_dropped": 3}}}
    assert steps["evidence"].to_list() == ["unknown", "unknown"]


def test_an_agent_that_records_no_usage_makes_calls_nonetheless(tmp_path: Path) -> None:
    bare = {"role": "assistant", "content": "ok"}
    runs = load(tmp_path, results(simulation(GREETING, {"role": "user", "content": "x"}, bare)))
    assert runs.steps.collect()["seq"].to_list() == [3]


@pytest.mark.parametrize(
    ("reason", "reward", "outcome"),
    [
        ("max_steps", 0.0, "limit"),
        ("too_many_errors", 0.0, "limit"),
        ("infrastructure_error", 0.0, "error"),
        ("agent_stop", 0.0, "failure"),
        ("agent_stop", 1.0, "success"),
        ("max_steps", 1.0, "success"),
    ],
)
def test_how_a_run_ended(tmp_path: Path, reason: str, reward: float, outcome: str) -> None:
    run = simulation(termination_reason=reason, reward_info={"reward": reward})
    table = load(tmp_path, results(run)).trajectories.collect()
    assert table["outcome"].to_list() == [outcome]
    assert table["end_reason"].to_list() == [reason]


def test_what_no_column_has_is_in_the_metadata(tmp_path: Path) -> None:
    criteria = {"nl_assertions": ["The agent says why it refuses."], "actions": []}
    user = {"role": "user", "content": "x", "usage": USAGE, "cost": 0.25}
    refused = reply(errors=["Neither text nor a call."], cost=0.5, turn_idx=2)
    value = results(
        simulation(GREETING, user, refused, mode="half duplex"),
        seed=300,
        user_info={"llm": "u", "global_simulation_guidelines": "Play the customer."},
    )
    value["tasks"][0] |= {"description": {"purpose": "to be refused"}}
    value["tasks"][0] |= {"evaluation_criteria": criteria}
    submission = {
        "model_name": "a model",
        "organization": "an organization",
        "submission_date": "2025-10-31",
        "contact_info": {"email": "a@b.c"},
        "results": {"airline": {"pass_1": 72.5}},
        "methodology": {"notes": "none of interest"},
    }
    (tmp_path / "submission.json").write_text(json.dumps(submission))
    (tmp_path / "trajectories").mkdir()
    runs = load(tmp_path / "trajectories", value)
    metadata = json.loads(runs.trajectories.collect()["metadata"][0])
    assert metadata["info"] == {"seed": 300}
    assert metadata["user_info"] == {"global_simulation_guidelines": "Play the customer."}
    assert metadata["task"]["description"] == {"purpose": "to be refused"}
    assert metadata["task"]["evaluation_criteria"] == criteria
    assert metadata["user_tokens"] == USAGE
    assert metadata["mode"] == "half duplex"
    assert metadata["leaderboard"]["results"] == submission["results"]
    events = runs.events.filter(pl.col("kind") == "error").collect()
    assert events["text"].to_list() == ["Neither text nor a call."]
    assert events["step"].to_list() == [0], "it belongs to the call that was made again"
    assert "a@b.c" not in str(metadata)
    assert loaders.coverage(tmp_path, progress=False).lost.is_empty()


def test_a_run_without_a_reward_is_unknown(tmp_path: Path) -> None:
    table = load(tmp_path, results(simulation(reward_info=None))).trajectories.collect()
    assert (table["outcome"][0], table["success"][0]) == ("unknown", None)


def test_tasks_without_a_simulation_are_a_warning(tmp_path: Path) -> None:
    value = results(simulation(), num_trials=2)
    value["tasks"] = [{"id": "1"}, {"id": "7"}]
    problems = load(tmp_path, value).problems.collect()
    assert problems["severity"].to_list() == ["warning"]
    assert problems["reason"].to_list() == ["1 simulations of 2 tasks in 2 trials; none of 7"]


def test_keys_in_llm_args_are_redacted_and_counted(tmp_path: Path) -> None:
    agent = {"llm": "m", "llm_args": {"api_key": "very-secret", "temperature": 0}}
    user = {"llm": "u", "llm_args": {"api_key": "very-secret"}}
    runs = load(tmp_path, results(simulation(), agent_info=agent, user_info=user))
    row = runs.trajectories.collect().row(0, named=True)
    assert "very-secret" not in row["params"] + row["metadata"]
    assert json.loads(row["params"])["temperature"] == 0
    assert runs.problems.collect()["reason"].str.contains("1 credentials redacted").to_list() == [
        True,
        True,
    ]


def test_tool_definitions_are_kept(tmp_path: Path) -> None:
    value = results(simulation(reply()))
    value["info"]["environment_info"]["tool_defs"] = {"f": {"name": "f", "doc": "d", "params": {}}}
    runs = load(tmp_path, value)
    assert runs.tools.collect().select("name", "description").rows() == [("f", "d")]
    assert runs.trajectories.collect()["task_id"].to_list() == ["telecom/1"]


def test_a_policy_of_its_own_takes_the_place_of_the_domain_s(tmp_path: Path) -> None:
    runs = load(tmp_path, results(simulation(policy="mine"), simulation(id="s2")))
    assert [runs.raw(trajectory, 0) for trajectory in runs.ids] == ["mine", "be kind"]


def test_a_folder_of_simulations_is_read_through_its_index(tmp_path: Path) -> None:
    value = results(num_trials=3)
    del value["simulations"]
    value["simulation_index"] = [{"id": "s1"}, {"id": "../s1"}, {"id": "gone"}]
    (tmp_path / "simulations").mkdir()
    (tmp_path / "simulations" / "s1.json").write_text(json.dumps(simulation(GREETING, reply())))
    runs = load(tmp_path, value)
    assert runs.trajectories.collect()["native_id"].to_list() == ["s1", "s1"]
    assert runs.raw(runs.ids[0], 2) == "ok"
    problems = runs.problems.filter(pl.col("severity") == "error").collect()
    assert problems["position"].to_list() == ["simulations/gone.json"]


def test_voice_simulations_are_a_problem_not_an_empty_run(tmp_path: Path) -> None:
    runs = load(tmp_path, results(simulation(messages=None, ticks=[{"tick_id": 0}])))
    assert runs.problems.collect()["reason"].str.contains("ticks are not read").to_list() == [True]


def test_hostile_types_cost_only_themselves(tmp_path: Path) -> None:
    hostile = simulation(
        "text",
        {"role": "assistant", "content": {"a": 1}, "raw_data": "x", "tool_calls": [7]},
        {"role": "tool", "tool_messages": [None], "error": "yes"},
        {"role": 5, "content": ["a", "b"], "timestamp": "never"},
        reward_info={"reward": "1", "reward_breakdown": {"DB": {}, "COMMUNICATE": None}},
        trial={},
        task_id=None,
    )
    runs = load(tmp_path, results(hostile, "no simulation", simulation(reply())))
    table = runs.trajectories.collect()
    assert table["success"].to_list() == [None, True]
    problems = runs.problems.filter(pl.col("severity") == "error").collect()
    assert problems["position"].to_list() == ["/simulations/1"]


def test_of_a_file_cut_short_the_runs_before_the_cut_are_kept(tmp_path: Path) -> None:
    whole = json.dumps(results(simulation(reply()), simulation(reply("x" * 500), id="s2")))
    (tmp_path / "results.json").write_text(whole[:-300])
    runs = loaders.load(tmp_path)
    assert runs.trajectories.collect()["native_id"].to_list()[0] == "s1"
    assert "error" in runs.problems.collect()["severity"].to_list()
