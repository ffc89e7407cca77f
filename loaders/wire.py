"""Join what was recorded on the wire to the logs that a framework wrote of the same runs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import polars as pl

from loaders.alignment import contexts_in_native_numbers
from loaders.discovery import PathLike
from loaders.errors import LoadError
from loaders.linking import tools_of_all
from loaders.pairing import paired_steps
from loaders.reading import load
from loaders.schema import PROBLEMS
from loaders.trajectories import Trajectories

_SEEN_ON_THE_WIRE = ("thinking_available", "thinking_sent", "evidence", "history_edit")
_WHERE_UNKNOWN = ("input_tokens", "output_tokens", "reasoning_tokens", "cached_tokens", "toolset")
_NOT_TOLD = ("absent", "not_logged")
_LISTED = 20


def attach_wire(
    runs: Trajectories, wire: Trajectories | PathLike | Iterable[PathLike]
) -> Trajectories:
    """The same runs with what a recording of their model calls knows and their own log does not.

    ``wire``: a HAR archive, a cassette, or another recording of the requests, or a set of runs loaded
    from one. Its calls are found by what they emitted: call ids, arguments, texts.

    In ``steps`` of a call that is found, ``thinking_available``, ``thinking_sent``, ``history_edit``
    and ``evidence`` (``wire``) are the recording's; ``context`` and ``thinking_context`` too, put in
    the numbers of these runs, where every event of theirs is in the recording. Where the log does not
    say, ``thinking`` and ``thinking_chars`` and tokens are filled. Events stay as they were logged.
    ``trajectories`` gets a column ``wire``: where the recording of the run stands. Calls of either
    side without a partner are warnings in ``problems``.

    Raises ``LoadError`` where no call is found in the recording at all.

    >>> import loaders
    >>> runs = loaders.load("sample_logs/frameworks/mini_swe_agent/**/*.json")
    >>> seen = attach_wire(runs, "sample_logs/frameworks/mini_swe_agent/wire.har")
    >>> seen.steps.select("evidence").unique().collect().rows()
    [('wire',)]
    """
    recorded = wire if isinstance(wire, Trajectories) else load(wire)
    pairs = paired_steps(runs, recorded)
    if not pairs:
        raise LoadError(
            "No call of these runs is in the recording: it emitted other call ids, arguments and texts "
            "everywhere. Is it a recording of the same runs?"
        )
    native_steps, wire_steps = runs.steps.collect(), recorded.steps.collect()
    partners = pl.DataFrame(
        [(*ours, *theirs) for ours, theirs in sorted(pairs.items())],
        schema=dict.fromkeys(("run", "step", "wire_run", "wire_step"), pl.Int64),
        orient="row",
    )
    contexts = contexts_in_native_numbers(runs, recorded, pairs)
    frames = {name: getattr(runs, name).collect() for name in ("trajectories", "events", "tools")}
    tools = recorded.tools.collect()
    return Trajectories.from_frames(
        {
            "trajectories": _with_wire(frames["trajectories"], recorded, partners),
            "steps": _joined(native_steps, wire_steps, partners, contexts),
            "events": frames["events"],
            "tools": tools_of_all([frames["tools"], tools]),
            "problems": pl.concat(
                [
                    runs.problems.collect(),
                    _unpaired(runs, recorded, native_steps, wire_steps, partners),
                ]
            ),
        }
    )


def _joined(
    native: pl.DataFrame, wire: pl.DataFrame, partners: pl.DataFrame, contexts: pl.DataFrame
) -> pl.DataFrame:
    thinking = ("thinking", "thinking_chars")
    known = wire.select(
        pl.col("run").alias("wire_run"),
        pl.col("step").alias("wire_step"),
        *(pl.col(n).name.prefix("wire_") for n in (*_SEEN_ON_THE_WIRE, *_WHERE_UNKNOWN, *thinking)),
    )
    joined = (
        native.join(partners, on=["run", "step"], how="left", maintain_order="left")
        .join(known, on=["wire_run", "wire_step"], how="left", maintain_order="left")
        .join(contexts, on=["run", "step"], how="left", maintain_order="left")
    )
    is_paired = pl.col("wire_step").is_not_null()
    untold = is_paired & (pl.col("thinking").is_null() | pl.col("thinking").is_in(_NOT_TOLD))
    return joined.with_columns(
        *(
            pl.when(is_paired).then(pl.col(f"wire_{n}")).otherwise(n).alias(n)
            for n in (*_SEEN_ON_THE_WIRE, "context", "thinking_context")
        ),
        *(pl.coalesce(n, f"wire_{n}").alias(n) for n in _WHERE_UNKNOWN),
        *(
            pl.when(untold & pl.col("wire_thinking").is_not_null())
            .then(pl.col(f"wire_{n}"))
            .otherwise(n)
            .alias(n)
            for n in thinking
        ),
    ).select(native.columns)


def _with_wire(table: pl.DataFrame, recorded: Trajectories, partners: pl.DataFrame) -> pl.DataFrame:
    place = pl.concat_str("source", pl.col("source_pos").fill_null(""), separator="#")
    places = recorded.trajectories.select(wire_run="run", wire=place).collect()
    by_run = (
        partners.select("run", "wire_run")
        .unique(maintain_order=True)
        .join(places, on="wire_run", maintain_order="left")
        .group_by("run", maintain_order=True)
        .agg(pl.col("wire").str.join(", "))
    )
    return table.drop("wire", strict=False).join(
        by_run, on="run", how="left", maintain_order="left"
    )


def _unpaired(
    runs: Trajectories,
    recorded: Trajectories,
    native: pl.DataFrame,
    wire: pl.DataFrame,
    partners: pl.DataFrame,
) -> pl.DataFrame:
    theirs = partners.select(run="wire_run", step="wire_step")
    sides = (
        (runs, native, partners, "are not in the recording; what they were sent stays unknown"),
        (recorded, wire, theirs, "are in the recording and in none of the runs"),
    )
    rows: list[tuple[Any, ...]] = []
    for side, steps, paired, what in sides:
        left = steps.join(paired, on=["run", "step"], how="anti").group_by("run").len("count")
        named = left.join(side.trajectories.collect(), on="run").sort("run")
        for row in named.head(_LISTED).iter_rows(named=True):
            reason = f"{row['count']} model calls {what}"
            where = (row["source"], row["source_pos"], "warning", reason, row["format"])
            rows.append((*where, row["trajectory_id"] if side is runs else None))
        if named.height > _LISTED:
            reason = f"model calls of {named.height - _LISTED} more runs {what}"
            rows.append((named["source"][_LISTED], None, "warning", reason, None, None))
    return pl.DataFrame(rows, schema=PROBLEMS, orient="row")
