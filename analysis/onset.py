"""Where a breakdown begins, by a definition that is stated with every number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal

import polars as pl

from analysis.behaviour_signals import ERRORS, calls
from analysis.outcomes import columns, judged
from analysis.prefixes import drops
from analysis.results import Result
from analysis.survival import recovery_times
from loaders import Trajectories
from loaders.errors import DerailError

Definition = Literal["first_unrecovered_error", "terminal_loop", "largest_drop"]

_LOOP: Final = 3
_SAID: Final = {
    "first_unrecovered_error": "the first explicit error whose tool does not answer unperturbed again within {h} calls",
    "terminal_loop": f"the first of the run's last tool calls, {_LOOP} or more, each of which repeats one of the 10 before it",
    "largest_drop": "the call at which the predicted chance of success falls most",
}


def onset(
    runs: Trajectories,
    definition: Definition = "first_unrecovered_error",
    by: str | Sequence[str] | None = None,
    *,
    h: int = 5,
    refits: int = 20,
) -> Result:
    """The call at which each run begins to break down, by one of three definitions.

    The call at which a run *ends* is not where it broke: a run goes on for long after it is lost.
    ``definition``:

    * ``first_unrecovered_error``: the first explicit error (``behaviour.ERRORS``) after which the same tool
      gives no unperturbed response within ``h`` calls, or to the end of the run.
    * ``terminal_loop``: the run ends in at least 3 tool calls that each repeat one of the 10 before it; the
      first of them.
    * ``largest_drop``: where the chance of success, predicted out of fold from cheap counts, falls most
      (``localize.drops``; every run has one).

    ``frame``, a row per run with a known outcome: ``trajectory_id``, ``task``, the ``by`` columns,
    ``success``, ``steps``; ``onset`` (step; null where the run has none by this definition), ``calls_after`` (calls
    from there to the end), ``share`` (of the run that lies before it), ``what`` (code or tool),
    ``agreement`` (of refits, for ``largest_drop``; else null). ``runs(role="failure_with_onset")`` opens runs; roles
    are failure and success, each ``_with_onset`` or ``_without``.

    A definition that also finds an onset in most successful runs marks no breakdown: the headline says
    in how many. Raises ``DerailError`` for an unknown definition, and where no outcome is known.

    >>> import loaders
    >>> found = onset(loaders.load("sample_logs/study/*/planner-1/inspect/timeout.eval"))
    >>> found.frame.filter(pl.col("onset") >= pl.col("steps")).height
    0
    """
    if definition not in _SAID:
        raise DerailError(f"no definition {definition!r}; there are {', '.join(_SAID)}")
    arms = columns(by, runs)
    table = judged(runs, *arms, "steps")
    if table.is_empty():
        raise DerailError("no run has a known outcome, so nothing is known to have broken down")
    found = {
        "first_unrecovered_error": lambda: _first_unrecovered(runs, h),
        "terminal_loop": lambda: _terminal_loop(runs),
        "largest_drop": lambda: _largest_drop(runs, refits),
    }[definition]()
    frame = (
        table.join(found, on="trajectory_id", how="left", maintain_order="left")
        .with_columns(
            (pl.col("steps") - pl.col("onset")).alias("calls_after"),
            (pl.col("onset") / pl.col("steps")).alias("share"),
        )
        .select(
            *("trajectory_id", "task", *arms, "success", "steps"),
            *("onset", "calls_after", "share", "what", "agreement"),
        )
    )
    outcome = pl.when("success").then(pl.lit("success")).otherwise(pl.lit("failure"))
    has = (
        pl.when(pl.col("onset").is_not_null())
        .then(pl.lit("_with_onset"))
        .otherwise(pl.lit("_without"))
    )
    said = _SAID[definition].format(h=h)
    return Result(
        kind="onset",
        title=f"Where runs begin to break down: {definition.replace('_', ' ')}",
        frame=frame,
        method=f"Onset is {said}.",
        keys=("trajectory_id", *arms),
        members=frame.select("trajectory_id", *arms, (outcome + has).alias("role")),
        source=runs,
        warnings=tuple(_warnings(frame, definition)),
        headline=_headline(frame),
    )  # fmt: skip


def _first_unrecovered(runs: Trajectories, h: int) -> pl.DataFrame:
    return (
        recovery_times(runs, h)
        .filter(pl.col("code").is_in(ERRORS), ~pl.col("recovered"))
        .sort("run", "seq")
        .unique("run", keep="first", maintain_order=True)
        .select("trajectory_id", onset="step", what="code", agreement=pl.lit(None, pl.Float64))
    )


def _terminal_loop(runs: Trajectories) -> pl.DataFrame:
    ids = runs.trajectories.select("run", "trajectory_id").collect()
    repeats = pl.col("repeat").fill_null(value=False)
    to_the_end = repeats.cast(pl.Int8).reverse().cum_min().reverse().over("run")
    return (
        calls(runs)
        .sort("run", "seq")
        .with_columns(to_the_end.alias("looping"))
        .filter(pl.col("looping") == 1)
        .group_by("run", maintain_order=True)
        .agg(
            pl.len().alias("long"),
            pl.col("step").first().alias("onset"),
            pl.col("tool").first().alias("what"),
        )
        .filter(pl.col("long") >= _LOOP)
        .join(ids, on="run", maintain_order="left")
        .select("trajectory_id", "onset", "what", agreement=pl.lit(None, pl.Float64))
    )


def _largest_drop(runs: Trajectories, refits: int) -> pl.DataFrame:
    met = pl.col("met").list.join(", ")
    return drops(runs, refits=refits).frame.select(
        "trajectory_id",
        onset="step",
        what=pl.when(met != "").then(met),
        agreement="agreement",
    )


def _warnings(frame: pl.DataFrame, definition: str) -> list[str]:
    warnings = [
        "An onset is a matter of definition and no cause: that what stands there broke the run is not shown."
    ]
    if definition == "largest_drop":
        warnings.append(
            "A prediction from cheap counts, and the largest of several noisy drops; see agreement."
        )
    else:
        among = [_share(frame.filter(pl.col("success") == name)) for name in (True, False)]
        good, bad = among
        if good is not None and bad is not None and good >= bad:
            warnings.append(
                f"As many successful runs have such an onset ({good:.0%}) as failed ones ({bad:.0%}): it marks no "
                "breakdown here."
            )
    return warnings  # fmt: skip


def _share(frame: pl.DataFrame) -> float | None:
    if frame.is_empty():
        return None
    return 1 - frame["onset"].null_count() / frame.height


def _headline(frame: pl.DataFrame) -> str:
    failed, succeeded = (frame.filter(pl.col("success") == value) for value in (False, True))
    begun: Any = failed.drop_nulls("onset")
    told = f"{begun.height} of {failed.height} failed runs have such an onset"
    if begun.height:
        told += f", half of them by call {begun['onset'].median():g} with {begun['calls_after'].median():g} calls left"
    if succeeded.height:
        told += f"; so do {succeeded.height - succeeded['onset'].null_count()} of {succeeded.height} successful runs"
    return told + "."
