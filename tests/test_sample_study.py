"""The sample study against its truth: what happened in every run, what was planted, and what is found.

The whole study is read here and nowhere else: once for all workers, into a store that they scan.
"""

from __future__ import annotations

import fcntl
import json
import os
from typing import Any

import polars as pl
import pytest
from generator import KINDS, SAMPLES, Generator, table_of

import loaders
from analysis import report
from loaders import Trajectories

STUDY = SAMPLES / "study" / "{policy}/{model}/{scaffold}/{perturbation}.*"
FACTORS = ("policy", "model", "scaffold", "perturbation")
POLICIES = ("all", "last", "none")
CAUSES = [kind for kind in KINDS if kind != "stale"]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Trajectories:
    ours = tmp_path_factory.getbasetemp()
    store = (ours.parent if "PYTEST_XDIST_WORKER" in os.environ else ours) / "whole_study"
    with store.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not store.exists():
            loaders.load(STUDY, progress=False).save(store)
    return loaders.scan(store)


@pytest.fixture(scope="module")
def told(made: Generator, truth: dict[str, Any]) -> pl.DataFrame:
    """A row per run with its truth."""
    rows = list(made.truth.study_runs(truth))
    frame = pl.DataFrame([{**row, "trial": str(row["trial"])} for row in rows])
    return frame.rename({name: f"true_{name}" for name in ("outcome", "success", "steps")})


@pytest.fixture(scope="module")
def made_report(study: Trajectories) -> report.Report:
    return report.make(study)


@pytest.fixture(scope="module")
def joined(study: Trajectories, told: pl.DataFrame) -> pl.DataFrame:
    """The runs as they were read, beside their truth."""
    return table_of(study, "trajectories").join(
        told, on=[*FACTORS, "task_id", "trial"], how="full", coalesce=True
    )


# ---------------------------------------------------------------- every run


def test_the_study_is_crossed_and_large_enough(told: pl.DataFrame) -> None:
    assert told.height == 2880
    cells = told.group_by("policy", "model", "scaffold").agg(
        pl.len(), pl.col("task_id").n_unique().alias("tasks")
    )
    assert cells.height == 12
    assert cells["len"].unique().to_list() == [240]
    assert cells["tasks"].unique().to_list() == [60]
    assert set(told["perturbation"]) == {"none", *KINDS}
    assert told.filter(~pl.col("true_success")).height >= 1200


def test_every_run_is_read_as_it_was(study: Trajectories, joined: pl.DataFrame) -> None:
    assert table_of(study, "problems").is_empty()
    assert joined.height == 2880
    assert joined["trajectory_id"].null_count() == joined["true_steps"].null_count() == 0
    for name in ("outcome", "success", "steps"):
        differ = joined.filter(
            pl.col(name).cast(pl.String) != pl.col(f"true_{name}").cast(pl.String)
        )
        assert differ.is_empty(), differ.select(*FACTORS, "task_id", name, f"true_{name}")


def test_thinking_sent_is_read_from_the_requests(study: Trajectories, joined: pl.DataFrame) -> None:
    """In each scaffold's own logs stands, for each request, what the server saw: what the policy says."""
    steps = table_of(study, "steps").join(joined.select("run", "policy"), on="run")
    assert set(steps["evidence"]) == {"request"}
    number = pl.col("step")
    due = (
        pl.when(policy="all").then(number).when(policy="last").then(number.clip(0, 1)).otherwise(0)
    )
    assert steps.filter(pl.col("thinking_sent") != due).is_empty()
    assert steps.filter(pl.col("thinking_available") != number).is_empty()


LOOKS = {
    "returned_error": r"internal error 500",
    "raised_error": r"connection to the service was lost",
    "timeout": r"timed out",
    "rate_limit": r"HTTP 429",
    "empty": r"^(\[\]|\{\})$",
    "truncated": r"\[truncated\]$",
    "malformed": r"^[\[{](.*[^\]}])?$",
    "stale": r"served from cache",
    "injection": r"Ignore all previous instructions",
    "schema_drift": r'"(\w+Value|[a-z]+Id|cells|\w+[a-z][A-Z]\w+)":|^\[\]$',
}


def test_struck_responses_stand_where_the_truth_says(
    study: Trajectories, joined: pl.DataFrame
) -> None:
    results = table_of(study, "events").filter(pl.col("kind") == "tool_result")
    struck = (
        joined.select("run", "perturbation", "struck")
        .explode("struck")
        .drop_nulls("struck")
        .join(results, left_on=["run", "struck"], right_on=["run", "step"], how="left")
    )
    assert struck.height > 3000
    for kind, pattern in LOOKS.items():
        texts = struck.filter(perturbation=kind)["text"]
        assert texts.len() > 150
        assert texts.str.contains(pattern).all(), (kind, texts.filter(~texts.str.contains(pattern)))
    others = results.join(
        struck.select("run", pl.col("struck").alias("step")), on=["run", "step"], how="anti"
    )["text"]
    for kind in ("returned_error", "raised_error", "timeout", "rate_limit", "stale", "injection"):
        assert not others.str.contains(LOOKS[kind]).any(), kind


def test_the_logs_are_what_the_generator_makes(made: Generator, truth: dict[str, Any]) -> None:
    """The frameworks' runs and plays in one process agree, and the parameters are those."""
    assert truth["parameters"] == json.loads(
        json.dumps({name: vars(params) for name, params in made.agent.MODELS.items()})
    )
    tasks = {task.id: task for task in made.world.all_tasks()}
    for number, run in enumerate(made.truth.study_runs(truth)):
        if number % 5:  # a fifth of the runs, of all arms, tasks and conditions
            continue
        arm = made.design.Arm(run["policy"], run["model"], run["scaffold"])
        episode = made.offline.play_arm(
            tasks[run["task_id"]], run["trial"], arm, run["perturbation"]
        )
        is_cut_short = arm.scaffold == "openai_agents" and run["outcome"] == "limit"
        steps = episode.steps - is_cut_short  # it does not ask for the call after the limit
        assert (episode.outcome, steps) == (run["outcome"], run["steps"]), run
        assert [step for step, _ in episode.hits] == run["struck"]
