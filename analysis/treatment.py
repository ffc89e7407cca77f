"""What assignment and what was received change: intention to treat, as treated, per protocol, compliers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from analysis.uncertainty import t_estimate

Floats = NDArray[np.float64]

MIN_RUNS: Final = 10
_MOST_UNCLEAR: Final = 0.05
_RESTS_ON: Final = {
    "intent to treat": "assignment of arms",
    "as treated": "no confounding (observational)",
    "per protocol": "no confounding (observational)",
    "complier average": "assignment, no effect of the label but through the treatment, nobody does the opposite",
}


@dataclass(frozen=True)
class Effect:
    """A row, and the runs behind it."""

    row: dict[str, Any]
    members: pl.DataFrame


def effects_of_treatment(
    table: pl.DataFrame, wanted: dict[str, list[str]], a: str, b: str
) -> list[Effect]:
    """Of arm ``b`` against ``a``: by label, by what runs got, among those that got their label, and compliers.

    ``wanted``: what each arm was to get.
    """

    def fits(arm: str) -> pl.Expr:
        return pl.col("fits").list.set_intersection(pl.lit(wanted[arm], pl.List(pl.String))).list.len() > 0  # fmt: skip

    known = table.filter(pl.col("label").is_in([a, b]), pl.col("success").is_not_null())
    known = known.with_columns(
        (pl.col("label") == b).alias("z"),
        pl.when(fits(b) & ~fits(a))
        .then(pl.lit(b))
        .when(fits(a) & ~fits(b))
        .then(pl.lit(a))
        .when(pl.col("policy") == "nothing_to_send")
        .then(pl.lit("nothing_to_send"))
        .otherwise(pl.lit("unclear"))
        .alias("got"),
    )
    got = known.filter(pl.col("got").is_in([a, b]))
    kept_to_label = got.filter(pl.col("got") == pl.col("label"))
    return [
        _difference("intent to treat", known, pl.col("z")),
        _difference("as treated", got, pl.col("got") == b),
        _difference("per protocol", kept_to_label, pl.col("z")),
        _complier_average(known, b),
    ]


def _difference(name: str, table: pl.DataFrame, is_b: pl.Expr) -> Effect:
    table = table.with_columns(is_b.alias("z"))
    row, few = _sizes(name, table)
    if few is None:
        y = table["success"].cast(pl.Float64).to_numpy()
        value, influence = _contrast(y, table["z"].to_numpy())
        tasks, sums = _by_task(table, influence)
        se = math.sqrt(tasks / (tasks - 1) * float(sums @ sums))
        found = t_estimate(value, se, tasks, table.height)
        row |= {"difference": value, "low": found.low, "high": found.high, "p": found.p}
    return Effect(row | {"refused": few}, _sides(table))


def _sizes(name: str, table: pl.DataFrame) -> tuple[dict[str, Any], str | None]:
    b = int(table["z"].sum())
    a = table.height - b
    tasks = table["task"].n_unique()
    row = {"estimate": name, "runs_a": a, "runs_b": b, "tasks": tasks, "rests_on": _RESTS_ON[name]}
    if min(a, b) < MIN_RUNS:
        return row, f"{min(a, b)} runs in a group; {MIN_RUNS} are needed"
    return row, "one task only" if tasks < 2 else None


def _sides(table: pl.DataFrame) -> pl.DataFrame:
    role = pl.when("z").then(pl.lit("b")).otherwise(pl.lit("a")).alias("role")
    return table.select("trajectory_id", role)


def _contrast(y: Floats, z: NDArray[np.bool_]) -> tuple[float, Floats]:
    """Difference of means between the two groups, and what each row adds to its error."""
    up, down = y[z].mean(), y[~z].mean()
    of_b, of_a = z / z.sum(), ~z / (~z).sum()
    influence = np.asarray(of_b * (y - up) - of_a * (y - down), dtype=np.float64)
    return float(up - down), influence


def _by_task(table: pl.DataFrame, influence: Floats) -> tuple[int, Floats]:
    index = table["task"].rank("dense").to_numpy().astype(np.intp) - 1
    sums = np.asarray(np.bincount(index, weights=influence), dtype=np.float64)
    return sums.size, sums


def _complier_average(table: pl.DataFrame, b: str) -> Effect:
    """Wald's ratio of two differences; the interval is the set of ratios that the data do not reject."""
    row, few = _sizes("complier average", table)
    effect = Effect(row, _sides(table))
    unclear = float((table["got"] == "unclear").mean() or 0)  # pyright: ignore[reportArgumentType]
    if few is None and unclear > _MOST_UNCLEAR:
        few = f"{unclear:.0%} of the runs got neither treatment, or it is unknown which"
    if few is not None:
        return Effect(row | {"refused": few}, effect.members)
    z = table["z"].to_numpy()
    on_y, of_y = _contrast(table["success"].cast(pl.Float64).to_numpy(), z)
    on_d, of_d = _contrast((table["got"] == b).cast(pl.Float64).to_numpy(), z)
    tasks, sums_y = _by_task(table, of_y)
    _, sums_d = _by_task(table, of_d)
    scale = tasks / (tasks - 1)
    var_y, var_d, both = (
        scale * float(u @ v) for u, v in ((sums_y, sums_y), (sums_d, sums_d), (sums_y, sums_d))
    )
    from scipy import special

    t2 = float(special.stdtrit(tasks - 1, 0.975)) ** 2
    curve, slope = on_d**2 - t2 * var_d, on_y * on_d - t2 * both
    if curve <= 0:
        return Effect(
            row
            | {
                "refused": f"the label changed the treatment of {on_d:+.0%} of the runs, too few to divide by"
            },
            effect.members,
        )
    half = math.sqrt(max(slope**2 - curve * (on_y**2 - t2 * var_y), 0.0)) / curve
    at_zero = t_estimate(on_y, math.sqrt(var_y), tasks, table.height)
    row |= {
        "difference": on_y / on_d,
        "low": slope / curve - half,
        "high": slope / curve + half,
        "p": at_zero.p,
    }
    return Effect(row, effect.members)  # fmt: skip
