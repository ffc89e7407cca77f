"""What two arms differ in besides what was meant: the five axes side by side, and the confounds named."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import polars as pl

from analysis import perturbations
from analysis.agreement import (
    AXES,
    COLUMNS_OF_ENVIRONMENT,
    SAME_CALLS,
    WHOLE,
    Arms,
    agreement,
    same_calls,
    two_arms,
)
from analysis.armwords import headline, listed, warnings_of
from analysis.outcomes import columns
from analysis.results import Result, empty_members
from analysis.uncertainty import holm, t_estimate
from analysis.wording import json_leaves, line_difference, schema_changes, shown
from loaders import Trajectories

_SCHEMA: Final = {
    **dict.fromkeys(("a", "b", "axis", "item", "verdict", "detail"), pl.String),
    **dict.fromkeys(("value_a", "value_b"), pl.String),
    **dict.fromkeys(("between", "within_a", "within_b"), pl.Float64),
    **dict.fromkeys(("units", "units_differ", "units_unknown"), pl.Int64),
}
_SETS_HISTORY: Final = (
    r"(?i)(?:reasoning|thinking)_history|(?:preserve|clear|keep|strip|drop)_?(?:thinking|reasoning)"
)
"""Settings by which an arm is told to send thinking back: what was meant, and no confound."""
_ABSENT: Final = "not offered"
_HISTORY: Final = "history"
_MIN_RESPONSES: Final = 10


def diff(
    runs: Trajectories,
    by: str = "arm",
    a: str | None = None,
    b: str | None = None,
    pair: Sequence[str] = ("task_id",),
) -> Result:
    """Two arms on all five axes, item by item, and in a sentence what confounds their comparison.

    ``a`` and ``b`` are values of the column ``by``; needless where it has just two. Two sets loaded
    apart are one set by ``kept + dropped``. Runs are compared with runs that have the same ``pair``
    columns (and benchmark): by default of the same task; ``("task_id", "trial")`` where a trial stands
    for a condition, such as an attack. Where the arms share none, all are compared with all.

    ``frame``: ``a``, ``b`` (the arms) and a row per ``axis`` and ``item``. Axes are the five and ``history`` (thinking sent back:
    what the arms were meant to differ in, so no confound). ``verdict``: same; differ; vary (runs of
    one arm differ so often that runs of both differ no more, clustered by task); unknown (the log of
    an arm does not tell; never taken for the same). ``between``: share of pairs of runs, one of each arm
    and of one task, that differ, mean over tasks; ``within_a``, ``within_b``: the same for two runs of
    one arm (null: no task has two). ``units``: tasks in which both arms are known, ``units_differ`` of
    them with any difference, ``units_unknown`` the others. ``value_a``, ``value_b``
    show the values; ``detail`` says what changed: keys of a tool's JSON schema (``+`` only in b, ``-`` only in
    a), share of prompt lines that differ. Tools are the first offer of a run, and those that agree are
    not listed one by one. ``same calls`` compares only responses to calls made after the same calls and
    responses (``units``: such calls). ``perturbed: ...`` rows compare shares of broken responses, and
    differ where Holm's correction leaves p < .05 clustered by task: that is no confound by itself, as
    the agent's own calls bring responses about.

    ``runs(axis="toolset", item="search")`` opens the runs of the tasks in which the item differs (all,
    where it agrees); the role is the arm.

    Raises ``DerailError`` where there are not two such arms.

    >>> import loaders
    >>> found = diff(loaders.load("sample_logs/study/{arm}/planner-1/inspect/timeout.eval"), a="all", b="none")
    >>> found.frame.filter(axis="system_prompt")["verdict"].to_list()
    ['same']
    """
    arms = two_arms(runs, by, a, b, columns(pair, runs))
    chosen = runs.filter(arms.table["trajectory_id"].to_list())
    parts = [
        _plain(arms, _facts(chosen, arms)),
        _tools(chosen, arms),
        _same_calls(chosen, arms),
    ]
    frame = pl.concat([_prompts_told(chosen, arms, part.frame) for part in parts])
    frame = pl.concat([frame, _perturbed(chosen, arms)])
    members = pl.concat([*(part.members for part in parts), _perturbed_members(arms, frame)])
    order = {name: n for n, name in enumerate((_HISTORY, *AXES))}
    frame = frame.sort(pl.col("axis").replace_strict(order), maintain_order=True)
    return Result(
        kind="diff",
        title=f"{shown(arms.a)} and {shown(arms.b)} on the five axes",
        frame=frame,
        method="Fingerprints, tool definitions, prompts, parameters and responses compared between runs of the "
        f"same {'task' if arms.is_paired else 'arm or the other'}; within-arm pairs tell what varies anyway.",
        keys=("axis", "item"),
        members=members,
        source=runs,
        warnings=tuple(warnings_of(arms, frame)),
        headline=headline(arms, chosen, frame),
    )


@dataclass(frozen=True)
class _Part:
    frame: pl.DataFrame
    members: pl.DataFrame


def _compared(arms: Arms, facts: pl.DataFrame, display: pl.DataFrame) -> _Part:
    """Facts (``axis``, ``item``, ``unit``, ``cluster``, ``side``, ``value``, ``n``) as rows.

    ``display``: ``axis``, ``item``, ``side``, ``text`` of what is shown.
    """
    keys = ["axis", "item"]
    table, per_unit = agreement(facts, keys, arms.a, arms.b)
    texts = {
        label: display.filter(pl.col("side") == name).select(*keys, pl.col("text").alias(label))
        for label, name in (("value_a", arms.a), ("value_b", arms.b))
    }
    for text in texts.values():
        table = table.join(text, on=keys, how="left", maintain_order="left")
    named = {"a": pl.lit(arms.a), "b": pl.lit(arms.b), "detail": pl.lit(None, pl.String)}
    frame = table.with_columns(**named).select(
        pl.col(name).cast(kind) for name, kind in _SCHEMA.items()
    )
    is_behind = (pl.col("between") > 0) | ((pl.col("between") > 0).sum().over(keys) == 0)
    members = (
        per_unit.filter(is_behind.fill_null(value=False))
        .select(*keys, "unit")
        .join(arms.table.select("unit", "trajectory_id", role="side"), on="unit")
        .select(*keys, "trajectory_id", "role")
    )
    return _Part(frame, members)


def _plain(arms: Arms, facts: pl.DataFrame) -> _Part:
    """The same for facts whose values are shown as they are, the most common one first."""
    counted = (
        facts.drop_nulls("value")
        .group_by("axis", "item", "side", "value")
        .agg(pl.col("n").sum())
        .sort("n", "value", descending=[True, False])
    )
    others = pl.col("value").n_unique() - 1
    several = pl.when(others > 0).then(pl.format(" and {} more", others)).otherwise(pl.lit(""))
    display = counted.group_by("axis", "item", "side").agg(
        pl.col("value").first(), several.alias("more")
    )
    first = [shown(value) for value in display["value"]]
    texts = pl.Series("text", first, dtype=pl.String)
    return _compared(
        arms, facts, display.with_columns(texts).with_columns(pl.col("text") + pl.col("more"))
    )


# ---------------------------------------------------------------------- facts of runs


def _facts(runs: Trajectories, arms: Arms) -> pl.DataFrame:
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
            .then(pl.lit(_HISTORY))
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
    return _fact(joined, _HISTORY, "thinking sent back", pl.col("policy"))


# ---------------------------------------------------------------------- tools


def _tools(runs: Trajectories, arms: Arms) -> _Part:
    """Tools that the arms do not offer alike, each by its name."""
    offers = arms.table.group_by("unit", "cluster", "side", "toolset", maintain_order=True).agg(
        pl.len().cast(pl.Int64).alias("n")
    )
    definitions = (
        runs.tools.join(offers.lazy().select("toolset").unique(), on="toolset", how="semi")
        .with_columns(pl.col("name").fill_null("(no name)"))
        .sort("toolset", "name", "hash")
        .group_by("toolset", "name", maintain_order=True)
        .agg(
            pl.col("hash").str.join("+").alias("value"),
            pl.col("description", "parameters").first(),
        )
        .collect()
    )
    if definitions.is_empty():
        return _Part(pl.DataFrame(schema=_SCHEMA), empty_members("axis", "item"))
    named = (
        offers.join(definitions, on="toolset").select("unit", "name").unique(maintain_order=True)
    )
    is_known = pl.col("toolset").is_not_null()
    facts = (
        offers.join(named, on="unit", maintain_order="left")
        .join(definitions, on=["toolset", "name"], how="left", maintain_order="left")
        .select(
            pl.lit("toolset").alias("axis"),
            pl.col("name").alias("item"),
            "unit",
            "cluster",
            "side",
            pl.when(is_known).then(pl.col("value").fill_null(_ABSENT)).alias("value"),
            "n",
        )
    )
    chosen = _most_common(facts)
    part = _compared(arms, facts, _offered(chosen, definitions))
    rows = part.frame.filter(pl.col("units_differ") > 0)
    details = [_tool_detail(chosen, definitions, arms, name) for name in rows["item"]]
    rows = rows.with_columns(pl.Series("detail", details, dtype=pl.String))
    return _Part(rows, part.members.filter(pl.col("item").is_in(rows["item"].to_list())))


def _most_common(facts: pl.DataFrame) -> pl.DataFrame:
    """For each tool that differs anywhere and each side, the definition that most runs have."""
    return (
        facts.drop_nulls("value")
        .filter(pl.col("value").n_unique().over("item") > 1)
        .group_by("axis", "item", "side", "value")
        .agg(pl.col("n").sum())
        .sort("n", "value", descending=[True, False])
        .unique(["axis", "item", "side"], keep="first", maintain_order=True)
    )


def _offered(chosen: pl.DataFrame, definitions: pl.DataFrame) -> pl.DataFrame:
    described = definitions.select(item="name", value="value", text="description").unique(
        ["item", "value"], maintain_order=True
    )
    table = chosen.join(described, on=["item", "value"], how="left", maintain_order="left")
    texts = [
        _ABSENT if value == _ABSENT else shown(text or "(no description)")
        for value, text in table.select("value", "text").iter_rows()
    ]
    return table.with_columns(pl.Series("text", texts, dtype=pl.String)).select(
        "axis", "item", "side", "text"
    )


def _tool_detail(
    chosen: pl.DataFrame, definitions: pl.DataFrame, arms: Arms, name: str
) -> str | None:
    found = dict(chosen.filter(pl.col("item") == name).select("side", "value").iter_rows())
    a, b = found.get(arms.a), found.get(arms.b)
    if a == b or a is None or b is None:
        return "differs in some tasks"
    if _ABSENT in (a, b):
        return "added" if a == _ABSENT else "removed"
    rows = definitions.filter(pl.col("name") == name)
    one, other = (rows.filter(pl.col("value") == value).row(0, named=True) for value in (a, b))
    said = ["description"] if one["description"] != other["description"] else []
    if paths := schema_changes(one["parameters"], other["parameters"]):
        said.append(f"parameters: {listed(shown(path) for path in paths)}")
    return "; ".join(said) or "another definition under the same name"


# ---------------------------------------------------------------------- prompts


def _prompts_told(runs: Trajectories, arms: Arms, frame: pl.DataFrame) -> pl.DataFrame:
    """The rows of prompts with what differs in their lines, in place of fingerprints."""
    for axis, kind in (("system_prompt", "system"), ("user_prompt", "user")):
        row = frame.filter(pl.col("axis") == axis)
        if row.is_empty() or not row["units_differ"][0]:
            continue
        told = _prompt_told(runs, arms, axis, kind)
        if told is not None:
            is_it = pl.col("axis") == axis
            frame = frame.with_columns(
                pl.when(is_it).then(pl.lit(text)).otherwise(pl.col(name)).alias(name)
                for name, text in zip(("detail", "value_a", "value_b"), told, strict=True)
            )
    return frame


def _prompt_told(
    runs: Trajectories, arms: Arms, axis: str, kind: str
) -> tuple[str, str, str] | None:
    texts = (
        runs.events.filter(pl.col("kind") == kind, pl.col("text") != "")
        .group_by("run")
        .agg(pl.col("text").sort_by("seq").first())
        .collect()
    )
    one_each = (
        arms.table.join(texts, on="run", maintain_order="left")
        .unique(["unit", "side"], keep="first", maintain_order=True)
        .select("unit", "side", axis, "text")
    )
    sides = [one_each.filter(pl.col("side") == name) for name in (arms.a, arms.b)]
    pairs = (
        sides[0]
        .join(sides[1], on="unit", suffix="_b", maintain_order="left")
        .filter(pl.col(axis) != pl.col(f"{axis}_b"))
        .unique([axis, f"{axis}_b"], keep="first", maintain_order=True)
    )
    if pairs.is_empty():
        return None
    found = [line_difference(a, b) for a, b in pairs.select("text", "text_b").iter_rows()]
    share = sum(each.share for each in found) / len(found)
    first = found[0]
    many = f", mean of {len(found)} pairs of prompts" if len(found) > 1 else ""
    said = str(first) if len(found) == 1 else f"{100 * share:.0f} % of lines differ"
    return f"{said}{many}", shown(first.first_a), shown(first.first_b)


# ---------------------------------------------------------------------- tool responses


def _same_calls(runs: Trajectories, arms: Arms) -> _Part:
    columns_of_runs = arms.table.select("run", "side", "cluster", pl.col("unit").alias("pair"))
    answers = same_calls(runs).join(columns_of_runs, on="run")
    if not arms.is_paired or answers.is_empty():
        return _Part(pl.DataFrame(schema=_SCHEMA), empty_members("axis", "item"))
    facts = answers.select(
        pl.lit("tool_responses").alias("axis"),
        pl.lit(SAME_CALLS).alias("item"),
        pl.struct("pair", "asked").alias("unit"),
        "cluster",
        "side",
        pl.col("answer").cast(pl.String).alias("value"),
        pl.lit(1, pl.Int64).alias("n"),
    )
    asked_by_both = facts.filter(pl.col("side").n_unique().over("unit") == 2)
    table, per_unit = agreement(asked_by_both, ["axis", "item"], arms.a, arms.b)
    if table.is_empty():
        return _Part(pl.DataFrame(schema=_SCHEMA), empty_members("axis", "item"))
    detail = pl.format(
        "{} calls that both arms made alike; answered otherwise at {}", "units", "units_differ"
    )
    frame = table.with_columns(
        detail.alias("detail"), a=pl.lit(arms.a), b=pl.lit(arms.b), value_a=None, value_b=None
    ).select(pl.col(name).cast(kind) for name, kind in _SCHEMA.items())
    differs = frame["units_differ"].item() > 0
    behind = per_unit.filter(pl.col("between") > 0) if differs else per_unit
    tasks = behind.select(pl.col("unit").struct.field("pair").alias("unit")).unique()
    members = arms.table.join(tasks, on="unit", how="semi", maintain_order="left").select(
        pl.lit("tool_responses").alias("axis"),
        pl.lit(SAME_CALLS).alias("item"),
        "trajectory_id",
        pl.col("side").alias("role"),
    )
    return _Part(frame, members)


def _perturbed(runs: Trajectories, arms: Arms) -> pl.DataFrame:
    """Shares of broken responses by code, and of faults that a harness says it planted."""
    events = (
        runs.events.filter(pl.col("kind") == "tool_result")
        .select("run", pl.col("injected").is_not_null().alias("planted"))
        .collect()
    )
    labels = arms.table.select("run", "cluster", "side")
    answered = events.join(labels, on="run")
    if answered.is_empty():
        return pl.DataFrame(schema=_SCHEMA)
    per_cluster = answered.group_by("cluster", "side").agg(pl.len().alias("of"))
    sizes = {side: answered.filter(pl.col("side") == side).height for side in (arms.a, arms.b)}
    found = perturbations.detect(runs).select(
        "run", pl.format("perturbed: {}", "code").alias("item")
    )
    planted = answered.filter("planted").select("run", pl.lit("planted faults").alias("item"))
    hits = (
        pl.concat([found, planted])
        .join(labels, on="run")
        .group_by("item", "cluster", "side")
        .agg(pl.len().alias("hits"))
    )
    rows = [
        _rate_row(
            str(item), per_cluster.join(group, on=["cluster", "side"], how="left"), arms, sizes
        )
        for (item,), group in hits.sort("item").group_by("item", maintain_order=True)
    ]
    adjusted = holm([row["p"] for row in rows])
    for row, p in zip(rows, adjusted, strict=True):
        enough = min(sizes.values()) >= _MIN_RESPONSES and not math.isnan(p)
        row["verdict"] = "unknown" if not enough else "differ" if p < 0.05 else "vary"
    rows.sort(key=lambda row: row["order"])
    return pl.DataFrame([{name: row.get(name) for name in _SCHEMA} for row in rows], schema=_SCHEMA)


def _rate_row(item: str, table: pl.DataFrame, arms: Arms, sizes: dict[str, int]) -> dict[str, Any]:
    """The difference of two shares of responses, with a CR1 standard error over tasks."""
    table = table.with_columns(pl.col("hits").fill_null(0))
    rates: dict[str, float] = {}
    counts: dict[str, int] = {}
    residuals: list[pl.DataFrame] = []
    for side, sign in ((arms.a, -1), (arms.b, 1)):
        rows = table.filter(pl.col("side") == side)
        counts[side] = int(rows["hits"].sum())
        rates[side] = counts[side] / max(1, sizes[side])
        error = sign * (pl.col("hits") - rates[side] * pl.col("of")) / max(1, sizes[side])
        residuals.append(rows.select("cluster", error.alias("error")))
    sums = pl.concat(residuals).group_by("cluster").agg(pl.col("error").sum())["error"]
    clusters = sums.len()
    se = (
        math.sqrt(clusters / (clusters - 1) * float((sums * sums).sum()))
        if clusters > 1
        else math.nan
    )
    difference = rates[arms.b] - rates[arms.a]
    estimate = t_estimate(difference, se, clusters, sum(sizes.values()))
    shares = {
        label: f"{100 * rates[side]:.1f} % ({counts[side]} of {sizes[side]})"
        for label, side in (("value_a", arms.a), ("value_b", arms.b))
    }
    interval = (
        f" [{100 * estimate.low:+.1f}, {100 * estimate.high:+.1f}] clustered by task"
        if clusters > 1
        else ""
    )
    return {
        "a": arms.a,
        "b": arms.b,
        "axis": "tool_responses",
        "item": item,
        **shares,
        "detail": f"{100 * difference:+.1f} points{interval}",
        "units": clusters,
        "p": estimate.p,
        "order": -sum(counts.values()),
    }


def _perturbed_members(arms: Arms, frame: pl.DataFrame) -> pl.DataFrame:
    items = frame.filter(
        pl.col("axis") == "tool_responses",
        pl.col("between").is_null(),
        pl.col("value_a").is_not_null(),
    )
    return items.select("axis", "item").join(
        arms.table.select("trajectory_id", pl.col("side").alias("role")), how="cross"
    )
