"""How well the rules find broken tool responses, where something that they may not see knows the truth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final, Literal

import polars as pl

from analysis import perturbation_rules as rules
from analysis.perturbation_statistics import Tools, with_shape, within_runs
from analysis.perturbation_truth import injected_truth, known_truth, without_status
from analysis.results import Result
from analysis.signals import family_of, responses
from analysis.uncertainty import Estimate, clustered_mean
from loaders import Trajectories
from loaders.errors import DerailError

ERRORS: Final = (
    "exec_error", "exception", "timeout", "rate_limit", "http_error", "auth", "not_found",
    "harness_format", "user_interrupt", "context_limit",
)  # fmt: skip
"""Codes that say that a call failed; the others say something else of a response."""

_SCHEMA = {
    "family": pl.String,
    "responses": pl.Int64,
    "broken": pl.Int64,
    "flagged": pl.Int64,
    "hits": pl.Int64,
    **dict.fromkeys(
        ("precision", "precision_low", "precision_high", "recall", "recall_low", "recall_high"),
        pl.Float64,
    ),
    "silent": pl.Int64,
    "undecided": pl.Int64,
}


def quality(
    runs: Trajectories,
    truth: pl.DataFrame | Literal["flags", "injected"] = "flags",
    by: Literal["family", "code"] = "family",
    codes: Sequence[str] | None = None,
) -> Result:
    """Precision and recall of the rules against a truth that is hidden from them.

    **Protocol.** Flags, error types and exit codes are taken out of the events, and exit statuses told
    in words out of their texts; the rules then see the text alone. Each response of known truth counts
    once: *flagged* if a rule gives it one of ``codes``. Precision is the share of flagged responses that
    are broken, recall the share of broken ones that are flagged. Broken responses without any text are
    counted (``silent``) and are no part of recall: nothing in them could be read. Intervals are Wilson's
    with the effective number of responses, for those of a run depend on each other.

    ``truth``: ``flags`` (``known_truth``), ``injected`` (the harness says which responses it perturbed:
    ``injected_truth``), or a frame with ``run`` and ``seq``, ``truth`` (null where undecided) and, as
    one likes, ``code``. ``by``: tool families (``shell``, ``code``, ``edit``, ``read``, ``web``, ``function``),
    or codes: then recall is over the responses of that true code, and precision over those to which
    the rules gave the code of that name. ``codes``: which count as flagged; by default those that say
    that a call failed (``ERRORS``), and all of them for an injected truth.

    ``frame`` columns: ``family`` or ``code``, ``responses`` (of known truth), ``broken``, ``flagged``,
    ``hits`` (both), ``precision``, ``recall`` with ``_low`` and ``_high``, ``silent``, ``undecided``. The last
    row is ``all``. ``runs(family=..., role="missed")`` opens the runs; roles are hit, missed, false alarm.

    Raises ``DerailError`` where nothing is known to be broken.

    >>> import loaders
    >>> chat = [{"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "bash", "arguments": "{}"}}]},
    ...     {"role": "tool", "tool_call_id": "c", "content": "ls: cannot access 'x': No such file or directory"}]
    >>> runs = loaders.from_messages([chat])
    >>> truth = pl.DataFrame({"run": [0], "seq": [1], "truth": [True]})
    >>> quality(runs, truth).frame.select("family", "broken", "hits").rows()
    [('shell', 1, 1), ('all', 1, 1)]
    """
    source = truth if isinstance(truth, str) else "given"
    known = _truth(runs, truth)
    counted = tuple(codes or ((*ERRORS, *_OTHERS) if source == "injected" else ERRORS))
    seen = _seen(runs)
    said_of = (
        seen.filter(pl.col("code").is_in(counted))
        .unique(["run", "seq"], keep="first", maintain_order=True)
        .select("run", "seq", pl.col("code").alias("said"))
    )
    names = responses(runs).select(
        "run", "trajectory_id", "seq", family_of(pl.col("tool")).alias("family")
    )
    table = (
        known.join(names, on=["run", "seq"])
        .join(said_of, on=["run", "seq"], how="left")
        .with_columns(pl.col("family").fill_null("unnamed"), pl.col("said").is_not_null().alias("flag"))
    )  # fmt: skip
    decided = table.filter(pl.col("truth").is_not_null())
    if not decided["truth"].any():
        raise DerailError("no response here is known to be broken, so there is nothing to find")
    rows = _by_family(table) if by == "family" else _by_code(table)
    schema = _SCHEMA if by == "family" else {"code": pl.String, **dict(list(_SCHEMA.items())[1:])}
    label = pl.col("family") if by == "family" else pl.coalesce("code", "said")
    role = (
        pl.when(pl.col("truth") & pl.col("flag"))
        .then(pl.lit("hit"))
        .when("truth")
        .then(pl.lit("missed"))
        .when("flag")
        .then(pl.lit("false alarm"))
    )
    members = decided.select(label.alias(by), "trajectory_id", role.alias("role")).drop_nulls()
    return Result(
        kind="quality",
        title="Detection of broken tool responses",
        frame=pl.DataFrame(rows, schema=schema),
        method="Rules that see the text alone against "
        + {"injected": "the harness's word", "flags": "flags and exit codes"}.get(source, "a given truth")
        + "; 95 % Wilson intervals with the effective number of responses (clustered by run).",
        keys=(by,),
        members=members.unique(maintain_order=True),
        source=runs,
        warnings=("A silently wrong value can't be found by rules.",),
    )  # fmt: skip


_OTHERS = (
    "empty", "truncated", "malformed", "schema_drift", "stale", "no_op", "oversized", "encoding",
    "injection", "contradiction",
)  # fmt: skip


def _seen(runs: Trajectories) -> pl.DataFrame:
    """What the rules find in the hidden responses, the better evidence first."""
    alone, table = rules.alone(_hidden(responses(runs)))
    table = with_shape(table)
    tools = Tools[pl.DataFrame](lambda same: same)
    tools.add(table, table)
    return pl.concat([alone, within_runs(table), tools.unlike()])


def _hidden(table: pl.DataFrame) -> pl.DataFrame:
    """The same responses without what the truth is made of."""
    return table.with_columns(
        pl.lit(None, dtype=pl.Boolean).alias("is_error"),
        pl.lit(None, dtype=pl.String).alias("error_type"),
        pl.lit(None, dtype=pl.Int64).alias("exit_code"),
        pl.lit(None, dtype=pl.Boolean).alias("truncated"),
        pl.lit(None, dtype=pl.String).alias("injected"),
        without_status(pl.col("text")).alias("text"),
    )


def _truth(runs: Trajectories, truth: pl.DataFrame | str) -> pl.DataFrame:
    if isinstance(truth, str):
        return injected_truth(runs) if truth == "injected" else known_truth(runs)
    if missing := {"run", "seq", "truth"} - set(truth.columns):
        raise DerailError(f"a truth of your own needs the columns {sorted(missing)}")
    empty = {"code": pl.String, "why": pl.String}
    return truth.select(
        "run", "seq", "truth",
        *(pl.col(n) if n in truth.columns else pl.lit(None, dtype=t).alias(n) for n, t in empty.items()),
    )  # fmt: skip


def _by_family(table: pl.DataFrame) -> list[dict[str, Any]]:
    families = table["family"].unique().sort().to_list()
    rows = [{"family": name, **_scores(table.filter(family=name))} for name in families]
    return [*sorted(rows, key=lambda row: -row["responses"]), {"family": "all", **_scores(table)}]


def _by_code(table: pl.DataFrame) -> list[dict[str, Any]]:
    told = pl.concat([table["code"].drop_nulls(), table["said"].drop_nulls()]).unique().sort()
    rows: list[dict[str, Any]] = []
    for name in told:
        broken = _scores(table.filter(code=name))
        flagged = _scores(table.filter(said=name))
        rows.append(
            {
                "code": name,
                **broken,
                **{
                    key: flagged[key] for key in flagged if key.startswith(("precision", "flagged"))
                },
            }
        )
    return [*sorted(rows, key=lambda row: -row["responses"]), {"code": "all", **_scores(table)}]


def _scores(table: pl.DataFrame) -> dict[str, Any]:
    decided = table.filter(pl.col("truth").is_not_null())
    flagged = decided.filter("flag")
    speaking = decided.filter("truth", (pl.col("why") != "silent").fill_null(value=True))
    return {
        "responses": decided.height,
        "broken": int(decided["truth"].sum()),
        "flagged": flagged.height,
        "hits": int((decided["truth"] & decided["flag"]).sum()),
        **_share("precision", flagged, "truth"),
        **_share("recall", speaking, "flag"),
        "silent": decided.filter(pl.col("why") == "silent").height,
        "undecided": table.height - decided.height,
    }


def _share(name: str, table: pl.DataFrame, column: str) -> dict[str, float | None]:
    if table.is_empty():
        return dict.fromkeys((name, f"{name}_low", f"{name}_high"))
    found = clustered_mean(table[column].cast(pl.Float64).to_list(), table["run"].to_list())
    low, high = _wilson(found)
    return {name: found.value, f"{name}_low": low, f"{name}_high": high}


def _wilson(found: Estimate) -> tuple[float, float]:
    """Wilson's 95 % interval with as many independent responses as the clustered error speaks of."""
    p, z = found.value, 1.959964
    known = found.se > 0 and 0 < p < 1
    n = min(found.n, p * (1 - p) / found.se**2) if known else float(found.clusters)
    middle = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    return max(middle - half, 0.0), min(middle + half, 1.0)
