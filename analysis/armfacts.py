"""What the log tells of each run of two arms, as items that can be compared."""

from __future__ import annotations

from typing import Final

import polars as pl

from analysis.agreement import COLUMNS_OF_ENVIRONMENT, WHOLE, Arms
from analysis.wording import json_leaves
from loaders import Trajectories

_SETS_HISTORY: Final = (
    r"(?i)(?:reasoning|thinking)_history|(?:preserve|clear|keep|strip|drop)_?(?:thinking|reasoning)"
)
"""Settings by which an arm is told to send thinking back: what was meant, and no confound."""
HISTORY: Final = "history"


def facts_of_runs(runs: Trajectories, arms: Arms) -> pl.DataFrame:
    """A row per run and item, with ``n`` = 1."""
    table = arms.table
    parts = [_sent_back(runs, table)]
    parts += [_fact(table, axis, item, pl.col(axis)) for axis, item in WHOLE.items()]
    parts += [
        _fact(table, "environment", name, pl.col(name).cast(pl.String))
        for name in COLUMNS_OF_ENVIRONMENT
        if name != arms.by and table[name].is_not_null().any()
    ]
    parts += [
        _leaves(table, pl.col("params"), "params"),
        _leaves(
            table, pl.col("metadata").str.json_path_match("$.environment"), "metadata/environment"
        ),
    ]
    return pl.concat(parts)


def _fact(table: pl.DataFrame, axis: str, item: str, value: pl.Expr) -> pl.DataFrame:
    return table.select(
        pl.lit(axis).alias("axis"),
        pl.lit(item).alias("item"),
        "unit",
        "cluster",
        "side",
        value.alias("value"),
        pl.lit(1, pl.Int64).alias("n"),
    )


def _leaves(table: pl.DataFrame, column: pl.Expr, prefix: str) -> pl.DataFrame:
    """The leaves of a column of JSON text: a setting that only some runs name is "not set" in others."""
    texts = table.select("unit", "cluster", "side", column.alias("json"))
    known = texts.drop_nulls("json")
    flat = [
        (text, path, leaf)
        for text in known["json"].unique(maintain_order=True)
        for path, leaf in json_leaves(text).items()
    ]
    leaves = pl.DataFrame(
        flat, schema={"json": pl.String, "path": pl.String, "value": pl.String}, orient="row"
    )
    paths = leaves.select("path").unique(maintain_order=True)
    is_history = pl.col("path").str.contains(_SETS_HISTORY)
    return (
        texts.join(paths, how="cross")
        .join(leaves, on=["json", "path"], how="left", maintain_order="left")
        .select(
            pl.when(is_history)
            .then(pl.lit(HISTORY))
            .otherwise(pl.lit("environment"))
            .alias("axis"),
            (pl.lit(prefix + "/") + pl.col("path")).str.strip_suffix("/").alias("item"),
            "unit",
            "cluster",
            "side",
            pl.when(pl.col("json").is_not_null()).then(pl.col("value").fill_null("not set")),
            pl.lit(1, pl.Int64).alias("n"),
        )
    )


def _sent_back(runs: Trajectories, table: pl.DataFrame) -> pl.DataFrame:
    """What became of earlier thinking in each run's requests; null where no request is recorded."""
    due = runs.steps.filter(pl.col("thinking_available") > 0).select(
        "run", pl.col("thinking_available").alias("due"), pl.col("thinking_sent").alias("sent")
    )
    is_known = pl.col("sent").is_not_null()
    is_all, is_none = pl.col("sent") >= pl.col("due"), pl.col("sent") == 0
    per_run = due.group_by("run").agg(
        pl.when(~is_known.any())
        .then(None)
        .when(is_all.filter(is_known).all())
        .then(pl.lit("all"))
        .when(is_none.filter(is_known).all())
        .then(pl.lit("none"))
        .otherwise(pl.lit("some"))
        .alias("policy")
    )
    joined = table.join(per_run.collect(), on="run", how="left", maintain_order="left")
    return _fact(joined, HISTORY, "thinking sent back", pl.col("policy"))
