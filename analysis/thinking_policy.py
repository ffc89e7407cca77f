"""Does the framework send thinking back, and by which rule: as far as recorded requests tell."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from analysis.neighbours import before, latest, with_room
from analysis.outcomes import columns
from analysis.parts import part_by_part
from analysis.results import Result
from loaders import Trajectories

POLICIES = ("all", "turn_boundary", "last", "none")
_OTHERS = ("mixed", "unknown", "nothing_to_send")


def sent_back(runs: Trajectories, by: str | Sequence[str] = ()) -> Result:
    """Does the framework send thinking back? A row per framework, its version and the ``by`` columns.

    ``frame`` columns: ``framework``, ``framework_version``, ``by`` columns; ``policy`` of the runs
    whose requests are known (``mixed`` where they differ); ``runs``; then sums of what ``policy``
    says of each run, with ``sent_share`` (blocks sent over blocks due); how many runs have which
    policy (``all``, ``turn_boundary``, ``last``, ``none``, ``mixed``, ``unknown``,
    ``nothing_to_send``); ``evidence`` and ``in_log`` (lists).

    >>> import loaders
    >>> runs = loaders.load("sample_logs/frameworks/mini_swe_agent/**/*.json")
    >>> seen = loaders.attach_wire(runs, "sample_logs/frameworks/mini_swe_agent/wire.har")
    >>> sent_back(seen).frame.select("framework", "policy", "runs", "sent_share").rows()
    [('mini-swe-agent', 'all', 6, 1.0)]
    """
    asked = [name for name in columns(by, runs) if name not in _FRAMEWORK]
    groups = [*_FRAMEWORK, *asked]
    labels = runs.trajectories.select("trajectory_id", *groups).collect()
    table = labels.join(policy(runs), on="trajectory_id", how="left", maintain_order="left")
    told = pl.col("policy").filter(~pl.col("policy").is_in(["unknown", "nothing_to_send"]))
    frame = (
        table.group_by(groups)
        .agg(
            pl.when(told.n_unique() == 1)
            .then(told.first())
            .when(told.n_unique() > 1)
            .then(pl.lit("mixed"))
            .when((pl.col("policy") == "unknown").any())
            .then(pl.lit("unknown"))
            .otherwise(pl.lit("nothing_to_send"))
            .alias("policy"),
            pl.len().cast(pl.Int64).alias("runs"),
            *(pl.col(name).sum() for name in _SUMMED),
            (pl.col("blocks_sent").sum() / pl.col("blocks_due").sum())
            .fill_nan(None)
            .alias("sent_share"),
            *(
                (pl.col("policy") == name).sum().cast(pl.Int64).alias(name)
                for name in (*POLICIES, *_OTHERS)
            ),
            pl.col("evidence").explode().drop_nulls().unique().sort().alias("evidence"),
            pl.col("in_log").unique().sort().alias("in_log"),
        )
        .sort(groups, nulls_last=True)
        .select(*groups, "policy", "runs", *_BLOCKS, *POLICIES, *_OTHERS, *_LOGGED)
    )
    unknown = frame["calls_unknown"].sum()
    reason = "calls that had or may have had earlier thinking have no known request: what they were sent is unknown."
    return Result(
        kind="sent_back",
        title="Does the framework send thinking back?",
        frame=frame,
        method="A block counts as sent only where its text, signature or ciphertext stands in the recorded "
        "request of the call. A run's policy is the simplest that fits all its calls with a known request.",
        keys=tuple(groups),
        members=table.select(*groups, "trajectory_id", pl.col("policy").alias("role")),
        source=runs,
        warnings=(f"{unknown:,} {reason}",) if unknown else (),
    )


_FRAMEWORK = ("framework", "framework_version")
_BLOCKS = ("calls", "calls_due", "calls_unknown", "blocks_due", "blocks_sent", "sent_share")
_LOGGED = ("calls_across_turns", "evidence", "in_log", "calls_thinking", "calls_logged")
_SUMMED = tuple(
    name for name in (*_BLOCKS, *_LOGGED) if name not in ("sent_share", "evidence", "in_log")
)


def policy(runs: Trajectories) -> pl.DataFrame:
    """By which rule each run's requests hold earlier thinking: a row per run.

    Columns: ``trajectory_id``; ``policy``: ``all``, ``none``, ``turn_boundary`` (what was thought
    since the latest user turn), ``last`` (what the latest call that thought did think), ``mixed``
    (none of these fits), ``nothing_to_send`` (no call had earlier thinking), ``unknown`` (no call
    that had or may have had earlier thinking has a known request); ``fits``: every policy that
    fits what is known, since few calls or a single user turn can't tell them all apart: ``policy``
    is the first of all, none, turn_boundary, last among them; ``calls``; ``calls_due`` (calls that
    had earlier thinking and have a known request), ``calls_unknown`` (calls that had or may have had
    some, without one); ``blocks_due``, ``blocks_sent`` (call by call, over ``calls_due``);
    ``calls_across_turns`` (of these, calls with thinking from before the latest user turn: without
    any, ``turn_boundary`` looks like ``all``); ``evidence`` (list); ``in_log``, what the log itself
    holds of thinking: ``text``, ``summary``, ``hidden``, ``not in the log``, ``no thinking``;
    ``calls_thinking``, ``calls_logged``: calls that thought, and those whose thinking is an event.
    """
    per_run = part_by_part(runs, _fitting, times=4)
    named = (
        pl.when(pl.col("calls").is_null())
        .then(pl.lit("unknown"))
        .when(pl.col("calls_due") > 0)
        .then(pl.col("fits").list.first().fill_null("mixed"))
        .when(pl.col("calls_unknown") > 0)
        .then(pl.lit("unknown"))
        .otherwise(pl.lit("nothing_to_send"))
    )
    counts = [name for name in _SUMMED if name in per_run.columns]
    return (
        runs.trajectories.select("run", "trajectory_id")
        .collect()
        .join(per_run, on="run", how="left", maintain_order="left")
        .join(_in_log(runs), on="run", how="left", maintain_order="left")
        .with_columns(
            named.alias("policy"),
            pl.col("in_log").fill_null(
                pl.when(pl.col("is_absent"))
                .then(pl.lit("no thinking"))
                .otherwise(pl.lit("not in the log"))
            ),
            pl.col(counts).fill_null(0),
        )
        .select("trajectory_id", "policy", "fits", *counts, "evidence", "in_log")
    )


def _fitting(runs: Trajectories) -> pl.DataFrame:
    """A row per run that makes calls: the policies that fit what is known of them, and their counts."""
    due = ((pl.col("available") > 0) & pl.col("thinking_sent").is_not_null()).fill_null(value=False)
    fits = _call_fits()
    thought = pl.col("n_thinking").is_not_null() | pl.col("thinking").is_in(_THOUGHT)
    # Masked before they are grouped: a filter inside each run takes four times as long.
    masked = {
        "due": due,
        "unknown": _is_unknown(),
        "blocks_due": pl.when(due).then("available"),
        "blocks_sent": pl.when(due).then("thinking_sent"),
        "across": due & (pl.col("before_turn") > 0),
        "thought": thought,
        "logged": pl.col("n_thinking").is_not_null(),
        "absent": pl.col("thinking") == "absent",
        **{f"fits {name}": fit | ~due for name, fit in fits.items()},
    }
    counted = {
        "calls_due": "due", "calls_unknown": "unknown", "calls_across_turns": "across",
        "calls_thinking": "thought", "calls_logged": "logged",
    }  # fmt: skip
    return (
        calls_and_turns(runs)
        .select("run", "evidence", **masked)
        .group_by("run")
        .agg(
            pl.concat_list(
                pl.when(pl.col(f"fits {name}").all() & pl.col("due").any()).then(pl.lit(name))
                for name in ("all", "none", *POLICIES[1:3])
            ).alias("fits"),
            pl.len().cast(pl.Int64).alias("calls"),
            *(pl.col(mask).sum().cast(pl.Int64).alias(name) for name, mask in counted.items()),
            pl.col("blocks_due", "blocks_sent").sum(),
            pl.col("evidence").filter("due").unique().cast(pl.String),
            pl.col("absent").all().alias("is_absent"),
        )
        .collect()
        .with_columns(pl.col("fits").list.drop_nulls())
    )


_THOUGHT = ("text", "summary", "hidden", "redacted", "tagged_in_text")


def _is_unknown() -> pl.Expr:
    """Calls of which it is not known what they were sent of thinking that there was or may have been.

    Before the first call of a run there was none.
    """
    had = pl.col("available").fill_null(pl.col("step")) > 0
    return had & pl.col("thinking_sent").is_null()


def _call_fits() -> dict[str, pl.Expr]:
    """For each policy whether a call was sent what the policy would send."""
    sent, available = pl.col("thinking_sent"), pl.col("available")
    ranges = pl.col("thinking_context")
    is_latest = (ranges.list.len() == 1) & (
        ranges.list.get(0, null_on_oob=True).struct.field("stop") == pl.col("latest_thinking") + 1
    )
    # Where the log holds no thinking of its own, ranges can't name it: the numbers must do.
    in_order = is_latest | (sent == 0) | ranges.is_null() | pl.col("latest_thinking").is_null()
    return {
        "all": sent == available,
        "none": sent == 0,
        "turn_boundary": (sent == available - pl.col("before_turn")) & in_order,
        "last": ((sent == pl.col("latest_blocks")) & in_order).fill_null(value=False),
    }


def calls_and_turns(runs: Trajectories) -> pl.LazyFrame:
    """Steps with what was ``available``, of which ``before_turn`` and by the latest call that thought."""
    numbered = runs.trajectories.select("run", base=with_room(pl.int_range(pl.len())))
    at = (pl.col("base") + pl.col("step")).alias("at")
    events = runs.events.filter(pl.col("step").is_not_null())
    thinking = (
        events.filter(pl.col("kind") == "thinking")
        .select("run", "step", "seq")
        .join(numbered, on="run")
        .group_by(at)
        .agg(pl.len().alias("n_thinking"), pl.col("seq").max().alias("own_thinking"))
    )
    turns = (  # what a user says after a call begins the turn of the next one
        events.filter(pl.col("kind") == "user")
        .select("run", pl.col("step") + 1)
        .join(numbered, on="run")
        .select(at, pl.lit(value=True).alias("begins_turn"))
        .unique()
    )
    available = pl.col("thinking_available")
    added = available - before(available).fill_null(pl.when(pl.col("step") == 0).then(0))
    return (
        runs.steps.sort("run", "step")
        .join(numbered, on="run", how="left", maintain_order="left")
        .with_columns(at)
        .join(thinking, on="at", how="left", maintain_order="left")
        .join(turns, on="at", how="left", maintain_order="left")
        .drop("base", "at")
        .with_columns(
            available.alias("available"),
            latest(pl.when("begins_turn").then(available)).fill_null(0).alias("before_turn"),
            latest(pl.when(added > 0).then(added)).alias("latest_blocks"),
            latest(before(pl.col("own_thinking"))).alias("latest_thinking"),
        )
    )


def _in_log(runs: Trajectories) -> pl.DataFrame:
    """What a log holds of thinking at best: its text, a summary, or only that there was some."""
    state = pl.col("thinking_state")
    best = (
        pl.when("shown").then(pl.lit("text"))
        .when("summed_up").then(pl.lit("summary"))
        .otherwise(pl.lit("hidden"))
    )  # fmt: skip
    return (
        runs.clustered("events")
        .filter(pl.col("kind") == "thinking")
        .select(
            "run",
            state.is_in(["text", "tagged_in_text"]).alias("shown"),
            (state == "summary").alias("summed_up"),
        )
        .group_by("run")
        .agg(pl.col("shown", "summed_up").any())
        .select("run", best.alias("in_log"))
        .collect(engine="streaming")
    )
