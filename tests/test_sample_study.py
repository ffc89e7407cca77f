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
from analysis import ablation, report
from analysis.design import read_design
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


# ---------------------------------------------------------------- what was planted, and what is found


def test_the_planted_effects_are_there(truth: dict[str, Any]) -> None:
    rates, ratios = truth["planted"]["success"], truth["planted"]["hazard"]["odds_ratios"]
    assert rates["policy"]["all"] > rates["policy"]["last"] > rates["policy"]["none"]
    for policy in POLICIES:
        cell = {kind: rates["policy/perturbation"][f"{policy}/{kind}"] for kind in (*KINDS, "none")}
        assert abs(cell["stale"] - cell["none"]) < 0.06, policy
        assert all(cell[kind] < cell["none"] - 0.1 for kind in CAUSES), policy
    for kind in ("returned_error", "raised_error", "timeout"):
        assert 5 < ratios["all"][kind] < ratios["none"][kind]
    assert ratios["dropped x explicit error"] > 1.6
    by_model = rates["policy/model"]
    lost = {m: by_model[f"all/{m}"] - by_model[f"none/{m}"] for m in ("planner-1", "planner-2")}
    assert lost["planner-1"] > lost["planner-2"] + 0.1


def within(row: dict[str, Any], value: float) -> bool:
    return row["low"] <= value <= row["high"]


def test_the_report_pairs_on_all_that_is_crossed(made_report: report.Report) -> None:
    compared = made_report["compare"]
    assert made_report.by == "policy"
    assert compared.frame["pairs"].to_list() == [960, 960]
    assert not any("share a key" in text for text in compared.warnings)
    note = next(note for note in made_report.notes if note.startswith("Runs pair on"))
    assert all(name in note for name in ("perturbation", "scaffold", "model"))
    assert any("simulated" in note for note in made_report.notes)
    assert made_report.left_out == []


def test_the_report_estimates_what_the_policies_do(
    made_report: report.Report, truth: dict[str, Any]
) -> None:
    rates = truth["planted"]["success"]["policy"]
    for row in made_report["compare"].frame.iter_rows(named=True):
        assert within(row, rates[row["b"]] - rates["all"]), row
    assert made_report.answer.startswith("none succeeds in 49.7 % of 960 pairs, all in 64.5 %")


def test_the_report_finds_the_planted_causes_and_not_the_null(
    made_report: report.Report, truth: dict[str, Any]
) -> None:
    """All kinds harm but the null; intervals cover the truth as often as they say, ranks agree."""
    rates = truth["planted"]["success"]
    frame = made_report["factors"].frame
    rows = {row["effect"]: row for row in frame.iter_rows(named=True)}
    true = {kind: rates["perturbation"][kind] - rates["perturbation"]["none"] for kind in KINDS}
    assert rows["perturbation=stale"]["p_adjusted"] > 0.5
    assert within(rows["perturbation=stale"], true["stale"])
    shown = [kind for kind in CAUSES if rows[f"perturbation={kind}"]["p_adjusted"] < 0.05]
    assert len(shown) >= 8
    assert all(rows[f"perturbation={kind}"]["high"] < 0 for kind in CAUSES)
    covered = [kind for kind in KINDS if within(rows[f"perturbation={kind}"], true[kind])]
    assert len(covered) >= len(KINDS) - 1, set(KINDS) - set(covered)
    found = [rows[f"perturbation={kind}"]["difference"] for kind in KINDS]
    ranks = pl.DataFrame({"found": found, "true": [true[kind] for kind in KINDS]})
    assert ranks.select(pl.corr("found", "true", method="spearman")).item() > 0.75
    harmful = sorted(KINDS, key=lambda kind: rows[f"perturbation={kind}"]["difference"])
    assert set(harmful[:3]) <= {"returned_error", "raised_error", "timeout", "empty"}
    assert harmful[-1] == "stale"
    for name in ("planner-1", "planner-2"):  # the policy matters more to one of the models
        assert f"all/{name}" in rates["policy/model"]
    by_model = rates["policy/model"]
    loss = {m: by_model[f"none/{m}"] - by_model[f"all/{m}"] for m in ("planner-1", "planner-2")}
    both = rows["policy=none x model=planner-2"]
    assert within(both, loss["planner-2"] - loss["planner-1"])
    assert both["p_adjusted"] < 0.01


CODES = {
    "exception": "raised_error",
    "timeout": "timeout",
    "rate_limit": "rate_limit",
    "empty": "empty",
    "truncated": "truncated",
}
"""Codes of the rules that find one kind and little else, and that kind."""


def test_the_report_s_hazards_cover_the_truth(
    made_report: report.Report, truth: dict[str, Any]
) -> None:
    """Odds at a call: with all thinking at hand, and by how much dropping it makes an error worse."""
    ratios = truth["planted"]["hazard"]["odds_ratios"]
    rows = {row["exposure"]: row for row in made_report["hazard"].frame.iter_rows(named=True)}
    explicit = ("exception", "timeout", "rate_limit")  # their interaction is in the model
    for code in explicit:
        assert within(rows[code], ratios["all"][CODES[code]]), (code, rows[code])
        worse = [ratios[p][CODES[code]] / ratios["all"][CODES[code]] for p in ("last", "none")]
        both = rows[f"thinking_dropped x {code}"]
        assert both["low"] < max(worse), both
        assert both["high"] > min(worse), both
    for code in ("empty", "truncated"):  # over all policies alike
        span = [ratios[policy][CODES[code]] for policy in POLICIES]
        assert rows[code]["low"] < max(span), rows[code]
        assert rows[code]["high"] > min(span), rows[code]
    # Calls that the world itself refused are exec_error as well, and no worse without the plan: they
    # thin out its interaction, so that only its direction and that of exceptions are sure to be seen.
    for code in ("exec_error", "exception", "timeout"):
        assert rows[f"thinking_dropped x {code}"]["odds_ratio"] > 1.3, code
    assert rows["thinking_dropped x timeout"]["low"] > 1
    assert "thinking_dropped x timeout" in " ".join(made_report.support)


def test_every_run_got_the_policy_that_its_arm_is_named_for(made_report: report.Report) -> None:
    frame = made_report["manipulation"].frame
    assert frame["deviated"].to_list() == frame["unknown"].to_list() == [0, 0, 0]
    assert frame["compliance"].to_list() == [1.0, 1.0, 1.0]


def test_folders_alone_tell_the_design(study: Trajectories) -> None:
    """Without a template: arms are the first folders, what lies below is crossed with them."""
    plain = study.trajectories.collect().drop("policy", "scaffold", "perturbation")
    tables = {
        name: getattr(study, name).collect() for name in ("steps", "events", "tools", "problems")
    }
    runs = Trajectories.from_frames({"trajectories": plain, **tables})
    found, design = read_design(runs)
    assert design.arm == "arm"
    assert set(table_of(found, "trajectories")["arm"]) == set(POLICIES)
    assert "file" in design.conditions
    assert len(design.crossed) == 3
    compared = ablation.compare(found, "arm", design.pair, "all")
    assert compared.frame["pairs"].to_list() == [960, 960]
