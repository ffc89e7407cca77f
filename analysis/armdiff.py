"""What two arms differ in besides what was meant: the five axes side by side, and the confounds named."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import polars as pl

from analysis.agreement import (
    AXES,
    Arms,
    agreement,
    two_arms,
)
from analysis.armfacts import HISTORY, facts_of_runs
from analysis.armresponses import (
    DIFF_SCHEMA,
    DiffPart,
    answers_to_same_calls,
    members_of_broken,
    rates_of_broken,
)
from analysis.armwords import headline, listed, warnings_of
from analysis.outcomes import columns
from analysis.results import Result, empty_members
from analysis.wording import line_difference, schema_changes, shown
from loaders import Trajectories

_ABSENT: Final = "not offered"


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
        _plain(arms, facts_of_runs(chosen, arms)),
        _tools(chosen, arms),
        answers_to_same_calls(chosen, arms),
    ]
    frame = pl.concat([_prompts_told(chosen, arms, part.frame) for part in parts])
    frame = pl.concat([frame, rates_of_broken(chosen, arms)])
    members = pl.concat([*(part.members for part in parts), members_of_broken(arms, frame)])
    order = {name: n for n, name in enumerate((HISTORY, *AXES))}
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


def _compared(arms: Arms, facts: pl.DataFrame, display: pl.DataFrame) -> DiffPart:
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
        pl.col(name).cast(kind) for name, kind in DIFF_SCHEMA.items()
    )
    is_behind = (pl.col("between") > 0) | ((pl.col("between") > 0).sum().over(keys) == 0)
    members = (
        per_unit.filter(is_behind.fill_null(value=False))
        .select(*keys, "unit")
        .join(arms.table.select("unit", "trajectory_id", role="side"), on="unit")
        .select(*keys, "trajectory_id", "role")
    )
    return DiffPart(frame, members)


def _plain(arms: Arms, facts: pl.DataFrame) -> DiffPart:
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


# ---------------------------------------------------------------------- tools


def _tools(runs: Trajectories, arms: Arms) -> DiffPart:
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
        return DiffPart(pl.DataFrame(schema=DIFF_SCHEMA), empty_members("axis", "item"))
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
    return DiffPart(rows, part.members.filter(pl.col("item").is_in(rows["item"].to_list())))


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


def _first_of(prompts: pl.LazyFrame, asked: pl.Series) -> pl.DataFrame:
    """The first of the prompts of each of these runs: ``run``, ``text``."""
    return (
        prompts.filter(pl.col("run").is_in(asked.unique().implode()))
        .select("run", "seq", "text")
        .collect(engine="streaming")
        .sort("run", "seq")
        .unique("run", keep="first", maintain_order=True)
        .select("run", "text")
    )


def _prompt_told(
    runs: Trajectories, arms: Arms, axis: str, kind: str
) -> tuple[str, str, str] | None:
    prompts = runs.events.filter(pl.col("kind") == kind, pl.col("text") != "")
    prompted = prompts.select("run").unique().collect(engine="streaming")
    one_each = (
        arms.table.join(prompted, on="run", how="semi", maintain_order="left")
        .unique(["unit", "side"], keep="first", maintain_order=True)
        .select("unit", "side", "run", axis)
    )
    sides = [one_each.filter(pl.col("side") == name) for name in (arms.a, arms.b)]
    pairs = (
        sides[0]
        .join(sides[1], on="unit", suffix="_b", maintain_order="left")
        .filter(pl.col(axis) != pl.col(f"{axis}_b"))
        .unique([axis, f"{axis}_b"], keep="first", maintain_order=True)
    )
    texts = _first_of(prompts, pl.concat([pairs["run"], pairs["run_b"]]))
    pairs = pairs.join(texts, on="run", how="left", maintain_order="left").join(
        texts, left_on="run_b", right_on="run", how="left", suffix="_b", maintain_order="left"
    )
    if pairs.is_empty():
        return None
    found = [line_difference(a, b) for a, b in pairs.select("text", "text_b").iter_rows()]
    share = sum(each.share for each in found) / len(found)
    first = found[0]
    many = f", mean of {len(found)} pairs of prompts" if len(found) > 1 else ""
    said = str(first) if len(found) == 1 else f"{100 * share:.0f} % of lines differ"
    return f"{said}{many}", shown(first.first_a), shown(first.first_b)
