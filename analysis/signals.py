"""What several analyses look at in the events: responses with their calls, repeats, exposures."""

from __future__ import annotations

from typing import Final

import polars as pl

from analysis.parts import part_by_part, unshared
from loaders import Trajectories

FAMILIES: Final = {
    "shell": r"(?i)(?:^|[_.\W])(?:bash|shell|sh|zsh|powershell|terminal|console|cmd|execute(?:_bash|_command)?|exec(?:_command)?|"
    r"run_(?:terminal_)?(?:command|shell\w*|cmd)|computer_terminal|local_shell\w*)(?:$|[_\W])",
    "code": r"(?i)python|jupyter|(?:execute|run)_(?:code|ipython\w*|cell)|code_interpreter|(?:^|_)repl(?:$|_)",
    "edit": r"(?i)(?:^|[_\W])(?:edit|write|create|insert|replace|str_replace\w*|apply_patch|patch|multi_?edit|update)_?(?:file|\b)|"
    r"editor|^(?:Edit|Write|MultiEdit|NotebookEdit)$",
    "read": r"(?i)^(?:read|view|cat|open|ls|glob|grep|find|search|list)(?:_?(?:file|files|dir|directory|folder|many_files|code|file_content))?$",
    "web": r"(?i)web|browse|fetch|url|https?|page|click|goto|navigate",
}
"""Families of tools by their names, the first that fits; any other is a ``function``."""


def family_of(tool: pl.Expr) -> pl.Expr:
    """The family of a tool by its name: shell, code, edit, read, web, function; null for no name."""
    family = pl.when(tool.is_not_null()).then(pl.lit("function"))
    for name, pattern in reversed(FAMILIES.items()):
        family = pl.when(tool.str.contains(pattern)).then(pl.lit(name)).otherwise(family)
    return family


IS_READ: Final = (
    r"^(?i:\w*[.:])?(?:(?i:get|list|read|search|find|show|view|display|check|fetch|look_?up|query|describe|"
    r"count|estimate|calculate|compute|retrieve|verify|inspect|browse|grep|glob|open_?file|web_?search|"
    r"web_?fetch|think)(?:[_\-A-Z]|$)|(?:ls|cat|pwd|head|tail|wc|du|df|stat|Read|Grep|Glob|LS)$)"
)
"""Names of tools that only look. Any other tool may change something, so that silence can be a proper
answer and the same call may well give another response."""


def responses(runs: Trajectories) -> pl.DataFrame:
    """Tool responses with the call that each answers, a row each, sorted by run and ``seq``.

    Columns: ``run``, ``trajectory_id``, ``seq``, ``step``, ``tool``, ``text``, ``is_error``,
    ``error_type``, ``exit_code``, ``truncated``, ``media``, ``injected``, ``arguments`` (of the call),
    ``is_read`` (the tool only looks, by its name), ``writes`` (calls so far in this run that may have
    changed something).
    """
    return answered(exchanged(runs))


def exchanged(runs: Trajectories, *others: str) -> pl.DataFrame:
    """What ``answered`` reads of tool calls and responses, and of these other kinds of events."""
    return (
        runs.events.filter(pl.col("kind").is_in(["tool_call", "tool_result", *others]))
        .select("kind", "arguments", *_OF_RESPONSES)
        .collect()
    )


def answered(events: pl.DataFrame) -> pl.DataFrame:
    """The columns of ``responses``, out of what ``exchanged`` gives."""
    events = events.join(
        of_tools(events, is_read=pl.col("tool").fill_null("").str.contains(IS_READ)),
        on="tool",
        how="left",
        nulls_equal=True,
        maintain_order="left",
    )
    calls = events.filter(pl.col("kind") == "tool_call").select(
        "run",
        pl.col("seq").alias("call_seq"),
        "arguments",
        (~pl.col("is_read")).cum_sum().over("run").alias("writes"),
    )
    return (
        events.filter(pl.col("kind") == "tool_result")
        .select(*_OF_RESPONSES, "is_read")
        .join(calls, on=["run", "call_seq"], how="left", maintain_order="left")
        .select(*_OF_RESPONSES, "arguments", "writes", "is_read")
    )


_OF_RESPONSES: Final = (
    "run", "trajectory_id", "seq", "step", "tool", "text", "is_error", "error_type", "exit_code", "truncated",
    "media", "injected", "call_seq",
)  # fmt: skip


def of_tools(table: pl.DataFrame, **told: pl.Expr) -> pl.DataFrame:
    """What the names of the tools tell, looked at once for each name: ``tool`` and the columns asked for."""
    return table.select(pl.col("tool").unique()).with_columns(**told)


def repeated_calls(runs: Trajectories) -> pl.DataFrame:
    """Tool calls that repeat the call right before them: same tool, same arguments, no user between.

    Columns: ``run``, ``trajectory_id``, ``seq``, ``step``, ``tool``, ``repeats`` (``seq`` of the call
    that it repeats), ``streak`` (how many repeats in a row so far, 1 for the first). Calls without logged arguments are never repeats.
    """
    return part_by_part(runs, _repeated_calls, times=16)


def _repeated_calls(runs: Trajectories) -> pl.DataFrame:
    calls = (
        runs.clustered("events")
        .filter(pl.col("kind").is_in(["tool_call", "user"]))
        .with_columns((pl.col("kind") == "user").cum_sum().alias("turn"))
        .filter(pl.col("kind") == "tool_call")
        .select("run", "trajectory_id", "seq", "step", "tool", "arguments", "turn")
        .with_row_index("place")
    )
    # Rows of a run stand together, so that the row before is the call before: no window is needed.
    is_same = pl.all_horizontal(
        pl.col(name) == pl.col(name).shift(1) for name in ("run", "turn", "arguments")
    ) & pl.col("tool").eq_missing(pl.col("tool").shift(1))
    is_same = is_same.fill_null(value=False)
    first_of_its_kind = pl.when(~is_same).then("place").forward_fill()
    found = (
        calls.with_columns(
            is_same.alias("same"),
            pl.col("seq").shift(1).alias("repeats"),
            (pl.col("place") - first_of_its_kind).cast(pl.Int64).alias("streak"),
        )
        .filter("same")
        .select("run", "trajectory_id", "seq", "step", "tool", "repeats", "streak")
        .collect()
    )
    return unshared(found)
