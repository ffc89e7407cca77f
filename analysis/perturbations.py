"""Which tool responses came back broken, what kind of broken, on what evidence, and by whose doing.

Evidence in this order, first hit wins: a flag of the framework, an exit code or HTTP status, parsed
JSON keys of the response, an anchored pattern in its first or last 400 characters. A bare word such
as "error" somewhere in a response is never evidence. What is silently wrong (a plausible but false
value) can't be found by any rule here.
"""

from __future__ import annotations

import importlib
from collections.abc import Container, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import polars as pl

from analysis import own_codes, perturbation_statistics, signals
from analysis import perturbation_messages as said
from analysis import perturbation_rules as rules
from analysis.own_codes import define, defined, undefine
from analysis.parts import between, part_by_part, unshared
from analysis.perturbation_quality import quality
from analysis.perturbation_statistics import Tools, with_shape, within_runs
from analysis.perturbation_truth import injected_truth, known_truth
from analysis.remembered import kept_beside_store, once_for_each_set
from analysis.results import Result
from analysis.signals import answered, exchanged, repeated_calls
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

_RESPONSES, _BYTES = 1 << 17, 16 << 20
"""Responses, and bytes of those that the rules read, for which they are called once."""

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

    A store keeps what was found in it (in its folder ``found``, where that can be written) until its runs
    or the rules change, so that its texts are read once and not by every process.

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


RULES: Final = (said, rules, perturbation_statistics, signals)
"""The modules on whose source it depends what is found."""


@once_for_each_set
@kept_beside_store("perturbed", RULES)
def _detected(runs: Trajectories) -> pl.DataFrame:
    batches: list[_Batch] = []
    tools = Tools[set[int]](lambda numbers: _found_in(_looks(runs, numbers))[1])
    for looks in _batches(_looks(runs)):
        alone, table = _found_in(looks)
        tools.add({look.number for look in looks}, table)
        hits = pl.concat([alone, within_runs(table), *(look.limits for look in looks)])
        first, last = table.select(a=pl.col("run").min(), b=pl.col("run").max()).row(0)
        batches.append(_Batch(first, last, unshared(hits)))
    late = tools.unlike().sort("run", maintain_order=True)
    named = [_named(late.clear())]
    while batches:  # each is given up for what is made of it
        first, last, hits = batches.pop(0)
        named.append(_named(pl.concat([hits, between(late, first, last)])))
    return pl.concat(named)


class _Batch(NamedTuple):
    """What was found in some parts, and the first and last of the runs that have tool responses."""

    first: int | None
    last: int | None
    hits: pl.DataFrame


class _Look(NamedTuple):
    """What was seen of a part of the runs: ``rest`` all responses, of which only the close ones have texts."""

    number: int
    close: pl.DataFrame
    rest: pl.DataFrame
    limits: pl.DataFrame


def _looks(runs: Trajectories, numbers: Container[int] | None = None) -> Iterator[_Look]:
    """At each part; again at those with these numbers. Parts themselves are not held: each takes a megabyte."""
    for number, part in enumerate(runs.parts()):
        if numbers is None or number in numbers:
            yield _look_at(number, part)


def _look_at(number: int, part: Trajectories) -> _Look:
    events = exchanged(part, "compaction", "error")
    table = with_shape(rules.first_look(answered(events)))
    close = unshared(table.filter("close"), "text", "error_type", "arguments")
    read_closely = ("text", "error_type", "exit_code", "truncated", "media", "family", "close")
    return _Look(number, close, table.drop(read_closely), _context_limits(events))


def _batches(looks: Iterable[_Look]) -> Iterator[list[_Look]]:
    """Parts for which the rules are called once: to make their expressions ready takes a tenth of a second."""
    batch: list[_Look] = []
    for look in looks:
        batch.append(look)
        responses = sum(look.rest.height for look in batch)
        size = sum(int(look.close["text"].str.len_bytes().sum()) for look in batch)
        if responses >= _RESPONSES or size >= _BYTES:
            yield batch
            batch = []
    if batch:
        yield batch


def _found_in(looks: Iterable[_Look]) -> tuple[pl.DataFrame, pl.DataFrame]:
    looks = list(looks)
    found = rules.of_close(pl.concat([look.close for look in looks]))
    return found, rules.with_broken(pl.concat([look.rest for look in looks]), found)


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


def _context_limits(events: pl.DataFrame) -> pl.DataFrame:
    kind = pl.col("kind")
    says_so = pl.col("text").str.contains(said.MEANING["context_limit"]).fill_null(value=False)
    table = events.filter(kind.is_in(["compaction", "error"])).filter(
        (kind == "compaction") | says_so
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
    return part_by_part(runs, repeats_in, detect(runs) if found is None else found, times=4)


def repeats_in(runs: Trajectories, found: pl.DataFrame) -> pl.DataFrame:
    """What ``repeats`` returns, of a part of the runs."""
    broken = (
        runs.events.filter(pl.col("kind") == "tool_result")
        .select("run", "seq", pl.col("call_seq").alias("repeats"))
        .join(found.lazy().select("run", "seq"), on=["run", "seq"], how="semi")
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
