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

import numpy as np
import polars as pl
from numpy.typing import NDArray

from analysis.outcomes import columns
from analysis.results import Result
from analysis.thinking_policy import calls_and_turns, policy
from loaders import Trajectories
from loaders.schema import Evidence, HistoryEdit

Floats = NDArray[np.float64]

POLICIES: Final = ("all", "none", "turn_boundary", "last")
"""Simplest first: of policies that predict the same, the first is named."""
_MODELS: Final = (*POLICIES, "half")
"""Half of the thinking dropped is no policy; it competes so that a part is not taken for all or none."""

CONFIDENT: Final = 0.99
"""Smallest posterior chance of a policy at which a run is told."""
_MISFIT: Final = 3.0
_OFF: Final = 0.3
_PER_BYTE, _PER_BYTE_SD = 0.27, 0.08
_PER_MESSAGE, _PER_MESSAGE_SD = 5.0, 5.0
_FIXED_NOISE, _TEXT_NOISE = 4.0, 0.15
_SHAPE, _SCALE = 2.0, 2.0
_TERMS: Final = ("said", "responses", "user", "messages")

ACCOUNT: Final = {
    "trajectory_id": pl.String,
    "policy": pl.String,
    "confidence": pl.Float64,
    "phi": pl.Float64,
    "phi_low": pl.Float64,
    "phi_high": pl.Float64,
    "growths": pl.Int64,
    "compactions": pl.Int64,
    "reasoning_tokens": pl.Float64,
    "bytes_per_token_said": pl.Float64,
    "bytes_per_token_responses": pl.Float64,
    "bytes_per_token_user": pl.Float64,
    "tokens_per_message": pl.Float64,
    "noise": pl.Float64,
    "fits": pl.List(pl.String),
    "why_unknown": pl.String,
}


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
        (completion - 0.5 * _PER_BYTE * pl.col("said")).clip(0)
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
    table = _with_losses(token_growths(runs))
    compactions = table.group_by("run").agg(
        pl.col("compaction").sum().cast(pl.Int64).alias("compactions")
    )
    rows = table.filter("usable").with_columns(_weight().alias("w"))
    ids = runs.trajectories.select("run", "trajectory_id").collect()
    fitted = _fits(rows)
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


# ---------------------------------------------------------------------- what each policy loses


def _with_losses(table: pl.DataFrame) -> pl.DataFrame:
    """For each policy the thinking tokens that a growth lacks, as ``known - per_byte * bytes``.

    Where the log counts no reasoning tokens, thinking is the completion less what it says in text.
    """
    is_open = pl.col("reasoning").is_null()
    known = pl.when(is_open).then(pl.col("completion")).otherwise(pl.col("reasoning")).fill_null(0)
    bytes_ = pl.when(is_open).then(pl.col("said")).otherwise(0)
    thinks = is_open | (pl.col("reasoning") > 0)
    turn = pl.col("opens_turn").cast(pl.Int64).shift(1).fill_null(0).cum_sum().over("run")
    table = table.with_columns(
        known.alias("r"), bytes_.alias("v"), thinks.alias("thinks"), turn.alias("turn")
    )

    def lost(name: str, column: str) -> pl.Expr:
        value = pl.col(column)
        before = pl.when("thinks").then(value).forward_fill().shift(1).over("run")
        return {
            "all": pl.lit(0),
            "none": value,
            "half": value / 2,
            "turn_boundary": pl.when("opens_turn").then(value.cum_sum().over("run", "turn")),
            "last": pl.when("thinks").then(before),
        }[name].fill_null(0).cast(pl.Float64)  # fmt: skip

    return table.with_columns(
        lost(name, column).alias(f"{column}_{name}") for name in _MODELS for column in ("r", "v")
    )


def _weight() -> pl.Expr:
    """One over the variance that a tokeniser's unevenness is expected to make."""
    texts = (pl.col("responses"), pl.col("user"), pl.col("v"))
    spread = [(_TEXT_NOISE * _PER_BYTE * text.cast(pl.Float64)) ** 2 for text in texts]
    return 1 / (_FIXED_NOISE**2 + pl.sum_horizontal(spread))


# ---------------------------------------------------------------------- fits, all runs at once


def _fits(rows: pl.DataFrame) -> pl.DataFrame:
    """Policy, chance, phi and calibration of each run."""
    w = pl.col("w")
    sums: dict[str, pl.Expr] = {"growths": pl.len().cast(pl.Float64)}
    for name in _MODELS:
        x = [pl.col(f"v_{name}"), pl.col("responses"), pl.col("user"), pl.col("messages")]
        y = pl.col("growth") - pl.col("completion") + pl.col(f"r_{name}")
        x, y = [value.cast(pl.Float64) for value in x], y.cast(pl.Float64)
        for i, left in enumerate(x):
            sums[f"{name}_y{i}"] = (w * left * y).sum()
            sums |= {f"{name}_{i}{j}": (w * left * x[j]).sum() for j in range(i, len(x))}
        sums[f"{name}_yy"] = (w * y * y).sum()
    for column in ("responses", "user", "v"):
        sums[f"all_{column}"] = pl.col(column).sum().cast(pl.Float64)
    table = rows.group_by("run", maintain_order=True).agg(
        expression.alias(name) for name, expression in sums.items()
    )
    if table.is_empty():
        return pl.DataFrame(
            schema={"run": pl.Int64, **{n: t for n, t in ACCOUNT.items() if n not in _ELSEWHERE}}
        )
    evidence, means, noise = zip(*(_posterior(table, name) for name in _MODELS), strict=True)
    log_evidence = np.stack(evidence, axis=1)
    chance = np.exp(log_evidence - log_evidence.max(axis=1, keepdims=True))
    chance /= chance.sum(axis=1, keepdims=True)
    best = chance.argmax(axis=1)
    runs_index = np.arange(len(best))
    beta = np.stack(means, axis=1)[runs_index, best]
    spread = np.sqrt(np.stack(noise, axis=1)[runs_index, best])
    alike = _alike(rows, table["run"], best)
    confidence = np.minimum((chance * alike).sum(axis=1), 1.0)
    # argmax takes the first of equals only up to rounding: name the simplest of those alike.
    named = alike.argmax(axis=1)
    phi = _phi(rows, table["run"], beta, spread)
    per_byte = np.maximum(beta[:, :3], 1e-3)
    has = [table[f"all_{name}"].to_numpy() > 0 for name in ("v", "responses", "user")]
    told = (
        pl.DataFrame(
            {
                "run": table["run"],
                "named": np.array(_MODELS)[named],
                "confidence": confidence,
                "growths": table["growths"].cast(pl.Int64),
                "noise": spread,
                "tokens_per_message": beta[:, 3],
                "fits": [[p for p, same in zip(_MODELS, row, strict=True) if same] for row in alike.tolist()],
            }
        )
        .with_columns(
            pl.Series(f"bytes_per_token_{name}", np.where(has[i], 1 / per_byte[:, i], np.nan)).fill_nan(None)
            for i, name in enumerate(_TERMS[:3])
        )
        .join(phi, on="run", how="left", maintain_order="left")
    )  # fmt: skip
    reason = _why_unknown()
    return told.with_columns(reason.alias("why_unknown")).with_columns(
        pl.when(pl.col("reasoning_tokens") <= 0)
        .then(pl.lit("nothing_to_send"))
        .when(pl.col("why_unknown").is_not_null())
        .then(pl.lit("unknown"))
        .otherwise("named")
        .alias("policy"),
        pl.when(pl.col("reasoning_tokens") > 0).then("why_unknown"),
    )


_ELSEWHERE: Final = ("trajectory_id", "compactions")


def _posterior(table: pl.DataFrame, name: str) -> tuple[Floats, Floats, Floats]:
    """Log marginal likelihood, mean of the coefficients and noise variance of one policy's model."""
    size, terms = table.height, len(_TERMS)
    xx = np.zeros((size, terms, terms))
    xy = np.zeros((size, terms))
    for i in range(terms):
        xy[:, i] = table[f"{name}_y{i}"].to_numpy()
        for j in range(i, terms):
            xx[:, i, j] = xx[:, j, i] = table[f"{name}_{i}{j}"].to_numpy()
    yy, n = table[f"{name}_yy"].to_numpy(), table["growths"].to_numpy()
    mean = np.array([_PER_BYTE] * 3 + [_PER_MESSAGE])
    precision = np.diag(1 / np.array([_PER_BYTE_SD] * 3 + [_PER_MESSAGE_SD]) ** 2)
    after = xx + precision
    solved = np.linalg.solve(after, (xy + precision @ mean)[..., None])
    coefficients = np.asarray(solved[..., 0], dtype=np.float64)
    left = (
        yy + mean @ precision @ mean - np.einsum("ri,rij,rj->r", coefficients, after, coefficients)
    )
    shape, scale = _SHAPE + n / 2, _SCALE + np.maximum(left, 0) / 2
    spread = np.asarray(np.linalg.slogdet(after)[1], dtype=np.float64)
    log_evidence = -0.5 * spread - shape * np.log(scale)
    return log_evidence, coefficients, scale / (shape - 1)


def _alike(rows: pl.DataFrame, order: pl.Series, best: NDArray[np.intp]) -> NDArray[np.bool_]:
    """For each run the policies that predict the growths of its best one."""
    same: dict[str, pl.Expr] = {}
    for a in _MODELS:
        for b in _MODELS:
            equal = [pl.col(f"{c}_{a}") == pl.col(f"{c}_{b}") for c in ("r", "v")]
            same[f"{a}={b}"] = pl.all_horizontal(equal).all()
    table = rows.group_by("run", maintain_order=True).agg(
        expression.alias(name) for name, expression in same.items()
    )
    table = pl.DataFrame({"run": order}).join(table, on="run", how="left", maintain_order="left")
    cube = np.stack(
        [np.stack([table[f"{a}={b}"].to_numpy() for b in _MODELS], axis=1) for a in _MODELS],
        axis=1,
    )
    return cube[np.arange(len(best)), best]  # fmt: skip


def _phi(rows: pl.DataFrame, order: pl.Series, beta: Floats, spread: Floats) -> pl.DataFrame:
    """Share of thinking tokens that growths lack, with the calibration of the best policy."""
    calibrated = pl.DataFrame(
        {"run": order, "spread": spread, **{f"b{i}": beta[:, i] for i in range(len(_TERMS))}}
    )
    text = pl.sum_horizontal(
        pl.col(f"b{i}") * pl.col(name) for i, name in enumerate(_TERMS) if i > 0
    )
    thinking = (pl.col("r") - pl.col("b0") * pl.col("v")).clip(0)
    delta = pl.col("growth") - pl.col("completion") - text
    w, r = pl.col("w"), pl.col("thinking_tokens")
    half = 1.96 * pl.col("spread") / pl.col("wrr").sqrt()
    return (
        rows.join(calibrated, on="run", maintain_order="left")
        .with_columns(thinking.alias("thinking_tokens"), delta.alias("delta"))
        .group_by("run", maintain_order=True)
        .agg(
            r.sum().alias("reasoning_tokens"),
            (w * r * r).sum().alias("wrr"),
            (-(w * r * pl.col("delta")).sum() / (w * r * r).sum()).alias("phi"),
            pl.col("spread").first(),
        )
        .with_columns(pl.col("phi").fill_nan(None))
        .select(
            "run",
            "reasoning_tokens",
            "phi",
            (pl.col("phi") - half).alias("phi_low"),
            (pl.col("phi") + half).alias("phi_high"),
        )
    )


def _why_unknown() -> pl.Expr:
    expected = pl.col("named").replace_strict(
        {"all": 0.0, "none": 1.0}, default=None, return_dtype=pl.Float64
    )
    return (
        pl.when(pl.col("confidence") < CONFIDENT)
        .then(pl.lit("several policies would explain these counts"))
        .when(pl.col("noise") > _MISFIT)
        .then(pl.lit("no policy explains these counts"))
        .when((pl.col("named") == "half") | ((pl.col("phi") - expected).abs() > _OFF))
        .then(pl.lit("only a part of the thinking seems to be missing"))
        .when(pl.col("phi_high") - pl.col("phi_low") > 1)
        .then(pl.lit("too little thinking to be seen in the counts"))
    )


# ---------------------------------------------------------------------- what follows for calls and groups


def with_token_evidence(runs: Trajectories) -> Trajectories:
    """The same runs; where no request is known but token counts tell the policy, calls are told by it.

    In ``steps`` of such runs ``thinking_sent`` is what the policy sends, ``evidence`` is ``tokens`` and
    ``history_edit`` ``thinking_dropped`` where that is less than ``thinking_available``. What is known
    from the wire or a request stays as it is; so does every call from a compaction on, and every run
    that ``token_account`` can't tell. Calls whose log has no place for thinking stay unknown, since
    blocks that nobody counted can't be missing.

    >>> import loaders
    >>> runs = loaders.load("sample_logs/frameworks/mini_swe_agent/**/*.json")
    >>> told = with_token_evidence(runs).steps.collect().filter(evidence="tokens")
    >>> (told["thinking_sent"] == told["thinking_available"]).all()
    True
    """
    needs = (
        runs.steps.filter(is_open_to_tokens())
        .select("trajectory_id")
        .unique()
        .collect()["trajectory_id"]
        .to_list()
    )
    if not needs:
        return runs
    doubtful = runs.filter(needs)
    told = token_account(doubtful).filter(pl.col("policy").is_in(POLICIES))
    if told.is_empty():
        return runs
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
    is_told = (
        is_open_to_tokens()
        & pl.col("by_tokens").is_not_null()
        & (pl.col("step") < pl.col("compacted_at")).fill_null(value=True)
    )
    is_missing = is_told & (sent < available) & pl.col("history_edit").is_null()
    names = runs.steps.collect_schema().names()
    steps = (
        calls_and_turns(runs)
        .join(
            told.lazy().select("trajectory_id", pl.col("policy").alias("by_tokens")),
            on="trajectory_id",
            how="left",
            maintain_order="left",
        )
        .join(compacted.lazy(), on="run", how="left", maintain_order="left")
        .with_columns(
            pl.when(is_told)
            .then(sent.cast(pl.Int64))
            .otherwise("thinking_sent")
            .alias("thinking_sent"),
            pl.when(is_told)
            .then(pl.lit("tokens", Evidence))
            .otherwise("evidence")
            .alias("evidence"),
            pl.when(is_missing)
            .then(pl.lit("thinking_dropped", HistoryEdit))
            .otherwise("history_edit")
            .alias("history_edit"),
        )
        .select(names)
    )
    return Trajectories(
        {
            "trajectories": runs.trajectories,
            "steps": steps,
            "events": runs.events,
            "tools": runs.tools,
            "problems": runs.problems,
        }
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
    >>> found = token_accounting(loaders.load("sample_logs/study"), by="format").frame
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
