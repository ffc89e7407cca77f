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

from analysis.behaviour_calls import calls_in, signals_of_steps
from analysis.behaviour_events import ERRORS, STEP, Look, explicit_errors, failing_in, look
from analysis.neighbours import before, in_a_row, is_neighbour, latest, so_far
from analysis.parts import part_by_part
from loaders import Trajectories
from loaders.errors import DerailError

__all__ = ["ERRORS", "calls", "signals"]

MONOLOGUE: Final = 3

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
    check_window(window)
    needed = ("run", "seq", "step", "kind", "tool", "arguments", "call_seq", "observation")
    return part_by_part(
        runs,
        lambda part, wrong: calls_in(look(part, wrong, *needed), window, ignore).drop("base"),
        explicit_errors(runs),
    )


def check_window(window: int) -> None:
    """Raise ``DerailError`` where it is no number of calls to look back."""
    if window < 1:
        raise DerailError(f"window is a number of calls to look back, at least 1, not {window}")


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
    check_window(window)
    return part_by_part(
        runs,
        lambda part, wrong: signals_in(seen := look(part, wrong), failing_in(seen), window, ignore),
        explicit_errors(runs),
    )


def signals_in(
    seen: Look, failing: pl.DataFrame, window: int, ignore: Sequence[str]
) -> pl.DataFrame:
    """The columns of ``signals``, of a part of the runs, given its ``failing_in``."""
    steps = (
        seen.runs.steps.select(
            *("run", "trajectory_id", "step", "thinking", "thinking_chars"),
            *("reasoning_tokens", "output_tokens", "toolset"),
        )
        .sort("run", "step", maintain_order=True)
        .collect()
    )
    table = seen.with_base(steps).with_columns(STEP.alias("at_step"))
    for of_step in (
        _writing(seen.events),
        signals_of_steps(calls_in(seen, window, ignore)),
        _entropy(seen.events, window),
        _turns(seen.events),
        failing.drop("run", "step"),
    ):
        table = table.join(of_step, on="at_step", how="left", maintain_order="left")
    table = table.with_columns(
        pl.col("calls", "judged").fill_null(0), pl.col("opens_turn").fill_null(value=False)
    )
    in_run = table.group_by("run").agg((pl.col("calls") > 0).any().alias("uses_tools"))
    has_tools = pl.col("uses_tools") | pl.col("toolset").is_not_null()
    return (
        table.join(in_run, on="run", how="left", maintain_order="left")
        .with_columns(
            pl.when(has_tools).then(_silent_for() >= MONOLOGUE).alias("monologue"),
            _stagnation().alias("stagnation"),
            latest(pl.col("entropy")).alias("entropy"),
            latest(pl.col("streak")).fill_null(0).alias("cascade"),
            _density().alias("density"),
            _interleaved().alias("interleaved"),
        )
        .select(
            *("run", "trajectory_id", "step", pl.col("calls").cast(pl.Int64)),
            *("repeat", "stuck_same", "stuck_error", "monologue", "alternation", "stagnation"),
            *("entropy", "cascade", "density", "interleaved"),
        )
    )


# ---------------------------------------------------------------------- what events tell of a step


def _writing(events: pl.DataFrame) -> pl.DataFrame:
    """What each step wrote: characters, its first thinking and tool call, whether it got responses."""
    kind = pl.col("kind")
    return (
        events.filter(kind != "user", pl.col("step").is_not_null())
        .select(
            STEP.alias("at_step"),
            "written",
            (kind == "tool_call").alias("calls"),
            pl.when(kind == "thinking").then("seq").alias("thinks_at"),
            pl.when(kind == "tool_call").then("seq").alias("acts_at"),
            (kind == "tool_result").alias("answered"),
        )
        .group_by("at_step")
        .agg(
            pl.col("written").sum().alias("said"),
            pl.col("calls").sum(),
            pl.col("thinks_at", "acts_at").min(),
            pl.col("answered").any(),
        )
    )


def _turns(events: pl.DataFrame) -> pl.DataFrame:
    """Steps before which a user spoke: what is said after a call opens the turn of the next."""
    opened = (pl.col("base") + (pl.col("step") + 1).fill_null(0)).alias("at_step")
    spoken = events.filter(pl.col("kind") == "user").select(opened).unique()
    return spoken.with_columns(opens_turn=pl.lit(value=True))


def _entropy(events: pl.DataFrame, window: int) -> pl.DataFrame:
    """Entropy of the tools of the last calls, relative to the tools used so far, of each step."""
    calls = events.filter(pl.col("kind") == "tool_call").with_columns(pl.col("tool").fill_null(""))
    codes = calls.select(pl.col("tool").unique()).with_row_index("code")
    table = (
        calls.join(codes, on="tool", how="left", maintain_order="left")
        .with_columns(pl.col("code").cast(pl.Int64))
        .select(
            STEP.alias("at_step"),
            "code",
            (in_a_row(is_neighbour()) - 1).alias("position"),
            so_far((pl.col("base") + pl.col("code")).is_first_distinct()).alias("used"),
        )
    )
    spread = _entropies(table["code"].to_numpy(), table["position"].to_numpy(), window)
    relative = pl.lit(pl.Series(spread)) / pl.col("used").log()
    return (
        table.select("at_step", pl.when(pl.col("used") > 1).then(relative).alias("entropy"))
        .group_by("at_step")
        .agg(pl.col("entropy").last())
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


# ---------------------------------------------------------------------- signals of a step


def _silent_for() -> pl.Expr:
    """How many steps in a row up to this one, since a user spoke, called no tool; 0 where it does."""
    silent = pl.col("calls") == 0
    goes_on = is_neighbour() & silent & silent.shift(1) & ~pl.col("opens_turn")
    return pl.when(silent).then(in_a_row(goes_on.fill_null(value=False))).otherwise(0)


def _stagnation() -> pl.Expr:
    """Steps since the last that brought something new; those of ignored tools alone don't count."""
    news = pl.col("news").fill_null(value=False) | pl.col("opens_turn") | ~is_neighbour()
    counted = so_far((pl.col("calls") == 0) | (pl.col("judged") > 0))
    return counted - latest(pl.when(news).then(counted))


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
    follows = before(pl.col("answered")).fill_null(value=False)
    thinks_first = (pl.col("thinks_at") < pl.col("acts_at")).fill_null(value=True)
    thought = (
        pl.when(state.is_in(_THOUGHT) | pl.col("thinks_at").is_not_null())
        .then(thinks_first)
        .when(state == "absent")
        .then(pl.lit(value=False))
        .when(pl.col("reasoning_tokens") > 0)
        .then(pl.lit(value=True))
    )
    return pl.when(follows).then(thought)
