"""Terminal-Bench against the leaderboard's accuracies and figures counted from the raw files."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import loaders
from loaders import Trajectories

FOLDER = "terminal_bench/results/terminal-bench-core@0.1.1"


@pytest.fixture(scope="module")
def runs(real_logs: Path) -> Trajectories:
    return loaders.load(real_logs / FOLDER)


@pytest.fixture(scope="module")
def raw(real_logs: Path) -> list[dict[str, Any]]:
    files = sorted((real_logs / FOLDER).rglob("*results.json"))
    records = [json.loads(file.read_text()) for file in files]
    return [trial for record in records for trial in record.get("results", [record])]


# ---------------------------------------------------------------------- real files


@pytest.mark.parametrize(
    ("scaffold", "mean", "accuracies"),
    [
        ("goose", 0.4125, [0.4, 0.4, 0.4, 0.4, 0.4625]),
        ("chaterm", 0.4925, [0.4625, 0.4625, 0.5, 0.5125, 0.525]),
    ],
)
def test_accuracies_are_the_submitted_ones(
    runs: Trajectories, scaffold: str, mean: float, accuracies: list[float]
) -> None:
    of_runs = (
        runs.trajectories.filter(pl.col("source").str.contains(f"_{scaffold}_"))
        .group_by("source", stated=pl.col("metadata").str.json_path_match("$.run_accuracy"))
        .agg(pl.col("score").mean(), trials=pl.len())
        .collect()
    )
    assert of_runs["trials"].to_list() == [80] * 5
    assert [round(score, 6) for score in sorted(of_runs["score"])] == accuracies
    assert sorted(float(stated) for stated in of_runs["stated"]) == accuracies
    assert round(sum(of_runs["score"]) / 5, 6) == mean


def test_every_trial_is_there_with_what_it_says(
    runs: Trajectories, raw: list[dict[str, Any]]
) -> None:
    table = runs.trajectories.collect()
    by_id = {row["native_id"]: row for row in table.iter_rows(named=True)}
    assert len(by_id) == len(table) == len(raw) == 801
    for trial in raw:
        row = by_id[trial["id"]]
        assert (row["task_id"], row["success"]) == (trial["task_id"], trial["is_resolved"])
        assert row["input_tokens"] == (trial["total_input_tokens"] or None)
        assert row["output_tokens"] == (trial["total_output_tokens"] or None)
        tests = {score["name"]: score["raw"] for score in row["scores"] or []}
        assert tests == (trial["parser_results"] or {})
        assert row["started_at"].isoformat() == trial["trial_started_at"]
    assert table["steps"].sum() == 0


def test_outcomes_keep_why_a_trial_ended(runs: Trajectories, raw: list[dict[str, Any]]) -> None:
    expected: Counter[str] = Counter()
    for trial in raw:
        match trial["is_resolved"], trial["failure_mode"]:
            case True, _:
                expected["success"] += 1
            case _, "agent_timeout":
                expected["limit"] += 1
            case False, "unset":
                expected["failure"] += 1
            case _:
                expected["error"] += 1
    table = runs.trajectories.collect()
    assert Counter(table["outcome"]) == expected
    reasons = Counter(trial["failure_mode"] for trial in raw if trial["failure_mode"] != "unset")
    assert Counter(table["end_reason"].drop_nulls()) == reasons


def test_positions_lead_to_the_instruction(runs: Trajectories, raw: list[dict[str, Any]]) -> None:
    instructions = {trial["id"]: trial["instruction"] for trial in raw}
    names = runs.trajectories.select("trajectory_id", "native_id").collect()
    for identifier, native_id in names.gather_every(80).iter_rows():
        assert runs.raw(identifier, 0) == instructions[native_id]


# ---------------------------------------------------------------------- variants made here


def trial(number: int, **more: Any) -> dict[str, Any]:
    made = {"id": f"t{number}", "trial_name": f"task.{number}-of-2.run", "task_id": "task"}
    verdict = {"is_resolved": True, "failure_mode": "none", "parser_results": {"test": "passed"}}
    return {**made, "instruction": f"do {number}", **verdict, **more}


def write_run(folder: Path, *trials: dict[str, Any]) -> None:
    folder.mkdir()
    whole = {"id": "run", "results": list(trials), "accuracy": 1.0}
    (folder / "results.json").write_text(json.dumps(whole))
    for one in trials:
        own = folder / one["task_id"] / one["trial_name"]
        own.mkdir(parents=True)
        (own / "results.json").write_text(json.dumps(one))


def test_a_trial_in_its_own_directory_and_in_the_run_s_file_is_one(tmp_path: Path) -> None:
    write_run(tmp_path / "run", trial(1), trial(2))
    lost = tmp_path / "run" / "task" / "task.3-of-3.run"
    lost.mkdir()
    (lost / "results.json").write_text(json.dumps(trial(3)))
    runs = loaders.load(tmp_path / "run")
    table = runs.trajectories.collect()
    assert sorted(table["native_id"]) == ["t1", "t2", "t3"]
    assert [runs.raw(one, 0) for one in runs.ids] == ["do 1", "do 2", "do 3"]
    assert runs.problems.collect().is_empty()
    alone = loaders.load(tmp_path / "run" / "task" / "**" / "results.json")
    assert sorted(alone.trajectories.collect()["native_id"]) == ["t1", "t2", "t3"]
    assert sorted(alone.raw(one, 0) for one in alone.ids) == ["do 1", "do 2", "do 3"]


def test_a_trial_that_its_two_files_tell_differently_is_warned_of(tmp_path: Path) -> None:
    write_run(tmp_path / "run", trial(1))
    own = tmp_path / "run" / "task" / trial(1)["trial_name"] / "results.json"
    own.write_text(json.dumps(trial(1, is_resolved=False)))
    runs = loaders.load(tmp_path / "run")
    assert runs.trajectories.collect()["success"].to_list() == [True]
    problem = runs.problems.collect().row(0, named=True)
    assert problem["position"] == f"task/{trial(1)['trial_name']}/results.json#"
    assert "otherwise: is_resolved" in problem["reason"]


def test_what_else_a_run_or_a_trial_says_is_metadata(tmp_path: Path) -> None:
    whole = {"id": "r", "results": [trial(1, retries=2)], "accuracy": 1.0, "pass_at_k": {"2": 0.5}}
    (tmp_path / "results.json").write_text(json.dumps({**whole, "n_resolved": 1}))
    row = loaders.load(tmp_path).trajectories.collect().row(0, named=True)
    assert json.loads(row["metadata"]) == {
        "run_id": "r",
        "run_accuracy": 1.0,
        "run_pass_at_k": {"2": 0.5},
        "retries": 2,
    }


def test_trials_without_their_run_s_file_keep_the_labels_of_their_paths(tmp_path: Path) -> None:
    for number, arm in enumerate(("a", "b")):
        folder = tmp_path / arm / "task" / "trial"
        folder.mkdir(parents=True)
        (folder / "results.json").write_text(json.dumps(trial(number)))
    runs = loaders.load(f"{tmp_path}/{{arm}}/*/*/results.json")
    assert runs.trajectories.collect()["arm"].to_list() == ["a", "b"]


def test_a_copied_run_directory_is_warned_of(tmp_path: Path) -> None:
    write_run(tmp_path / "run", trial(1), trial(2))
    shutil.copytree(tmp_path / "run", tmp_path / "again")
    runs = loaders.load(tmp_path)
    assert runs.trajectories.collect().height == 4
    problems = runs.problems.collect()
    assert problems["reason"].str.contains("loaded twice").to_list() == [True, True]


@pytest.mark.parametrize(
    ("resolved", "failure", "outcome", "success", "score"),
    [
        (True, "agent_timeout", "success", True, 1.0),
        (False, "context_length_exceeded", "limit", False, 0.0),
        (None, "parse_error", "error", None, 0.0),
        (False, "none", "failure", False, 0.0),
        (None, None, "unknown", None, 0.0),
    ],
)
def test_outcome_and_score(
    tmp_path: Path, resolved: Any, failure: Any, outcome: str, success: Any, score: float
) -> None:
    one = trial(1, is_resolved=resolved, failure_mode=failure, total_input_tokens=0)
    (tmp_path / "results.json").write_text(json.dumps(one))
    row = loaders.load(tmp_path).trajectories.collect().row(0, named=True)
    assert (row["outcome"], row["success"], row["score"]) == (outcome, success, score)
    assert row["input_tokens"] is None


def test_hostile_and_cut_files_keep_what_can_be_read(tmp_path: Path) -> None:
    hostile = {"is_resolved": "yes", "failure_mode": [1], "task_id": 7, "parser_results": [2]}
    odd = {**trial(3), "parser_results": {"test": {"a": 1}}, "trial_started_at": "soon"}
    text = json.dumps({"results": [trial(1), hostile, "none", odd, trial(4)]})
    (tmp_path / "results.json").write_text(text)
    table = loaders.load(tmp_path).trajectories.collect()
    assert table["native_id"].to_list() == ["t1", None, None, "t3", "t4"]
    assert table["success"].to_list() == [True, None, None, True, True]
    assert table["score"].to_list() == [1.0, None, None, 1.0, 1.0]
    (tmp_path / "results.json").write_text(text[: text.index("do 4")])
    cut = loaders.load(tmp_path)
    assert cut.trajectories.collect()["native_id"].to_list()[:4] == ["t1", None, None, "t3"]
    assert "error" in cut.problems.collect()["severity"].to_list()
