"""Was thinking sent back? What token counts say where no request was recorded.

What one call's prompt has more than the prompt before it is the reply between them, new responses and
user text. With ``P`` prompt and ``C`` completion tokens (cached and reasoning ones included) and ``R``
reasoning tokens of call t::

    delta_t = P_{t+1} - P_t - C_t - tokens(new responses and user text)

is about 0 where the reply went back whole, about ``-R_t`` where its thinking did not, and about the
negative sum of ``R`` where a user turn cleared it. Nobody logs ``tokens(new text)``; it is estimated
from bytes, with tokens per byte calibrated on the run's own usage.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import polars as pl

from analysis.outcomes import columns
from analysis.parts import part_by_part
from analysis.results import Result
from analysis.thinking_policy import calls_and_turns, policy
from analysis.token_models import ACCOUNT, CONFIDENT, PER_BYTE, POLICIES, fits, weight, with_losses
from loaders import Trajectories
from loaders.schema import Evidence, HistoryEdit


def token_growths(runs: Trajectories) -> pl.DataFrame:
    """By how much each prompt grew since the call before, and by what it may have: a row per call.

    Columns: ``run``, ``trajectory_id``, ``step`` (of the later call); ``growth`` (tokens), ``completion``
    and ``reasoning`` (of the earlier call; null where the log does not tell); ``said``, ``responses``,
    ``user`` (bytes in between, of the model's visible reply, tool responses and what a user or the
    system said), ``messages``; ``opens_turn`` (a user spoke); ``usable``; ``compaction`` (the prompt shrank
    by more than all earlier thinking, or the log says so). Not usable are growths over another model,
    agent or offer of tools, over media or unlogged text, a failed call, a compaction, a call without
    usage, or one of which neither counts nor the log tell whether it thought.
    """
    kind, size = pl.col("kind"), pl.col("text").str.len_bytes()
    given = kind.is_in(["user", "system"])
    between = (
        runs.events.filter(pl.col("step").is_not_null())
        .group_by("run", "step")
        .agg(
            size.filter(kind == "message").sum().alias("message_bytes"),
            (
                pl.col("arguments").str.len_bytes().fill_null(0)
                + pl.col("tool").str.len_bytes().fill_null(0)
            )
            .filter(kind == "tool_call")
            .sum()
            .alias("call_bytes"),
            size.filter(kind == "tool_result").sum().alias("responses"),
            size.filter(given).sum().alias("user"),
            (1 + (given | (kind == "tool_result")).sum()).cast(pl.Int64).alias("messages"),
            (kind == "user").any().alias("opens_turn"),
            (kind == "compaction").any().alias("compacted"),
            (
                (pl.col("media").list.len().fill_null(0) > 0)
                | ((kind == "tool_result") & pl.col("text").is_null())
            )
            .any()
            .alias("unmeasured"),
        )
    )
    later = {name: pl.col(name).shift(-1).over("run") for name in _SAME}
    same = pl.all_horizontal(later[name].eq_missing(pl.col(name)) for name in _SAME)
    counts = ("message_bytes", "call_bytes", "responses", "user")
    state = pl.col("thinking").cast(pl.String)
    contradicts = (pl.col("reasoning_tokens") == 0) & (pl.col("thinking_chars").fill_null(0) > 0)
    reasoning = (
        pl.when(contradicts)
        .then(None)
        .when(pl.col("reasoning_tokens").is_not_null())
        .then(pl.col("reasoning_tokens"))
        .when(state == "absent")
        .then(0)
    )
    prompt, completion = pl.col("input_tokens"), pl.col("output_tokens")
    growth = (prompt.shift(-1).over("run") - prompt).alias("growth")
    table = (
        runs.steps.sort("run", "step")
        .join(between, on=["run", "step"], how="left", maintain_order="left")
        .with_columns(
            pl.col(*counts).fill_null(0),
            pl.col("messages").fill_null(1),
            pl.col("opens_turn", "compacted", "unmeasured").fill_null(value=False),
            growth,
            reasoning.alias("reasoning"),
            same.alias("same"),
            pl.col("history_edit").shift(-1).over("run").cast(pl.String).alias("edit"),
        )
        .with_columns((pl.col("message_bytes") + pl.col("call_bytes")).alias("said"))
    )
    most = pl.col("reasoning").fill_null(
        (completion - 0.5 * PER_BYTE * pl.col("said")).clip(0)
    )  # of thinking in a reply, generously
    thought = most.fill_null(0).cum_sum().over("run")
    shrank = pl.col("growth") < -(thought + 50 + 0.02 * prompt)
    said_so = pl.col("compacted") | pl.col("edit").is_in(["compacted", "truncated"])
    is_usable = (
        pl.col("growth").is_not_null()
        & completion.is_not_null()
        & (prompt > 0)
        & (prompt.shift(-1).over("run") > 0)
        & pl.col("same")
        & ~pl.col("unmeasured")
        & pl.col("error").is_null()
        & (pl.col("reasoning").is_not_null() | pl.col("thinking").is_not_null())
        & (pl.col("reasoning").is_null() | (pl.col("reasoning") <= completion))
    )
    return (
        table.with_columns(
            (shrank | said_so).fill_null(value=False).alias("compaction"), is_usable.alias("usable")
        )
        .filter(pl.col("step") < pl.col("step").max().over("run"))
        .select(
            "run",
            "trajectory_id",
            (pl.col("step") + 1).alias("step"),
            "growth",
            completion.alias("completion"),
            "reasoning",
            *("said", "responses", "user", "messages", "opens_turn"),
            (pl.col("usable") & ~pl.col("compaction")).fill_null(value=False).alias("usable"),
            "compaction",
        )
        .collect()
    )


_SAME: Final = ("model", "agent", "toolset")


def token_account(runs: Trajectories) -> pl.DataFrame:
    """What each run's token counts say of the thinking that its requests held: a row per run.

    Columns: ``trajectory_id``; ``policy`` (``all``, ``none``, ``turn_boundary``, ``last``, ``unknown``,
    ``nothing_to_send``), with its ``confidence``, the posterior chance of the policies that predict the
    same growth (``fits``) against the others; ``phi``: the share of thinking tokens that prompts lack
    when they grow, ``sum(-delta) / sum(R)``, with ``phi_low``, ``phi_high`` (95 %); ``growths`` it rests
    on, ``compactions`` left out; ``reasoning_tokens`` in them, estimated as completion minus
    visible text where the log has none; the calibration: ``bytes_per_token_said`` (null where reasoning tokens are logged, so that it was not
    needed), ``bytes_per_token_responses``, ``bytes_per_token_user`` (UTF-8; null without such text),
    ``tokens_per_message``; ``noise``: residual spread over that expected of tokenisers, 15 % of a text;
    ``why_unknown``.

    Each policy is a linear model of the growth, with conjugate priors on tokens per byte (0.27 +- 0.08)
    and per message (5 +- 5); policies are compared by marginal likelihood with equal chances, and with
    half of the thinking dropped as a fifth model, under which a run is not told.
    A run is told only from ``CONFIDENT`` on, where the noise is below 3 and phi agrees.
    """
    table = with_losses(token_growths(runs))
    compactions = table.group_by("run").agg(
        pl.col("compaction").sum().cast(pl.Int64).alias("compactions")
    )
    rows = table.filter("usable").with_columns(weight().alias("w"))
    ids = runs.trajectories.select("run", "trajectory_id").collect()
    fitted = fits(rows)
    return (
        ids.join(fitted, on="run", how="left", maintain_order="left")
        .join(compactions, on="run", how="left", maintain_order="left")
        .with_columns(
            pl.col("growths", "compactions").fill_null(0),
            pl.col("policy").fill_null("unknown"),
            pl.when(pl.col("policy").is_null())
            .then(pl.lit("no two calls in a row with usage and measured text between"))
            .otherwise(pl.col("why_unknown"))
            .alias("why_unknown"),
        )
        .select(pl.col(name).cast(dtype) for name, dtype in ACCOUNT.items())
    )


# ---------------------------------------------------------------------- what follows for calls and groups


def with_token_evidence(runs: Trajectories) -> Trajectories:
    """The same runs; where no request is known but token counts tell the policy, calls are told by it.

    In ``steps`` of such runs ``thinking_sent`` is what the policy sends, ``evidence`` is ``tokens`` and
    ``history_edit`` ``thinking_dropped`` where that is less than ``thinking_available``. What is known
    from the wire or a request stays as it is; so does every call from a compaction on, and every run
    that ``token_account`` can't tell. Only these calls are held in memory, a store stays a store. Calls whose log has no place for thinking stay unknown, since
    blocks that nobody counted can't be missing.

    >>> import loaders
    >>> runs = loaders.load("sample_logs/frameworks/mini_swe_agent/**/*.json")
    >>> told = with_token_evidence(runs).steps.collect().filter(evidence="tokens")
    >>> (told["thinking_sent"] == told["thinking_available"]).all()
    True
    """
    told = part_by_part(runs, _told_by_tokens)
    if told.is_empty():
        return runs
    steps = runs.steps
    names = steps.collect_schema().names()
    is_told = pl.col("told_sent").is_not_null()
    is_missing = is_told & pl.col("told_missing") & pl.col("history_edit").is_null()
    return runs.with_steps(
        steps.join(told.lazy(), on=["run", "step"], how="left", maintain_order="left")
        .with_columns(
            pl.coalesce("told_sent", "thinking_sent").alias("thinking_sent"),
            pl.when(is_told)
            .then(pl.lit("tokens", Evidence))
            .otherwise("evidence")
            .alias("evidence"),
            pl.when(is_missing)
            .then(pl.lit("thinking_dropped", HistoryEdit))
            .otherwise("history_edit")
            .alias("history_edit"),
        )
        .select(names),
    )


_TOLD: Final[dict[str, pl.DataType]] = {
    "run": pl.Int64(),
    "step": pl.Int64(),
    "told_sent": pl.Int64(),
    "told_missing": pl.Boolean(),
}


def _told_by_tokens(runs: Trajectories) -> pl.DataFrame:
    """Calls of which token counts tell how many blocks they were sent, and whether some are missing."""
    open_runs = runs.steps.filter(is_open_to_tokens()).select("trajectory_id").unique().collect()
    if open_runs.is_empty():
        return pl.DataFrame(schema=_TOLD)
    doubtful = runs.filter(open_runs["trajectory_id"].to_list())
    told = token_account(doubtful).filter(pl.col("policy").is_in(POLICIES))
    if told.is_empty():
        return pl.DataFrame(schema=_TOLD)
    compacted = (
        token_growths(doubtful)
        .filter("compaction")
        .group_by("run")
        .agg(pl.col("step").min().alias("compacted_at"))
    )
    available = pl.col("thinking_available")
    sent = (
        pl.when(pl.col("by_tokens") == "all")
        .then(available)
        .when(pl.col("by_tokens") == "none")
        .then(0)
        .when(pl.col("by_tokens") == "turn_boundary")
        .then(available - pl.col("before_turn"))
        .when(pl.col("by_tokens") == "last")
        .then(pl.min_horizontal(pl.col("latest_blocks").fill_null(0), available))
    )
    before_compaction = (pl.col("step") < pl.col("compacted_at")).fill_null(value=True)
    return (
        calls_and_turns(doubtful)
        .join(
            told.lazy().select("trajectory_id", pl.col("policy").alias("by_tokens")),
            on="trajectory_id",
            maintain_order="left",
        )
        .join(compacted.lazy(), on="run", how="left", maintain_order="left")
        .filter(is_open_to_tokens() & before_compaction)
        .select(
            "run",
            "step",
            sent.cast(pl.Int64).alias("told_sent"),
            (sent < available).alias("told_missing"),
        )
        .drop_nulls("told_sent")
        .collect()
    )


def is_open_to_tokens() -> pl.Expr:
    """Calls that had earlier thinking, of which no request is known."""
    return (
        (pl.col("thinking_available") > 0)
        & pl.col("thinking_sent").is_null()
        & (pl.col("evidence").is_null() | (pl.col("evidence") == "unknown"))
    )


def token_accounting(
    runs: Trajectories, by: str | Sequence[str] = ("arm", "framework", "model")
) -> Result:
    """What token counts say of thinking sent back, beside what recorded requests say of the same runs.

    ``frame``, a row per group: the ``by`` columns; ``runs``; how many of them follow which policy by
    their token counts (``all``, ``none``, ``turn_boundary``, ``last``, ``nothing_to_send``,
    ``unknown``); ``phi`` (median share of thinking tokens that growing prompts lack) with ``phi_min``
    and ``phi_max`` over the runs that are told; ``checked`` (told runs of which requests are known) and
    ``agree`` (of these, those whose requests fit the policy); ``bytes_per_token_responses``, ``noise``
    (medians). ``runs(role="none")`` opens the runs of a policy. ``token_account`` has a row per run.

    >>> import loaders
    >>> found = token_accounting(loaders.load("sample_logs/study/*/planner-1/inspect/timeout.eval"), by="format").frame
    >>> found["agree"].to_list() == found["checked"].to_list()
    True
    """
    groups = columns(by, runs)
    labels = runs.trajectories.select("trajectory_id", *groups).collect()
    known = policy(runs).select("trajectory_id", pl.col("fits").alias("by_request"))
    table = (
        labels.join(token_account(runs), on="trajectory_id", maintain_order="left")
        .join(known, on="trajectory_id", how="left", maintain_order="left")
        .with_columns([] if groups else [pl.lit("all runs").alias("group")])
    )
    names = groups or ["group"]
    told = pl.col("policy").is_in(POLICIES)
    checked = told & (pl.col("by_request").list.len() > 0).fill_null(value=False)
    agrees = checked & (pl.col("fits").list.set_intersection("by_request").list.len() > 0)
    phi = pl.col("phi").filter(told)
    frame = (
        table.group_by(names)
        .agg(
            pl.len().cast(pl.Int64).alias("runs"),
            *((pl.col("policy") == name).sum().cast(pl.Int64).alias(name) for name in _NAMES),
            phi.median(),
            phi.min().alias("phi_min"),
            phi.max().alias("phi_max"),
            checked.sum().cast(pl.Int64).alias("checked"),
            agrees.sum().cast(pl.Int64).alias("agree"),
            pl.col("bytes_per_token_responses", "noise").median(),
        )
        .sort(names, nulls_last=True)
    )
    sums = frame.select(pl.col("runs", "unknown", "checked", "agree").sum()).row(0, named=True)
    return Result(
        kind="token_accounting",
        title="Thinking sent back, by token counts",
        frame=frame,
        method="Growth of each prompt against the reply before it and the new text, tokens per byte calibrated on "
        "the run; policies compared by marginal likelihood, told from a posterior chance of "
        f"{CONFIDENT:.0%} on.",
        keys=tuple(names),
        members=table.select(*names, "trajectory_id", pl.col("policy").alias("role")),
        source=runs,
        warnings=(
            "An inference from sums, not a sight of the request: it names the policy that explains a whole run, and "
            "a single odd call can hide in it. Recorded requests always come first.",
            "What a provider does not count it does not show: thinking that was sent and then cleared by the server "
            "looks dropped, and for the model it was.",
        ),
        headline=f"{sums['runs'] - sums['unknown']} of {sums['runs']} runs are told; requests are known of "
        f"{sums['checked']} of them and agree with {sums['agree']}.",
    )


_NAMES: Final = (*POLICIES, "nothing_to_send", "unknown")
