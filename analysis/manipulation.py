"""Did each run of an arm get the treatment that its label says, and what does it matter?

A label is what was asked for. What the model got stands in its requests. Where the two differ,
comparing arms estimates the effect of the label (intent to treat), and comparing runs by what they
got (as treated) gives up the randomisation that made arms comparable.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from analysis.outcomes import columns, judged
from analysis.results import Result
from analysis.thinking_policy import POLICIES, policy
from analysis.thinking_tokens import with_token_evidence
from analysis.treatment import effects_of_treatment
from loaders import Trajectories
from loaders.errors import DerailError

Floats = NDArray[np.float64]
Expected = Mapping[str, str | Sequence[str]]

_EFFECTS: Final = {
    "a": pl.String,
    "b": pl.String,
    "estimate": pl.String,
    "difference": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "p": pl.Float64,
    "runs_a": pl.Int64,
    "runs_b": pl.Int64,
    "tasks": pl.Int64,
    "rests_on": pl.String,
    "refused": pl.String,
}


def manipulation(
    runs: Trajectories, by: str = "arm", expected: Expected | None = None, *, tokens: bool = True
) -> Result:
    """Which runs of each arm were sent the thinking that the arm's label says.

    ``expected``: arm to policy (``all``, ``turn_boundary``, ``last``, ``none``), or to several that
    are all right. Without it, an arm is expected to do what most of its runs do: then compliance says how
    uniform an arm is, and not whether it is what you think.

    ``frame``, a row per arm: ``by``; ``expected``; ``runs``; ``complied``, ``deviated``, ``unknown`` (no
    request known), ``nothing_to_send`` (no call had earlier thinking: no treatment to get);
    ``compliance`` (complied of those that complied or deviated) with ``low``, ``high`` (exact, Clopper and
    Pearson 1934, runs taken as independent); ``got`` (policy and how many runs got it); ``evidence``. A run complies
    if the expected policy fits all its known requests. ``runs(arm=..., role="deviated")`` opens them.
    The headline sets intent to treat beside as treated for the two largest arms; ``treatment_effects``
    has both for every arm.

    Raises ``DerailError`` for an unknown arm or policy, and for fewer than two arms.

    >>> import loaders
    >>> runs = loaders.load("tests/inspect_logs/reasoning_{arm}.eval")
    >>> found = manipulation(runs, expected={"all": "all", "none": "none"})
    >>> found.frame.select("arm", "deviated", "compliance").rows()
    [('all', 0, 1.0), ('none', 0, 1.0)]
    """
    table, wanted = _received(runs, by, expected, tokens)
    rows = [
        _compliance(arm, wanted[arm], table.filter(pl.col("label") == arm))
        for arm in sorted(wanted)
    ]
    schema = {
        by: pl.String,
        "expected": pl.List(pl.String),
        **dict.fromkeys(("runs", "complied", "deviated", "unknown", "nothing_to_send"), pl.Int64),
        **dict.fromkeys(("compliance", "low", "high"), pl.Float64),
        "got": pl.String,
        "evidence": pl.List(pl.String),
    }
    frame = pl.DataFrame([{by: row.pop("arm"), **row} for row in rows], schema=schema)
    return Result(
        kind="manipulation",
        title=f"Did runs get what {by!r} says?",
        frame=frame,
        method="A run complies if the expected policy fits every call with a known request; exact 95 % interval.",
        keys=(by,),
        members=table.select(pl.col("label").alias(by), "trajectory_id", pl.col("status").alias("role")),
        source=runs,
        warnings=tuple(_warnings(frame, by, given=expected is not None)),
        headline=_headline(table, wanted, frame),
    )  # fmt: skip


def treatment_effects(
    runs: Trajectories,
    by: str = "arm",
    expected: Expected | None = None,
    *,
    baseline: str | None = None,
    tokens: bool = True,
) -> Result:
    """The effect of an arm's label on success beside that of what its runs got.

    ``frame``, four rows per arm ``b`` against the baseline ``a``, by ``estimate``:

    * ``intent to treat``: success of all runs labelled b minus all labelled a.
    * ``as treated``: success of the runs, whatever their label, that got b's policy minus those that got a's.
      Who gets another treatment than assigned is no accident: observational.
    * ``per protocol``: the same among runs that complied. Observational for the same reason.
    * ``complier average``: intent to treat over the share whose treatment the label changed (Wald; Imbens and Angrist
      1994), with a Fieller interval, which holds where few comply. It speaks of the runs that do as
      labelled, and only if the label acts through the treatment alone.

    Then ``difference`` with ``low``, ``high``, ``p`` (CR1 by task, t); ``runs_a``, ``runs_b``, ``tasks``;
    ``rests_on``, the assumption; ``refused`` (fewer than 10 runs in a group, too many runs whose treatment is
    unclear, arms that got the same). ``runs(b=..., estimate=..., role="a")`` opens a group.

    ``expected`` as in ``manipulation``; ``baseline``: by default the first arm in alphabetical order.

    >>> import loaders
    >>> runs = loaders.load("tests/inspect_logs/reasoning_{arm}.eval")
    >>> found = treatment_effects(runs, expected={"all": "all", "none": "none"})
    >>> found.frame["refused"][0]
    '1 runs in a group; 10 are needed'
    """
    table, wanted = _received(runs, by, expected, tokens)
    arms = sorted(wanted)
    first = baseline if baseline is not None else arms[0]
    if first not in arms:
        raise DerailError(f"no arm is called {first!r}; there are {', '.join(arms)}")
    rows: list[dict[str, Any]] = []
    members: list[pl.DataFrame] = []
    for arm in arms:
        if arm != first:
            for found in effects_of_treatment(table, wanted, first, arm):
                rows.append({"a": first, "b": arm, **found.row})
                members.append(
                    found.members.select(
                        pl.lit(first).alias("a"),
                        pl.lit(arm).alias("b"),
                        pl.lit(found.row["estimate"]).alias("estimate"),
                        "trajectory_id",
                        "role",
                    )
                )
    frame = pl.DataFrame(rows, schema=_EFFECTS)
    warnings = [
        "As treated and per protocol are observational: runs that got something else than their label says may "
        "differ in other ways. Quote intent to treat."
    ]
    if expected is None:
        warnings.append("expected= was not given: each arm is held to what most of its runs got.")
    if unjudged := table["success"].null_count():
        warnings.append(f"{unjudged} runs whose outcome the log does not tell are left out.")
    return Result(
        kind="treatment_effects",
        title=f"Effects on success of what {by!r} says and of what runs got",
        frame=frame,
        method="Differences of means, CR1 standard errors clustered by task, t interval; complier average by Wald "
        "with a Fieller interval.",
        keys=("a", "b", "estimate"),
        members=pl.concat(members),
        source=runs,
        warnings=tuple(warnings),
        headline=_effect_text(frame),
    )


_FEW_STRAGGLERS: Final = 0.2


def stragglers(runs: Trajectories, by: str, *, tokens: bool = False) -> Result | None:
    """The few runs of an arm that were sent other thinking than the rest of it; None where there are none.

    Where more than a fifth of an arm differ from its most common policy, the column was not about
    thinking (a factor crossed with it), and that is no fault of the runs.
    """
    arms = runs.trajectories.filter(pl.col("parent_id").is_null()).select(
        pl.col(by).drop_nulls().n_unique()
    )
    if arms.collect().item() < 2:
        return None
    found = manipulation(runs, by, tokens=tokens)
    known = pl.col("complied") + pl.col("deviated")
    few = found.frame.filter(
        (pl.col("deviated") > 0) & (pl.col("deviated") <= _FEW_STRAGGLERS * known)
    )
    if few.is_empty():
        return None
    names = few[by].to_list()
    return replace(
        found,
        frame=few,
        members=found.members.filter(pl.col(by).is_in(names), pl.col("role") == "deviated"),
        warnings=tuple(
            f"Non-compliance: {row['deviated']} of {row['complied'] + row['deviated']} runs of {row[by]!r} were sent other thinking "
            f"than the rest of it ({row['got']}). Comparing arms estimates the effect of the label; see thinking.manipulation."
            for row in few.iter_rows(named=True)
        ),
    )  # fmt: skip


# ---------------------------------------------------------------------- what runs got


def _received(
    runs: Trajectories, by: str, expected: Expected | None, tokens: bool
) -> tuple[pl.DataFrame, dict[str, list[str]]]:
    """Runs with their label, what fits their requests, and whether that is what the label says."""
    columns(by, runs)
    got = policy(with_token_evidence(runs) if tokens else runs)
    table = (
        runs.trajectories.filter(pl.col("parent_id").is_null(), pl.col(by).is_not_null())
        .select("trajectory_id", pl.col(by).cast(pl.String).alias("label"))
        .collect()
        .join(got, on="trajectory_id", maintain_order="left")
        .join(
            judged(runs).select("trajectory_id", "task", "success"),
            on="trajectory_id",
            how="left",
            maintain_order="left",
        )
    )
    arms = table["label"].unique().sort().to_list()
    if len(arms) < 2:
        raise DerailError(
            f"{by!r} has {len(arms)} value{'s' * (len(arms) != 1)}; a manipulation check needs two arms"
        )
    wanted = _wanted(table, arms, expected)
    table = table.filter(pl.col("label").is_in(list(wanted)))
    by_label = pl.DataFrame(
        {"label": list(wanted), "wanted": list(wanted.values())},
        schema={"label": pl.String, "wanted": pl.List(pl.String)},
    )
    table = table.join(by_label, on="label", maintain_order="left")
    complied = pl.col("fits").list.set_intersection("wanted").list.len() > 0
    status = (
        pl.when(pl.col("policy").is_in(["unknown", "nothing_to_send"]))
        .then("policy")
        .when(complied)
        .then(pl.lit("complied"))
        .otherwise(pl.lit("deviated"))
    )
    return table.with_columns(status.alias("status")), wanted


def _wanted(
    table: pl.DataFrame, arms: list[str], expected: Expected | None
) -> dict[str, list[str]]:
    if expected is None:
        known = table.filter(pl.col("calls_due") > 0)
        most: dict[str, list[str]] = {}
        for arm in arms:
            named = known.filter(pl.col("label") == arm)["policy"].value_counts(sort=True)
            first = named["policy"].to_list()[:1]
            most[arm] = [name for name in first if name in POLICIES]
        return most
    given = {arm: [wish] if isinstance(wish, str) else list(wish) for arm, wish in expected.items()}
    if strange := [arm for arm in given if arm not in arms]:
        raise DerailError(f"no arm is called {strange[0]!r}; there are {', '.join(arms)}")
    if wrong := [wish for wishes in given.values() for wish in wishes if wish not in POLICIES]:
        raise DerailError(f"no policy {wrong[0]!r}; there are {', '.join(POLICIES)}")
    if len(given) < 2:
        raise DerailError("expected= names one arm; a manipulation check needs two")
    return given


def _compliance(arm: str, wanted: list[str], table: pl.DataFrame) -> dict[str, Any]:
    count = {name: int((table["status"] == name).sum()) for name in _STATUSES}
    low, high = _exact(count["complied"], count["complied"] + count["deviated"])
    got = table["policy"].value_counts(sort=True).sort("count", "policy", descending=[True, False])
    known = count["complied"] + count["deviated"]
    return {
        "arm": arm,
        "expected": wanted,
        "runs": table.height,
        **count,
        "compliance": count["complied"] / known if known else None,
        "low": low,
        "high": high,
        "got": ", ".join(f"{name} {number}" for name, number in got.iter_rows()),
        "evidence": table["evidence"].explode().drop_nulls().unique().sort().to_list(),
    }


_STATUSES: Final = ("complied", "deviated", "unknown", "nothing_to_send")


def _exact(successes: int, n: int) -> tuple[float | None, float | None]:
    if not n:
        return None, None
    from scipy import special

    low = float(special.betaincinv(successes, n - successes + 1, 0.025)) if successes else 0.0
    high = float(special.betaincinv(successes + 1, n - successes, 0.975)) if successes < n else 1.0
    return low, high


def _warnings(frame: pl.DataFrame, by: str, given: bool) -> list[str]:
    warnings = [
        f"Non-compliance: {row['deviated']} of {row['complied'] + row['deviated']} runs of {row[by]!r} were not sent "
        f"what it says ({row['got']}). Comparing arms estimates the effect of the label."
        for row in frame.iter_rows(named=True)
        if row["deviated"]
    ]
    warnings += [
        f"{row['unknown']} of {row['runs']} runs of {row[by]!r} have no known request: whether they complied is "
        "unknown."
        for row in frame.iter_rows(named=True)
        if row["unknown"]
    ]
    if frame["nothing_to_send"].sum():
        warnings.append(
            f"{frame['nothing_to_send'].sum()} runs had no earlier thinking in any call: for them the arms are one."
        )
    if frame["evidence"].list.contains("tokens").any():
        warnings.append("Some runs are told by token counts alone; see thinking.token_accounting.")
    if not given:
        warnings.append(
            "expected= was not given: an arm is held to what most of its runs got, so a treatment that failed "
            "for a whole arm is not seen."
        )
    return warnings


# ---------------------------------------------------------------------- in words


def _headline(table: pl.DataFrame, wanted: dict[str, list[str]], frame: pl.DataFrame) -> str:
    sums = frame.select(pl.col("complied", "deviated").sum()).row(0)
    told = f"{sums[0]} of {sum(sums)} runs got what their label says."
    sizes = table.group_by("label").len().sort("len", "label", descending=[True, False])
    if table["success"].null_count() == table.height or len(wanted) < 2:
        return told
    a, b = sorted(sizes["label"].to_list()[:2])
    effects = effects_of_treatment(table, wanted, a, b)
    shown = [
        f"{effect.row['estimate']} {_points(effect.row)}"
        for effect in effects[:2]
        if effect.row.get("difference") is not None
    ]
    return f"{told} {b} against {a}: {'; '.join(shown)}." if shown else told


def _effect_text(frame: pl.DataFrame) -> str:
    shown = frame.drop_nulls("difference")
    if shown.is_empty():
        return "No effect can be estimated."
    b = shown["b"][0]
    return f"{b} against {shown['a'][0]}: " + "; ".join(
        f"{row['estimate']} {_points(row)}"
        for row in shown.filter(pl.col("b") == b).iter_rows(named=True)
    )


def _points(row: dict[str, Any]) -> str:
    return (
        f"{100 * row['difference']:+.1f} points [{100 * row['low']:+.1f}, {100 * row['high']:+.1f}]"
    )
