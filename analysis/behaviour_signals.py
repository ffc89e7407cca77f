"""Signals of behaviour of each tool call and each model call; ``analysis.behaviour`` has their rates.

What a row of ``signals`` says is known once the step's tool responses are back: as an exposure it is
met by the next step. Polling is the known false positive of everything that looks stuck: a tool that
is asked again until something is ready repeats itself by design. Name such tools in ``ignore=``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from analysis.behaviour_rules import TARGET, entities
from analysis.parts import part_by_part
from analysis.perturbations import detect
from loaders import Trajectories
from loaders.errors import DerailError

STUCK_SAME: Final = 4
STUCK_ERROR: Final = 3
MONOLOGUE: Final = 3
ALTERNATION: Final = 6

ERRORS: Final = (
    "exec_error", "exception", "timeout", "rate_limit", "http_error", "auth", "not_found", "harness_format",
)  # fmt: skip
"""Codes of ``perturbations.detect`` that make a response an explicit error."""

_THOUGHT = ("text", "summary", "hidden", "redacted", "tagged_in_text")


def calls(runs: Trajectories, window: int = 10, ignore: Sequence[str] = ()) -> pl.DataFrame:
    """Tool calls with what they repeat, a row each, without the tools in ``ignore``.

    Columns: ``run``, ``seq``, ``step``, ``turn`` (number of user messages before), ``tool``;
    ``action`` (hash of the tool and its normalised arguments: white space between JSON tokens and
    the order of keys don't count), ``observation`` (hash of the response; null without one, and for
    one of images alone), ``error`` (the response is an explicit error; null without one);
    ``repeat`` (the action is among the last ``window`` calls of the run, whoever spoke in between);
    ``stuck_same`` (at least the 4th time in a row the same action got the same observation),
    ``stuck_error`` (at least the 3rd time in a row the same action got an error), ``alternation``
    (the last 6 calls alternate between two pairs of action and observation); these three within a user
    turn. Null where the log has no arguments or no response to judge by.

    >>> import loaders
    >>> calls(loaders.load("sample_logs/study/*/planner-1/inspect/timeout.eval"))["repeat"].null_count()
    0
    """
    return calls_of(runs, explicit_errors(runs), window, ignore)


def calls_of(
    runs: Trajectories, wrong: pl.DataFrame, window: int, ignore: Sequence[str]
) -> pl.DataFrame:
    """What ``calls`` returns, given the ``explicit_errors`` of the runs."""
    if window < 1:
        raise DerailError(f"window is a number of calls to look back, at least 1, not {window}")
    return part_by_part(runs, lambda part, wrong: _calls(part, wrong, window, ignore), wrong)


def _calls(
    runs: Trajectories, wrong: pl.DataFrame, window: int, ignore: Sequence[str]
) -> pl.DataFrame:
    spoken = (pl.col("kind") == "user").cum_sum().over("run").alias("turn")
    table = (
        runs.events.filter(pl.col("kind").is_in(["tool_call", "user"]))
        .select("run", "seq", "step", "kind", "tool", "arguments", spoken)
        .filter((pl.col("kind") == "tool_call") & ~pl.col("tool").is_in(list(ignore)).fill_null(value=False))
        .with_columns(normal_action().alias("action"), pl.int_range(pl.len()).over("run").alias("position"))
        .collect()
        .join(_answers(runs, wrong), on=["run", "seq"], how="left", maintain_order="left")
    )  # fmt: skip
    since = pl.col("position") - pl.col("position").shift(1).over("run", "action")
    pair = pl.struct("action", "observation").hash()
    known = pl.col("action").is_not_null() & pl.col("observation").is_not_null()
    table = table.with_columns(
        pl.when(pl.col("action").is_not_null())
        .then((since <= window).fill_null(value=False))
        .alias("repeat"),
        pl.when(known).then(pair).alias("pair"),
        pl.when(pl.col("error")).then("action").alias("failing"),
    )
    return table.with_columns(
        pl.when(known).then(_times_in_a_row("pair") >= STUCK_SAME).alias("stuck_same"),
        pl.when(pl.col("action").is_not_null() & pl.col("error").is_not_null())
        .then(_times_in_a_row("failing") >= STUCK_ERROR)
        .alias("stuck_error"),
        pl.when(known).then(_alternates()).alias("alternation"),
    ).select(
        *("run", "seq", "step", "turn", "tool", "action", "observation", "error", "repeat"),
        *("stuck_same", "stuck_error", "alternation", "arguments"),
    )


def signals(runs: Trajectories, window: int = 10, ignore: Sequence[str] = ()) -> pl.DataFrame:
    """What each model call did and got, as signals of behaviour: a row per run and step.

    Columns: ``run``, ``trajectory_id``, ``step``, ``calls`` (of tools);
    ``repeat``, ``stuck_same``, ``stuck_error``, ``alternation``: one of the step's tool calls is so,
    see ``calls``; null without tool calls;
    ``monologue``: at least the 3rd model call in a row without a tool call since a user spoke; null
    where the run neither has nor is known to have been offered tools;
    ``stagnation``: steps since the last that brought something new: a response, file or web address
    not met before in the run, or a user's message (the first step counts as new; steps with nothing
    but ignored tools don't count);
    ``entropy``: of the tools in the last ``window`` calls, over log(tools used so far); null before a
    second tool is used;
    ``cascade``: how many steps in a row, up to this one, had an explicit error among their responses;
    ``density``: reasoning tokens over output tokens, or, where the log has none, characters of
    thinking over all that the model wrote; null where thinking is hidden or not logged;
    ``interleaved``: the step follows a tool response and thinks before it acts; null where it follows
    none or the log can't show thinking.

    ``ignore``: tools that poll, left out of repeats, stuck patterns, alternation and stagnation. What
    makes a response an explicit error is ``ERRORS``: among them are a search that found nothing and
    exited with 1.

    >>> import loaders
    >>> table = signals(loaders.load("sample_logs/study/*/planner-1/inspect/timeout.eval"))
    >>> table.height > 300, table["cascade"].max() > 0
    (True, True)
    """
    return signals_of(runs, explicit_errors(runs), window, ignore)


def signals_of(
    runs: Trajectories, wrong: pl.DataFrame, window: int, ignore: Sequence[str]
) -> pl.DataFrame:
    """What ``signals`` returns, given the ``explicit_errors`` of the runs."""
    return part_by_part(runs, lambda part, wrong: _signals(part, wrong, window, ignore), wrong)


def _signals(
    runs: Trajectories, wrong: pl.DataFrame, window: int, ignore: Sequence[str]
) -> pl.DataFrame:
    told = calls_of(runs, wrong, window, ignore)
    wrote = _writing(runs)
    table = (
        runs.steps.select(
            *("run", "trajectory_id", "step", "thinking", "thinking_chars"),
            *("reasoning_tokens", "output_tokens", "toolset"),
        )
        .sort("run", "step")
        .collect()
        .join(wrote, on=["run", "step"], how="left", maintain_order="left")
        .join(_of_step(told), on=["run", "step"], how="left", maintain_order="left")
        .join(_entropy(runs, window), on=["run", "step"], how="left", maintain_order="left")
        .join(_turns(runs), on=["run", "step"], how="left", maintain_order="left")
        .with_columns(pl.col("calls", "judged").fill_null(0), pl.col("opens_turn").fill_null(value=False))
    )  # fmt: skip
    silent = pl.col("calls") == 0
    spell = (~silent | pl.col("opens_turn")).cum_sum().over("run")
    has_tools = (pl.col("calls").sum().over("run") > 0) | pl.col("toolset").is_not_null()
    news = (
        pl.col("news").fill_null(value=False) | pl.col("opens_turn") | (pl.int_range(pl.len()) == 0)
    ).over("run")
    counted = (silent | (pl.col("judged") > 0)).cum_sum().over("run")
    table = table.with_columns(
        spell.alias("spell"), has_tools.alias("has_tools"), news.alias("news"), counted.alias("counted")
    ).with_columns(
        pl.when("has_tools")
        .then(silent & (silent.cum_sum().over("run", "spell") >= MONOLOGUE))
        .alias("monologue"),
        (
            pl.col("counted")
            - pl.when("news").then("counted").forward_fill().over("run")
        ).cast(pl.Int64).alias("stagnation"),
        pl.col("entropy").forward_fill().over("run"),
        _density().alias("density"),
        _interleaved().alias("interleaved"),
    )  # fmt: skip
    return (
        table.join(
            failing_steps(runs, wrong), on=["run", "step"], how="left", maintain_order="left"
        )
        .with_columns(pl.col("streak").forward_fill().over("run").fill_null(0).alias("cascade"))
        .select(
            *("run", "trajectory_id", "step", pl.col("calls").cast(pl.Int64)),
            *("repeat", "stuck_same", "stuck_error", "monologue", "alternation", "stagnation"),
            *("entropy", "cascade", "density", "interleaved"),
        )
    )


# ---------------------------------------------------------------------- calls


def normal_action() -> pl.Expr:
    """Tool and arguments as one number; keys of a flat object are sorted, a nested one stays in order."""
    tight = (
        pl.col("arguments")
        .str.strip_chars()
        .str.replace_all(r'"\s*:\s+', '":')
        .str.replace_all(r',\s+"', ',"')
        .str.replace_all(r"^\{\s+", "{")
        .str.replace_all(r"\s+\}$", "}")
    )
    inner = tight.str.strip_prefix("{").str.strip_suffix("}")
    by_key = inner.str.replace_all(r',("\w+":)', "\x1f${1}").str.split("\x1f").list.sort()
    is_flat = tight.str.starts_with("{") & ~inner.str.contains(r"[\[\]{}]")
    normal = pl.when(is_flat).then(by_key.list.join("\x1f")).otherwise(tight)
    return pl.concat_str(pl.col("tool").fill_null(""), pl.lit("\x1f"), normal).hash()


def explicit_errors(runs: Trajectories) -> pl.DataFrame:
    """Responses that are explicit errors: ``run``, ``at`` (their ``seq``), ``step``, ``error``."""
    return (
        detect(runs)
        .filter(pl.col("code").is_in(ERRORS))
        .select("run", pl.col("seq").alias("at"), "step", pl.lit(value=True).alias("error"))
        .unique()
    )


def _answers(runs: Trajectories, wrong: pl.DataFrame) -> pl.DataFrame:
    """The response to each call: ``run``, ``seq`` of the call, ``observation``, ``error``."""
    can_compare = pl.col("text").is_not_null() | (pl.col("media").list.len().fill_null(0) == 0)
    told = pl.struct("text", "exit_code", "is_error").hash()
    return (
        runs.events.filter((pl.col("kind") == "tool_result") & pl.col("call_seq").is_not_null())
        .select(
            "run",
            pl.col("call_seq").alias("seq"),
            pl.col("seq").alias("at"),
            pl.when(can_compare).then(told).alias("observation"),
        )
        .collect()
        .join(wrong.drop("step"), on=["run", "at"], how="left", maintain_order="left")
        .group_by("run", "seq", maintain_order=True)
        .agg(pl.col("observation").last(), pl.col("error").fill_null(value=False).any())
    )


def _times_in_a_row(column: str) -> pl.Expr:
    """How often this value stood in a row, up to this call, within a user turn; 1 for a null."""
    value = pl.struct("turn", column)
    same = (value == value.shift(1).over("run")) & pl.col(column).is_not_null()
    block = (~same.fill_null(value=False)).cum_sum().over("run")
    return pl.int_range(pl.len()).over("run", block) + 1


def _alternates() -> pl.Expr:
    def back(calls: int) -> pl.Expr:
        return pl.col("pair").shift(calls).over("run", "turn")

    pairs = [back(n) == back(n + 2) for n in range(ALTERNATION - 2)]
    return (pl.all_horizontal(pairs) & (back(0) != back(1))).fill_null(value=False)


def _of_step(told: pl.DataFrame) -> pl.DataFrame:
    """The signals of calls by step, and whether one of them brought something new."""
    targets = (
        told.lazy()
        .select("run", "seq", entities(pl.col("arguments"), TARGET).alias("target"))
        .explode("target")
        .drop_nulls("target")
        .filter(pl.col("target").is_first_distinct().over("run"))
        .select("run", "seq", pl.lit(value=True).alias("new_target"))
        .unique()
        .collect()
    )
    unseen = pl.col("observation").is_first_distinct().over("run")
    return (
        told.join(targets, on=["run", "seq"], how="left", maintain_order="left")
        .with_columns(
            ((unseen & pl.col("observation").is_not_null()) | pl.col("new_target"))
            .fill_null(value=False)
            .alias("news")
        )
        .group_by("run", "step")
        .agg(
            pl.len().alias("judged"),
            *(pl.col(n).max() for n in ("repeat", "stuck_same", "stuck_error", "alternation")),
            pl.col("news").any(),
        )
    )


def _entropy(runs: Trajectories, window: int) -> pl.DataFrame:
    """Entropy of the tools of the last calls, relative to the tools used so far: ``run``, ``step``."""
    table = (
        runs.events.filter(pl.col("kind") == "tool_call")
        .select(
            "run",
            "step",
            pl.col("tool").fill_null("").rank("dense").cast(pl.Int64).alias("code"),
            pl.int_range(pl.len()).over("run").alias("position"),
            pl.struct("run", "tool").is_first_distinct().cast(pl.Int64).alias("first"),
        )
        .with_columns(pl.col("first").cum_sum().over("run").alias("used"))
        .collect()
    )
    spread = _entropies(table["code"].to_numpy(), table["position"].to_numpy(), window)
    return (
        table.with_columns(pl.Series("spread", spread))
        .select(
            "run",
            "step",
            pl.when(pl.col("used") > 1)
            .then(pl.col("spread") / pl.col("used").log())
            .alias("entropy"),
        )
        .group_by("run", "step", maintain_order=True)
        .last()
    )


def _entropies(
    code: NDArray[np.int64], position: NDArray[np.int64], window: int
) -> NDArray[np.float64]:
    """Entropy of each call's last ``window`` codes in its run, all calls at once."""
    lagged = np.full((window, code.size), -1, dtype=np.int64)
    for lag in range(min(window, code.size)):
        lagged[lag, lag:] = np.where(
            position[lag:] >= lag, code[: code.size - lag if lag else None], -1
        )
    seen = (lagged >= 0).sum(axis=0)
    spread = np.zeros(code.size)
    for row in lagged:
        share = (lagged == row).sum(axis=0) / np.maximum(seen, 1)
        spread -= np.where(row >= 0, np.log(np.maximum(share, 1e-12)) / np.maximum(seen, 1), 0.0)
    return np.abs(spread)


# ---------------------------------------------------------------------- steps


def _writing(runs: Trajectories) -> pl.DataFrame:
    """What each step wrote: characters, its first thinking and tool call, whether it got responses."""
    kind = pl.col("kind")
    written = pl.col("text").filter(kind == "message").str.len_chars().sum()
    asked = pl.col("arguments").filter(kind == "tool_call").str.len_chars().sum()
    return (
        runs.events.filter(
            kind.is_in(["message", "tool_call", "thinking", "tool_result"]), pl.col("step").is_not_null()
        )
        .group_by("run", "step")
        .agg(
            (written + asked).alias("said"),
            (kind == "tool_call").sum().alias("calls"),
            pl.col("seq").filter(kind == "thinking").min().alias("thinks_at"),
            pl.col("seq").filter(kind == "tool_call").min().alias("acts_at"),
            (kind == "tool_result").any().alias("answered"),
        )
        .collect()
    )  # fmt: skip


def _turns(runs: Trajectories) -> pl.DataFrame:
    """Steps before which a user spoke: what is said after a call opens the turn of the next."""
    return (
        runs.events.filter(pl.col("kind") == "user")
        .select("run", (pl.col("step") + 1).fill_null(0).alias("step"), opens_turn=pl.lit(value=True))
        .unique()
        .collect()
    )  # fmt: skip


def _density() -> pl.Expr:
    state = pl.col("thinking").cast(pl.String)
    chars = pl.col("thinking_chars")
    all_chars = chars + pl.col("said").fill_null(0)
    return (
        pl.when((pl.col("output_tokens") > 0) & pl.col("reasoning_tokens").is_not_null())
        .then((pl.col("reasoning_tokens") / pl.col("output_tokens")).clip(0, 1))
        .when(state.is_in(["text", "tagged_in_text"]) & (all_chars > 0))
        .then(chars / all_chars)
        .when(state == "absent")
        .then(0.0)
    )


def _interleaved() -> pl.Expr:
    state = pl.col("thinking").cast(pl.String)
    follows = pl.col("answered").shift(1).over("run").fill_null(value=False)
    before = (pl.col("thinks_at") < pl.col("acts_at")).fill_null(value=True)
    thought = (
        pl.when(state.is_in(_THOUGHT) | pl.col("thinks_at").is_not_null())
        .then(before)
        .when(state == "absent")
        .then(pl.lit(value=False))
        .when(pl.col("reasoning_tokens") > 0)
        .then(pl.lit(value=True))
    )
    return pl.when(follows).then(thought)


def failing_steps(runs: Trajectories, wrong: pl.DataFrame) -> pl.DataFrame:
    """Steps with responses: ``run``, ``step``, ``error`` (one is an explicit error), ``streak``."""
    failing = wrong.select("run", "step", "error").unique()
    steps = (
        runs.events.filter((pl.col("kind") == "tool_result") & pl.col("step").is_not_null())
        .select("run", "step")
        .unique()
        .sort("run", "step")
        .collect()
        .join(failing, on=["run", "step"], how="left", maintain_order="left")
        .with_columns(pl.col("error").fill_null(value=False))
    )
    block = (~pl.col("error")).cum_sum().over("run")
    return steps.with_columns(
        pl.col("error").cum_sum().over("run", block).cast(pl.Int64).alias("streak")
    )
