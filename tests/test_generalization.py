"""Variance components against planted ones, the analysis of variance and REML; orders that are planted."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy import stats
from simulate_outcomes import SD, as_runs, effects, scored
from small import runs_of

import loaders
from analysis import generalization as g
from analysis.plots import to_svg
from analysis.variance import Cube, components_of, cube_of, intervals, without_each_task
from loaders import DerailError, Trajectories


def anova(y: np.ndarray) -> dict[str, float]:
    """The balanced three-way analysis of variance with random effects, from expected mean squares.

    ``y``: (model, scaffold, task, trial)."""
    m, s, t, k = y.shape
    grand = y.mean()
    means = {
        "m": y.mean((1, 2, 3)), "s": y.mean((0, 2, 3)), "t": y.mean((0, 1, 3)),
        "ms": y.mean((2, 3)), "mt": y.mean((1, 3)), "st": y.mean((0, 3)), "mst": y.mean(3),
    }  # fmt: skip
    a, b, c = means["m"] - grand, means["s"] - grand, means["t"] - grand
    ab = means["ms"] - a[:, None] - b[None] - grand
    ac = means["mt"] - a[:, None] - c[None] - grand
    bc = means["st"] - b[:, None] - c[None] - grand
    abc = means["mst"] - grand - a[:, None, None] - b[None, :, None] - c[None, None]
    abc = abc - ab[:, :, None] - ac[:, None] - bc[None]
    square = {
        "m": s * t * k * (a**2).sum() / (m - 1),
        "s": m * t * k * (b**2).sum() / (s - 1),
        "t": m * s * k * (c**2).sum() / (t - 1),
        "ms": t * k * (ab**2).sum() / ((m - 1) * (s - 1)),
        "mt": s * k * (ac**2).sum() / ((m - 1) * (t - 1)),
        "st": m * k * (bc**2).sum() / ((s - 1) * (t - 1)),
        "mst": k * (abc**2).sum() / ((m - 1) * (s - 1) * (t - 1)),
        "e": ((y - means["mst"][..., None]) ** 2).sum() / (m * s * t * (k - 1)),
    }
    q = square
    return {
        "m": (q["m"] - q["ms"] - q["mt"] + q["mst"]) / (s * t * k),
        "s": (q["s"] - q["ms"] - q["st"] + q["mst"]) / (m * t * k),
        "t": (q["t"] - q["mt"] - q["st"] + q["mst"]) / (m * s * k),
        "ms": (q["ms"] - q["mst"]) / (t * k),
        "mt": (q["mt"] - q["mst"]) / (s * k),
        "st": (q["st"] - q["mst"]) / (m * k),
        "mst": (q["mst"] - q["e"]) / k,
        "e": q["e"],
    }


NAMES = {
    "model": "m", "framework": "s", "task": "t", "model x framework": "ms", "model x task": "mt",
    "framework x task": "st", "model x framework x task": "mst", "residual": "e",
}  # fmt: skip


def test_equal_cells_give_the_analysis_of_variance() -> None:
    rng = np.random.default_rng(4)
    table = scored(rng, effects(rng, 5, 4, 30), trials=3)
    known = anova(table["score"].to_numpy().reshape(5, 4, 30, 3))
    found = g.components(as_runs(table), outcome="score").frame
    assert found["component"].to_list() == list(NAMES)
    shares = [max(known[short], 0) for short in NAMES.values()]
    np.testing.assert_allclose(found["share"], np.array(shares) / sum(shares), atol=1e-10)
    for name, variance, low, high in found.select("component", "variance", "low", "high").rows():
        assert variance == pytest.approx(max(known[NAMES[name]], 0), abs=1e-10)
        assert low <= variance <= high
    assert found["share"].sum() == pytest.approx(1)


def test_equal_cells_give_restricted_maximum_likelihood() -> None:
    """Where no estimate is negative, REML of balanced data is the analysis of variance."""
    from statsmodels.regression.mixed_linear_model import MixedLM

    rng = np.random.default_rng(2)
    table = scored(rng, effects(rng, 6, 1, 15)[:, :1], trials=2)
    frame = pd.DataFrame(table.to_dict(as_series=False))
    parts = {"m": "0 + C(m)", "t": "0 + C(t)", "mt": "0 + C(m):C(t)"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = MixedLM.from_formula(
            "score ~ 1", groups=np.ones(len(frame)), vc_formula=parts, re_formula="0", data=frame
        )
        fit = model.fit(method="lbfgs")
    reml = dict(zip(model.exog_vc.names, fit.vcomp, strict=True)) | {"e": fit.scale}
    found = g.components(as_runs(table), outcome="score")
    assert "framework has one level here and is left out" in found.warnings
    variances = dict(found.frame.select("component", "variance").iter_rows())
    for name, short in (("model", "m"), ("task", "t"), ("model x task", "mt"), ("residual", "e")):
        assert variances[name] == pytest.approx(reml[short], rel=2e-3)


@pytest.mark.parametrize(("trials", "keep"), [(2, 1.0), (3, 0.5)])
def test_planted_components_are_found_without_bias_in_any_design(trials: int, keep: float) -> None:
    """Unclipped estimates, averaged over data sets, are the planted variances."""
    rng = np.random.default_rng(7)
    found = []
    for _ in range(150):
        table = scored(rng, effects(rng, 6, 5, 20), trials, keep)
        named = table.rename({"score": "y", "t": "task"})
        found.append(components_of(cube_of(named, ["m", "s"])))
    mean, error = np.mean(found, axis=0), np.std(found, axis=0) / np.sqrt(len(found))
    planted = np.array([SD[short] ** 2 for short in NAMES.values()])
    assert (np.abs(mean - planted) < 4 * error).all()
    assert (error < 0.03).all()


def held(tasks: int, draws: int, of_tasks: float, shape: str = "normal") -> dict[str, np.ndarray]:
    """How often intervals of the components and of their shares hold, by component; 4 models, 2 trials."""
    rng = np.random.default_rng(tasks)
    effect = {"normal": rng.standard_normal, "flat": lambda n: rng.uniform(-1, 1, n) * 3**0.5}[
        shape
    ]
    found: dict[str, list[np.ndarray]] = {"variance": [], "share": []}
    for _ in range(draws):
        models = rng.normal(0, SD["m"], (4, 1, 1))
        score = models + of_tasks * effect((1, tasks, 1)) + SD["mt"] * effect((4, tasks, 1))
        score = score + SD["e"] * effect((4, tasks, 2))
        score -= score.mean()
        cube = Cube(np.full((4, tasks), 2.0), score.sum(2), (score**2).sum(2))
        point, left_out = components_of(cube), without_each_task(cube)
        truth = np.array([models.var(ddof=1), of_tasks**2, SD["mt"] ** 2, SD["e"] ** 2])
        told = intervals(cube, point, left_out, 0.95)
        for which, name in enumerate(found):
            true = truth if name == "variance" else truth / truth.sum()
            low = np.array([max(both[which].low, 0) for both in told])
            high = np.array([max(both[which].high, 0) for both in told])
            found[name].append((low <= true) & (true <= high))
    return {name: np.mean(rows, axis=0) for name, rows in found.items()}


@pytest.mark.parametrize(
    ("tasks", "of_tasks", "shape"),
    [(12, 0.8, "normal"), (60, 0.8, "normal"), (30, 0.0, "normal"), (20, 0.8, "flat")],
)
def test_intervals_hold_for_few_tasks_and_where_there_is_nothing(
    tasks: int, of_tasks: float, shape: str
) -> None:
    """Percentiles of a bootstrap would hold .84 of the time for the tasks' component of 12 tasks."""
    for coverage in held(tasks, 300, of_tasks, shape).values():
        assert (coverage > 0.9).all()
        assert coverage.mean() < 0.99


def test_leaving_out_a_task_gives_the_components_of_the_others() -> None:
    rng = np.random.default_rng(3)
    table = scored(rng, effects(rng, 3, 2, 9), trials=3, keep=0.7).rename(
        {"score": "y", "t": "task"}
    )
    left_out = without_each_task(cube_of(table, ["m", "s"]))
    for task in range(9):
        rest = components_of(cube_of(table.filter(pl.col("task") != task), ["m", "s"]))
        np.testing.assert_allclose(left_out[task], rest, atol=1e-10)


def test_without_trials_the_residual_is_part_of_the_highest_interaction() -> None:
    rng = np.random.default_rng(5)
    found = g.components(as_runs(scored(rng, effects(rng, 5, 4, 30), trials=1)), outcome="score")
    assert found.frame["component"].to_list()[-1] == "residual with model x framework x task"
    last = found.frame.row(-1, named=True)
    assert last["variance"] == pytest.approx(SD["mst"] ** 2 + SD["e"] ** 2, rel=0.25)
    assert last["levels"] == 5 * 4 * 30


def test_models_that_each_ran_in_their_own_scaffold_can_not_be_told_apart() -> None:
    rng = np.random.default_rng(6)
    table = scored(rng, effects(rng, 4, 4, 20), trials=2).filter(pl.col("m") == pl.col("s"))
    found = g.components(as_runs(table), outcome="score")
    refused = found.frame.filter(pl.col("refused").is_not_null())["component"].to_list()
    assert {"model", "framework", "model x framework"} <= set(refused)
    assert "12 of 16 combinations of model and framework have no run" in found.warnings
    with pytest.raises(DerailError, match="no share is known"):
        found.chart()


def test_what_components_cannot_say_is_told() -> None:
    rng = np.random.default_rng(8)
    table = scored(rng, effects(rng, 2, 2, 8), trials=2, keep=0.8)
    found = g.components(as_runs(table), outcome="score")
    assert found.frame["low"].is_null().all()
    assert found.frame["refused"][0] == "no interval for 8 tasks; 10 are needed"
    said = " ".join(found.warnings)
    assert "2 levels of framework" in said
    assert "unbalanced" in said
    with pytest.raises(DerailError, match="variance components need 10 runs of 5 tasks"):
        g.components(as_runs(table.filter(pl.col("t") < 3)), outcome="score")
    with pytest.raises(DerailError, match="'format' is no column of numbers"):
        g.components(as_runs(table), outcome="format")


# ---------------------------------------------------------------------- ranks


def judged(rates: list[list[float]], tasks: int, seed: int = 0, trials: int = 2) -> Trajectories:
    """Runs of models (rows) in scaffolds (columns) that succeed at these rates."""
    rng = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []
    for m, of in enumerate(rates):
        for s, rate in enumerate(of):
            rows += [
                {
                    "run": len(rows) + n,
                    "model": f"m{m}",
                    "framework": f"s{s}",
                    "task_id": f"t{n % tasks}",
                    "success": bool(rng.random() < rate),
                }
                for n in range(tasks * trials)
            ]
    return runs_of(rows)


def test_ranks_and_worst_scaffolds_equal_their_definition() -> None:
    runs = judged([[0.9, 0.5], [0.2, 0.6], [0.5, 0.1]], tasks=40)
    result = g.ranks(runs)
    table = runs.trajectories.collect()
    rates = {
        key: float(group["success"].mean()) for key, group in table.group_by("model", "framework")
    }
    for row in result.frame.iter_rows(named=True):
        own = {s: rates[row["model"], s] for s in ("s0", "s1")}
        assert row["success"] == pytest.approx(own[row["framework"]])
        better = [r for (_, s), r in rates.items() if s == row["framework"] and r > row["success"]]
        assert row["rank"] == 1 + len(better)
        assert row["mean"] == pytest.approx(np.mean(list(own.values())))
        assert (row["worst"], row["worst_in"]) == (min(own.values()), min(own, key=own.__getitem__))
        assert row["gap"] == pytest.approx(abs(own["s0"] - own["s1"]))
    assert "2 of 3 pairs of models swap" in result.headline
    assert len(result.runs(model="m0", framework="s1")) == 80
    alone = g.ranks(runs.filter(framework="s0"))
    assert alone.frame["gap"].to_list() == [None] * 3
    assert alone.warnings[0].startswith("1 level of framework")


def test_tau_equals_scipy_and_true_swaps_are_beyond_noise() -> None:
    rates = [[0.9, 0.3], [0.7, 0.5], [0.5, 0.7], [0.3, 0.68]]
    runs = judged(rates, tasks=100, seed=1)
    row = g.agreement(runs).frame.row(0, named=True)
    table = runs.trajectories.collect().group_by("framework", "model").agg(pl.col("success").mean())
    sides = [table.filter(framework=s).sort("model")["success"].to_numpy() for s in ("s0", "s1")]
    assert row["tau"] == pytest.approx(stats.kendalltau(*sides).statistic)
    assert row["low"] <= row["tau"] <= row["high"]
    assert {"m0 and m1", "m0 and m2", "m0 and m3", "m1 and m2"} <= set(row["swaps"])
    assert "m2 and m3" not in row["swaps"]


def test_noise_alone_makes_swaps_but_hardly_any_beyond_it() -> None:
    swaps, proven = 0, 0
    for seed in range(40):
        row = g.agreement(judged([[0.5, 0.5]] * 4, 30, 50 + seed)).frame.row(0, named=True)
        swaps, proven = swaps + row["discordant"], proven + row["beyond_noise"]
    assert swaps > 60
    assert proven <= 2


def test_small_cells_have_no_rank_and_tasks_that_differ_are_told() -> None:
    runs = judged([[0.9, 0.5], [0.2, 0.6]], tasks=20)
    table = runs.trajectories.collect()
    cell = (pl.col("model") == "m1") & (pl.col("framework") == "s1")
    few = runs.filter(~cell | pl.col("task_id").is_in(["t1", "t2", "t3"]))
    result = g.ranks(few)
    small = result.frame.row(by_predicate=cell, named=True)
    assert (small["success"], small["rank"]) == (None, None)
    assert small["refused"] == "6 runs of 3 tasks; 10 of 5 are needed"
    assert any(text.startswith("unpaired") for text in result.warnings)
    assert any(text.startswith("unbalanced: from 6 to 40") for text in result.warnings)
    paired = g.ranks(few, paired=True)
    assert paired.frame["tasks"].to_list() == [3] * 4
    assert table.height == 160
    other = runs.filter(~cell | (pl.col("task_id") == "none"))
    with pytest.raises(DerailError, match="has one value here"):
        g.agreement(other.filter(framework="s0"))


def test_two_models_have_no_tau_but_may_swap() -> None:
    row = g.agreement(judged([[0.9, 0.2], [0.3, 0.8]], tasks=60)).frame.row(0, named=True)
    assert row["tau"] is None
    assert row["refused"] == "no tau for 2 models: it could only be -1 or 1"
    assert (row["discordant"], row["beyond_noise"]) == (1, 1)


# ---------------------------------------------------------------------- reality


def test_reality_in_other_runs_and_in_a_column() -> None:
    bench = judged([[0.9], [0.6], [0.3]], tasks=60, seed=1)
    use = judged([[0.5], [0.55], [0.2]], tasks=60, seed=2)
    named = use.trajectories.with_columns(
        pl.format("used-{}", "trajectory_id").alias("trajectory_id")
    )
    tables = {n: getattr(use, n).collect() for n in ("steps", "events", "tools", "problems")}
    use = Trajectories.from_frames({"trajectories": named.collect(), **tables})
    result = g.reality(bench, use)
    assert result.frame["model"].to_list() == ["m0", "m1", "m2"]
    first = result.frame.row(0, named=True)
    assert first["gap"] == pytest.approx(first["real"] - first["benchmark"])
    assert first["gap_high"] < -0.2
    assert result.frame.row(1, named=True)["gap_high"] > 0
    assert len(result.runs(role="real", model="m0")) == 120
    assert "points from the benchmark" in result.headline

    table = bench.trajectories.select("trajectory_id", pl.col("success").alias("merged")).collect()
    labelled = bench.label(table, on="trajectory_id")
    same = g.reality(labelled, "merged").frame
    assert same["gap"].to_list() == [0.0] * 3
    assert same["gap_low"].to_list() == [0.0] * 3  # paired by run, hence no noise
    with pytest.raises(DerailError, match="known outcome on both sides"):
        g.reality(bench.filter(model="m0"), use.filter(model="m1"))


# ---------------------------------------------------------------------- charts


def test_charts_show_their_rows_and_refuse_to_draw_nothing() -> None:
    runs = judged([[0.9, 0.5], [0.2, 0.6], [0.5, 0.1]], tasks=20)
    for result, words in (
        (g.ranks(runs), ("m0", "m1", "m2", "s0", "s1")),
        (g.agreement(runs), ("s0 and s1", "beyond noise")),
        (g.components(runs), ("model x framework x task", "residual")),
        (g.reality(runs, "success", by="framework"), ("benchmark", "real", "s1")),
    ):
        svg = to_svg(result.chart())
        assert [word for word in words if word not in svg] == []
    with pytest.raises(DerailError, match="share three models"):
        g.agreement(runs.filter(model=["m0", "m1"])).chart()


# ---------------------------------------------------------------------- real logs


def test_terminal_bench_goose_against_chaterm(real_logs: Path) -> None:
    folder = real_logs / "terminal_bench" / "results" / "terminal-bench-core@0.1.1"
    runs = loaders.load(f"{folder}/{{agent}}/**/*.json")
    table = runs.trajectories.select("trajectory_id", pl.col("success").fill_null(value=False))
    scored = runs.label(table.rename({"success": "resolved"}).collect(), on="trajectory_id")
    share = (
        g.reality(scored, "resolved", by="agent")
        .frame.drop_nulls("real")
        .select(pl.col("agent").str.extract("_(.*?)_"), "real")
    )
    assert dict(share.iter_rows()) == {"goose": pytest.approx(0.4125), "chaterm": pytest.approx(0.4925)}  # fmt: skip
    found = g.components(scored, scaffold="agent", outcome="resolved")
    shares = dict(found.frame.select("component", "share").iter_rows())
    assert max(shares, key=shares.__getitem__) == "task"
    assert shares["agent"] < 0.05


def test_mcpmark_components_and_ranks(real_logs: Path) -> None:
    runs = loaders.load(real_logs / "mcpmark")
    ranks = g.ranks(runs)
    assert ranks.frame["success"].round(4).to_list() == [0.3681, 0.2972]
    found = g.components(runs)
    assert found.frame["component"].to_list() == ["model", "task", "model x task", "residual"]
    known = anova_of_two(runs)
    for name, variance in found.frame.select("component", "variance").iter_rows():
        assert variance == pytest.approx(max(known[name], 0), abs=1e-12)


def anova_of_two(runs: Trajectories) -> dict[str, float]:
    table = runs.trajectories.select(
        "model", "task_id", pl.col("success").cast(pl.Float64)
    ).collect()
    y = table.sort("model", "task_id")["success"].to_numpy().reshape(2, 127, 4)
    grand, a, b, ab = y.mean(), y.mean((1, 2)), y.mean((0, 2)), y.mean(2)
    mixed = 4 * ((ab - a[:, None] - b[None] + grand) ** 2).sum() / 126
    error = ((y - ab[..., None]) ** 2).sum() / (2 * 127 * 3)
    of_model = 127 * 4 * ((a - grand) ** 2).sum()
    of_task = 2 * 4 * ((b - grand) ** 2).sum() / 126
    return {
        "model": (of_model - mixed) / (127 * 4),
        "task": (of_task - mixed) / 8,
        "model x task": (mixed - error) / 4,
        "residual": error,
    }
