"""Which tool responses came back broken, what kind of broken, on what evidence, and by whose doing.

Evidence in this order, first hit wins: a flag of the framework, an exit code or HTTP status, parsed
JSON keys of the response, an anchored pattern in its first or last 400 characters. A bare word such
as "error" somewhere in a response is never evidence. What is silently wrong (a plausible but false
value) can't be found by any rule here.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from analysis import own_codes
from analysis import perturbation_messages as said
from analysis import perturbation_rules as rules
from analysis.own_codes import define, defined, undefine
from analysis.perturbation_quality import quality
from analysis.perturbation_statistics import Tools, within_runs
from analysis.perturbation_truth import injected_truth, known_truth
from analysis.remembered import once_for_each_set
from analysis.results import Result
from analysis.signals import repeated_calls, responses
from loaders import Trajectories

if TYPE_CHECKING:
    from analysis.axes import axes, diff, surface
    from analysis.survival import recovery

__all__ = [
    "CODES",
    "EVIDENCE",
    "axes",
    "codes",
    "define",
    "defined",
    "detect",
    "diff",
    "injected_truth",
    "known_truth",
    "quality",
    "rates",
    "recovery",
    "repeats",
    "surface",
    "undefine",
]

CODES: Final = (
    "exec_error",
    "exception",
    "timeout",
    "rate_limit",
    "http_error",
    "auth",
    "not_found",
    "empty",
    "truncated",
    "malformed",
    "schema_drift",
    "stale",
    "no_op",
    "oversized",
    "encoding",
    "injection",
    "contradiction",
    "harness_format",
    "user_interrupt",
    "context_limit",
)
own_codes.reserve(CODES)
EVIDENCE: Final = ("flag", "status", "json", "pattern", "statistic")

_AGENTS_OWN = ("harness_format",)
_ENVIRONMENTS = (
    "timeout", "rate_limit", "http_error", "malformed", "schema_drift", "encoding", "injection",
    "truncated", "oversized", "stale", "contradiction",
)  # fmt: skip


def detect(runs: Trajectories) -> pl.DataFrame:
    """Every perturbed tool response, a row per response and code.

    Columns: ``run``, ``trajectory_id``, ``seq``, ``step`` (of the call that it answers), ``tool``,
    ``code`` (one of ``CODES``), ``evidence`` (flag, status, json, pattern, statistic), ``rule`` (what
    fired, in words), ``cause`` (agent, environment, unknown; invalid arguments are the agent's own
    doing), ``primary`` (the response's code on the best evidence), ``injected`` (the fault that the
    harness says it planted, if any). Sorted by run and ``seq``.

    Patterns are measured by ``quality`` on responses whose flags and exit codes are hidden from them.

    >>> import loaders
    >>> found = detect(loaders.load("sample_logs/study/*/planner-1/inspect/timeout.eval"))
    >>> set(found["code"].unique()) <= set(CODES)
    True
    """
    found = _detected(runs)
    if not defined():
        return found
    own = pl.concat([own_codes.found(part) for part in runs.parts()])
    return _named(pl.concat([found.select(own.columns), own]))


@once_for_each_set
def _detected(runs: Trajectories) -> pl.DataFrame:
    hits: list[pl.DataFrame] = []
    tools = Tools(lambda part: rules.alone(responses(part))[1])
    for part in runs.parts():
        alone, table = rules.alone(responses(part))
        tools.add(part, table)
        hits += [alone, within_runs(table), _context_limits(part)]
    return _named(pl.concat([*hits, tools.unlike()]))


def _named(hits: pl.DataFrame) -> pl.DataFrame:
    """A row per response and code, on the best evidence, with its cause."""
    rank = pl.col("evidence").replace_strict(
        {name: number for number, name in enumerate(EVIDENCE)}, return_dtype=pl.Int8
    )
    order = pl.col("code").replace_strict(
        {name: number for number, name in enumerate(CODES)},
        default=len(CODES),
        return_dtype=pl.Int8,
    )
    cause = (
        pl.when(pl.col("code").is_in(_AGENTS_OWN))
        .then(pl.lit("agent"))
        .when(pl.col("code").is_in(_ENVIRONMENTS))
        .then(pl.lit("environment"))
        .otherwise(pl.col("code").replace_strict(own_codes.causes(), default="unknown"))
    )
    return (
        hits.sort("run", "seq", rank, order, maintain_order=True)
        .unique(["run", "seq", "code"], keep="first", maintain_order=True)
        .with_columns(
            cause.alias("cause"), pl.col("seq").is_first_distinct().over("run").alias("primary")
        )
        .select(*rules.KEYS, "code", "evidence", "rule", "cause", "primary", "injected")
    )


def _context_limits(runs: Trajectories) -> pl.DataFrame:
    kind = pl.col("kind")
    says_so = pl.col("text").str.contains(said.MEANING["context_limit"]).fill_null(value=False)
    table = (
        runs.events.filter(kind.is_in(["compaction", "error"]))
        .select(*rules.KEYS, "injected", "kind", "text")
        .collect()
        .filter((kind == "compaction") | says_so)
    )
    return rules.hits(
        table,
        pl.lit(value=True),
        "context_limit",
        "flag",
        "the history was compacted, or the model's context was full",
    )


def repeats(runs: Trajectories, found: pl.DataFrame | None = None) -> pl.DataFrame:
    """Calls that repeat the call before them, and whether that one's response was broken.

    Columns as in ``signals.repeated_calls``, and ``is_retry``: the response to the first of the two
    has a perturbation code, so that calling again makes sense; else the repeat is needless. ``found``: what ``detect`` found in
    these runs, where that is at hand.
    """
    answered = runs.events.filter(pl.col("kind") == "tool_result").select(
        "run", "seq", pl.col("call_seq").alias("repeats")
    )
    broken = (
        (detect(runs) if found is None else found)
        .lazy()
        .select("run", "seq")
        .join(answered, on=["run", "seq"])
        .select("run", "repeats", pl.lit(value=True).alias("is_retry"))
        .unique()
        .collect(engine="streaming")
    )
    return (
        repeated_calls(runs)
        .join(broken, on=["run", "repeats"], how="left", maintain_order="left")
        .with_columns(pl.col("is_retry").fill_null(value=False))
    )


def rates(runs: Trajectories, by: str | list[str] = "arm") -> Result:
    """How often each perturbation code occurs, per run and per tool response, for each group.

    ``frame`` columns: ``by`` columns, ``code``, ``responses`` (perturbed), ``of`` (all responses),
    ``share`` (of responses), ``runs`` (with at least one), ``tools`` (most affected first).
    """
    groups = [by] if isinstance(by, str) else by
    labels = runs.trajectories.select("trajectory_id", *groups).collect()
    everything = (
        runs.events.filter(pl.col("kind") == "tool_result")
        .group_by("trajectory_id")
        .agg(pl.len().alias("of"))
        .collect()
        .join(labels, on="trajectory_id")
        .group_by(groups)
        .agg(pl.col("of").sum().cast(pl.Int64))
    )
    found = detect(runs).join(labels, on="trajectory_id")
    frame = (
        found.group_by(*groups, "code")
        .agg(
            pl.len().cast(pl.Int64).alias("responses"),
            pl.col("trajectory_id").n_unique().cast(pl.Int64).alias("runs"),
            pl.col("tool")
            .drop_nulls()
            .value_counts(sort=True)
            .struct.field("tool")
            .head(3)
            .alias("tools"),
        )
        .join(everything, on=groups, nulls_equal=True)
        .with_columns((pl.col("responses") / pl.col("of")).alias("share"))
        .sort("responses", *groups, "code", descending=[True, *[False] * (len(groups) + 1)])
        .select(*groups, "code", "responses", "of", "share", "runs", "tools")
    )
    members = found.select(
        *groups, "code", "trajectory_id", pl.lit("perturbed").alias("role")
    ).unique(maintain_order=True)
    return Result(
        kind="rates",
        title="Perturbed tool responses",
        frame=frame,
        method="Rules in their evidence order: flag, status, JSON keys, anchored pattern, statistic.",
        keys=(*groups, "code"),
        members=members,
        source=runs,
        warnings=("A silently wrong value can't be found by rules.",),
    )


def codes() -> tuple[str, ...]:
    """All codes that ``detect`` looks for: ``CODES`` and those of your own."""
    return (*CODES, *defined())


_ELSEWHERE: Final = {
    "recovery": "analysis.survival",
    "axes": "analysis.axes",
    "diff": "analysis.axes",
    "surface": "analysis.axes",
}
"""Part of this subject for whoever looks for it here, and built on top of this module."""


def __getattr__(name: str) -> Any:
    if name not in _ELSEWHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_ELSEWHERE[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_ELSEWHERE})
