"""The actions of two runs side by side, up to the first that differs.

Actions are compared by content, in order: the n-th model call that uses tools of one run with the n-th
of the other, parallel calls as a set; ids, times and calls without tools do not count. One join of
hashes, so the cost is linear in the calls.
"""

from __future__ import annotations

from typing import Final, Literal

import polars as pl

from analysis.behaviour_calls import normal_action
from analysis.behaviour_rules import TARGET, entities
from loaders import Trajectories

Level = Literal["tool", "target", "arguments"]
LEVELS: Final = ("tool", "target", "arguments")


def _actions(runs: Trajectories) -> pl.DataFrame:
    """Model calls that use tools: a row each with its place, what it does on each level, what came back."""
    arguments = pl.col("arguments").fill_null("")
    named = entities(arguments, TARGET).list.sort().list.join("\x1f")
    first = arguments.str.extract(r'^\s*\{\s*"(?:[^"\\]|\\.)*"\s*:\s*"?([^",}]{0,200})')
    target = pl.when(named != "").then(named).otherwise(first.fill_null(""))
    tool = pl.col("tool").fill_null("")
    calls = (
        runs.events.filter((pl.col("kind") == "tool_call") & pl.col("step").is_not_null())
        .select(
            *("run", "step", "seq", "tool", "arguments"),
            tool.hash().alias("key_tool"),
            pl.struct(tool.alias("t"), target.alias("x")).hash().alias("key_target"),
            normal_action().alias("key_arguments"),
        )
        .group_by("run", "step")
        .agg(
            *(pl.col(f"key_{level}").sort().alias(f"key_{level}") for level in LEVELS),
            pl.col("tool").sort_by("seq").str.join(", "),
            pl.col("arguments").sort_by("seq").str.join("\n"),
            pl.col("arguments").is_not_null().all().alias("logged"),
        )
        .with_columns(pl.col(f"key_{level}").hash() for level in LEVELS)
    )
    answers = (
        runs.events.filter((pl.col("kind") == "tool_result") & pl.col("step").is_not_null())
        .group_by("run", "step")
        .agg(
            pl.struct("text", "is_error").hash().sort().alias("answers"),
            (pl.col("text").is_not_null() & (pl.col("media").list.len().fill_null(0) == 0))
            .all()
            .alias("comparable"),
        )
        .select("run", "step", pl.when("comparable").then(pl.col("answers").hash()).alias("answer"))
    )
    thoughts = (
        runs.events.filter(
            (pl.col("kind") == "thinking")
            & pl.col("step").is_not_null()
            & pl.col("text").is_not_null()
        )
        .group_by("run", "step")
        .agg(pl.col("text").sort_by("seq").hash().sort().alias("thought"))
        .select("run", "step", pl.col("thought").hash())
    )
    missing = runs.steps.select(
        "run", "step", (pl.col("thinking_available") - pl.col("thinking_sent")).alias("missing")
    )
    return (
        calls.join(answers, on=["run", "step"], how="left")
        .join(thoughts, on=["run", "step"], how="left")
        .join(missing, on=["run", "step"], how="left")
        .sort("run", "step")
        .with_columns(pl.int_range(pl.len()).over("run").cast(pl.Int64).alias("place"))
        .collect()
    )


def parted(runs: Trajectories, pairs: pl.DataFrame, level: str) -> pl.DataFrame:
    """A row per pair; see ``first_divergence``."""
    acts = _actions(runs)
    sides = {
        side: pairs.select("pair", run=f"run_{side}")
        .join(acts, on="run")
        .drop("run")
        .rename({name: f"{name}_{side}" for name in acts.columns if name not in ("run", "place")})
        for side in ("a", "b")
    }
    aligned = sides["a"].join(sides["b"], on=["pair", "place"], how="full", coalesce=True)
    one_ends = pl.col("step_a").is_null() | pl.col("step_b").is_null()
    unknown = ~(pl.col("logged_a") & pl.col("logged_b")) if level != "tool" else pl.lit(value=False)
    how = (
        pl.when(one_ends)
        .then(pl.lit("one ends"))
        .when(pl.col("key_tool_a") != pl.col("key_tool_b"))
    )
    how = how.then(pl.lit("tool"))
    if level != "tool":
        how = how.when(unknown).then(pl.lit("unknown"))
        how = how.when(pl.col("key_target_a") != pl.col("key_target_b")).then(pl.lit("target"))
    if level == "arguments":
        how = how.when(pl.col("key_arguments_a") != pl.col("key_arguments_b")).then(
            pl.lit("arguments")
        )
    aligned = aligned.sort("pair", "place").with_columns(how.otherwise(None).alias("parts"))
    ends = (
        aligned.filter(pl.col("parts").is_not_null())
        .unique("pair", keep="first", maintain_order=True)
        .select(
            *("pair", "place", "parts", "step_a", "step_b", "tool_a", "tool_b", "arguments_a", "arguments_b"),
            (pl.col("thought_a") != pl.col("thought_b")).alias("thinking_differs"),
        )
    )  # fmt: skip
    whole = aligned.group_by("pair").agg(pl.len().cast(pl.Int64).alias("all"))
    before = (
        aligned.join(ends.select("pair", end="place"), on="pair", how="left")
        .filter((pl.col("place") <= pl.col("end")).fill_null(value=True))
        .with_columns(
            (pl.col("missing_a") != pl.col("missing_b")).alias("sent"),
            # What answers the parting action comes too late.
            pl.when((pl.col("place") < pl.col("end")).fill_null(value=True))
            .then(pl.col("answer_a") != pl.col("answer_b"))
            .alias("answered"),
        )
        .group_by("pair")
        .agg(
            pl.col("sent").any(ignore_nulls=False).alias("thinking_sent_differs"),
            pl.col("place").filter("sent").min().alias("sent_place"),
            pl.col("answered").drop_nulls().any().alias("response_differs"),
            pl.col("place").filter("answered").min().alias("response_place"),
        )
    )
    table = (
        pairs.join(ends, on="pair", how="left", maintain_order="left")
        .join(whole, on="pair", how="left", maintain_order="left")
        .join(before, on="pair", how="left", maintain_order="left")
        .join(_settings(runs, pairs), on="pair", how="left", maintain_order="left")
        .with_columns(
            pl.coalesce("place", "all", pl.lit(0)).alias("place"),
            pl.when(pl.col("parts") != "unknown").then("parts").alias("parts"),
            pl.col("response_differs").fill_null(value=False),
        )
    )
    return table.with_columns(_first_difference().alias("first_difference")).select(
        *("a", "b", "pair", "task"),
        *(pl.col(f"trajectory_id_{side}").alias(f"trajectory_{side}") for side in ("a", "b")),
        *("success_a", "success_b", "place", "parts", "step_a", "step_b", "tool_a", "tool_b"),
        *("arguments_a", "arguments_b", "prompts_differ", "tools_differ", "environment_differs"),
        *("thinking_sent_differs", "response_differs", "response_place", "thinking_differs"),
        "first_difference",
    )


def _settings(runs: Trajectories, pairs: pl.DataFrame) -> pl.DataFrame:
    """Whether the two runs of a pair were set up alike; null where that is not logged."""
    sets = {
        "prompts_differ": ("system_prompt", "user_prompt"),
        "tools_differ": ("toolset",),
        "environment_differs": ("model", "framework", "framework_version"),
    }
    names = [name for group in sets.values() for name in group]
    facts = runs.trajectories.select("run", *names).collect()
    table = pairs.select("pair", "run_a", "run_b")
    for side in ("a", "b"):
        renamed = facts.rename({name: f"{name}_{side}" for name in facts.columns})
        table = table.join(renamed, on=f"run_{side}", how="left", maintain_order="left")
    return table.select(
        "pair",
        *(
            pl.any_horizontal(pl.col(f"{name}_a") != pl.col(f"{name}_b") for name in group).alias(column)
            for column, group in sets.items()
        ),
    )  # fmt: skip


def _first_difference() -> pl.Expr:
    """A response can only matter to the action after it, lacking thinking to the action itself."""
    sent, answer = pl.col("sent_place"), pl.col("response_place") + 1
    return pl.when(pl.col("parts").is_not_null()).then(
        pl.when(pl.col("prompts_differ").fill_null(value=False))
        .then(pl.lit("prompts"))
        .when(pl.col("tools_differ").fill_null(value=False))
        .then(pl.lit("tools"))
        .when(pl.col("environment_differs").fill_null(value=False))
        .then(pl.lit("environment"))
        .when(sent.is_not_null() & (answer.is_null() | (sent <= answer)))
        .then(pl.lit("thinking sent"))
        .when(answer.is_not_null())
        .then(pl.lit("response"))
        .otherwise(pl.lit("nothing seen"))
    )
