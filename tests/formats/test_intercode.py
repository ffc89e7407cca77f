"""InterCode against its published figures and figures counted from the raw files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import loaders
from loaders import Trajectories

FOLDER = "intercode/data/results/bash/gpt-3.5"


@pytest.fixture(scope="module")
def runs(real_logs: Path) -> Trajectories:
    return loaders.load(real_logs / FOLDER)


@pytest.fixture(scope="module")
def raw(real_logs: Path) -> list[tuple[str, dict[str, Any]]]:
    files = sorted((real_logs / FOLDER).glob("*.json"))
    return [
        (file.name, episode) for file in files for episode in json.loads(file.read_text()).values()
    ]


# ---------------------------------------------------------------------- real files


def test_react_gives_the_published_figures(runs: Trajectories) -> None:
    react = runs.trajectories.filter(
        pl.col("metadata").str.json_path_match("$.strategy") == "react"
    ).with_columns(turns=pl.col("metadata").str.json_path_match("$.turns_taken").cast(pl.Int64))
    flags = (
        runs.events.filter(pl.col("kind") == "tool_result")
        .group_by("run")
        .agg(pl.col("is_error").mean())
    )
    table = react.join(flags, on="run").collect()
    assert table.height == 200
    assert round(table["success"].sum() / 200, 3) == 0.205
    assert round(table["turns"].sum() / 200, 1) == 4.4
    assert round(table["is_error"].sum() / 200, 12) == 0.203889069264


def test_every_turn_is_there(runs: Trajectories, raw: list[tuple[str, dict[str, Any]]]) -> None:
    histories = [episode["turn_history"] for _, episode in raw]
    events = runs.events.collect()
    kinds = dict(events.group_by("kind").len().iter_rows())
    actions = [action for history in histories for action in history["actions"]]
    assert kinds["user"] == len(raw) == 287
    assert kinds["tool_call"] == kinds["tool_result"] == len(actions) == 1442
    calls = events.filter(pl.col("kind") == "tool_call")
    assert [json.loads(text)["action"] for text in calls["arguments"]] == actions
    assert (calls["tool"] == "submit").sum() == actions.count("submit")
    results = events.filter(pl.col("kind") == "tool_result")
    assert results["text"].to_list() == [o for h in histories for o in h["observations"]]
    valid = [flag for history in histories for flag in history["valid_action"]]
    assert results["is_error"].to_list() == [not flag for flag in valid]
    assert (results["call_seq"] == results["seq"] - 1).all()


def test_thoughts_are_thinking_but_those_of_the_harness(
    runs: Trajectories, raw: list[tuple[str, dict[str, Any]]]
) -> None:
    forced = model = 0
    for _, episode in raw:
        thoughts = episode["turn_history"].get("thoughts", [])
        late = sum(thought.startswith("EXCEEDED MAX TURNS") for thought in thoughts)
        forced += late
        model += sum(bool(thought) for thought in thoughts) - late
    events = runs.events.collect()
    assert (events["kind"] == "thinking").sum() == model
    assert ((events["kind"] == "other") & (events["actor"] == "harness")).sum() == forced == 21
    actions = sum(len(episode["turn_history"]["actions"]) for _, episode in raw)
    assert runs.steps.collect().height == actions - forced


def test_task_score_and_model_are_the_log_s(
    runs: Trajectories, raw: list[tuple[str, dict[str, Any]]]
) -> None:
    table = runs.trajectories.collect()
    assert table["score"].to_list() == [e["summary"]["max_reward"] for _, e in raw]
    datasets = [episode["dataset"].rpartition("/")[2].removesuffix(".json") for _, episode in raw]
    tasks = [f"{d}/{e['task_id']}" for d, (_, e) in zip(datasets, raw, strict=True)]
    assert table["task_id"].to_list() == tasks
    models = ["gpt-3.5" if "multiturn" in name else None for name, _ in raw]
    assert table["model"].to_list() == models
    assert runs.problems.filter(pl.col("severity") != "skipped").collect().is_empty()


def test_positions_lead_to_the_raw_record(
    runs: Trajectories, raw: list[tuple[str, dict[str, Any]]]
) -> None:
    _, episode = raw[-1]
    last = runs[runs.ids[-1]]
    events = last.events.collect()
    assert last.raw(runs.ids[-1], 0) == episode["query"]
    found = [last.raw(runs.ids[-1], seq) for seq in events.filter(kind="tool_result")["seq"]]
    assert found == episode["turn_history"]["observations"]


# ---------------------------------------------------------------------- variants made here


def episode(reward: Any = 1, **history: list[Any]) -> dict[str, Any]:
    lists = {"actions": [], "observations": [], "rewards": [], "valid_action": []}
    return {
        "query": "q",
        "turn_history": {**lists, **history},
        "summary": {"max_reward": reward, "turns_taken": 1},
    }


def write(folder: Path, content: Any, name: str = "log.json") -> Trajectories:
    (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))
    return loaders.load(folder / name)


def test_plan_and_solve_tells_its_plan_as_what_the_model_was_asked(tmp_path: Path) -> None:
    solved = episode(
        0.5,
        steps=["look"],
        actions=["ls", "submit"],
        observations=[["a", 1], ""],
        valid_action=[True, False],
    )
    runs = write(tmp_path, {"meta": {"refine": True}, "logs": {"7": solved}})
    events = runs.events.collect()
    kinds = "user user tool_call tool_result tool_call tool_result"
    assert events["kind"].to_list() == kinds.split()
    assert [runs.raw(runs.ids[0], seq) for seq in (1, 2, 3)] == ["look", "ls", ["a", 1]]
    row = runs.trajectories.collect().row(0, named=True)
    metadata = json.loads(row["metadata"])
    assert (row["native_id"], row["task_id"], row["success"]) == ("7", "7", False)
    assert (metadata["strategy"], json.loads(row["params"])) == ("plan_solve", {"refine": True})
    assert runs.steps.collect().height == 2


def test_what_else_an_episode_says_is_metadata(tmp_path: Path) -> None:
    made = episode(0.5, rewards=[0.5])
    made["summary"]["max_reward_idx"] = 3
    made |= {"hardness": "hard", "info": {"eval_obs": "wanted"}}
    row = write(tmp_path, {"0": made}).trajectories.collect().row(0, named=True)
    metadata = json.loads(row["metadata"])
    assert metadata == {
        "strategy": "try_again",
        "turns_taken": 1,
        "max_reward_idx": 3,
        "hardness": "hard",
        "info": {"eval_obs": "wanted"},
        "rewards": [0.5],
    }


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("ic_sql_multiturn_text-davinci-003_10_turns_handicap.json", "text-davinci-003"),
        ("ic_sql_multiturn_gpt-3.5-1_turns.json", "gpt-3.5"),
        ("ic_bash_plan_solve_refine_3_turns.json", None),
    ],
)
def test_the_model_stands_in_the_file_s_name(tmp_path: Path, name: str, model: str | None) -> None:
    runs = write(tmp_path, {"0": episode()}, name)
    assert runs.trajectories.collect()["model"].to_list() == [model]


def test_lists_of_unequal_length_keep_all_they_hold(tmp_path: Path) -> None:
    runs = write(tmp_path, {"0": episode(actions=["a", "b"], observations=["x"])})
    row = runs.trajectories.collect().row(0, named=True)
    assert (row["unanswered_calls"], row["steps"]) == (1, 2)
    assert runs.problems.collect()["position"].to_list() == ["/0/turn_history"]
    assert runs.events.collect()["is_error"].null_count() == 4
    late = write(tmp_path, {"0": episode(actions=["a"], observations=["x", "y"])}, "late.json")
    assert late.steps.collect()["source_pos"].to_list()[1] == "/0/turn_history/observations/1"


def test_what_is_left_of_a_plan_is_told_but_no_model_call(tmp_path: Path) -> None:
    solved = episode(steps=["look", "left"], actions=["ls"], observations=["a"])
    runs = write(tmp_path, {"0": solved})
    last = runs.events.collect().row(-1, named=True)
    assert (last["kind"], last["text"], last["actor"]) == ("other", "left", "plan")
    assert runs.steps.collect().height == 1


def test_hostile_and_cut_files_keep_what_can_be_read(tmp_path: Path) -> None:
    odd = episode({}, actions=[1, None], observations=[{"a": 1}], thoughts=[[2]])
    content = {"0": episode(), "1": 7, "a/b": odd, "3": {"turn_history": [1], "summary": 2}}
    runs = write(tmp_path, content)
    table = runs.trajectories.collect()
    assert table["native_id"].to_list() == ["0", "1", "a/b", "3"]
    assert table["success"].to_list() == [True, None, None, None]
    assert table["orphan_results"].to_list() == [0, 0, 1, 0]
    text = json.dumps({"0": episode(actions=["kept"]), "1": episode(actions=["lost"])})
    cut = write(tmp_path, text[: text.index("lost")])
    assert cut.events.filter(pl.col("kind") == "tool_call").collect().height == 1
    assert "error" in cut.problems.collect()["severity"].to_list()
