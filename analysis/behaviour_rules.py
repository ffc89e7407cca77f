"""What counts as an edit, a verification, a submission, a plan: rules on tool names and arguments.

Names and commands are matched, never meanings: an edit by a tool of an unknown name is not seen.
"""

from __future__ import annotations

from typing import Final

import polars as pl

from analysis.behaviour_events import CALL, SEQ, STEP, Look, look
from analysis.parts import part_by_part
from analysis.signals import of_tools
from loaders import Trajectories

_PREFIX = r"^(?i:(?:\w+(?:[.:]|__))*"
EDITS: Final = (
    _PREFIX
    + r"(?:edit|write|create|insert|replace|patch|multi_?edit|notebook_?edit|file_?(?:edit|write|change)|"
    r"(?:edit|write|create|patch|append|update)_(?:to_)?(?:the_)?file|write_to_file|replace_in_file|"
    r"apply_(?:patch|diff)|search_replace|str_replace\w*|text_editor\w*))$"
)
"""Tools that change files. Those with a ``command`` that only looks are told apart by it."""

SHELLS: Final = (
    _PREFIX
    + r"(?:(?:execute_|run_)?(?:bash|shell|terminal|command|cmd|python|ipython|code)(?:_?tool)?|local_shell|exec|"
    r"exec_command|command_execution|run|run_(?:terminal_cmd|shell_command|in_terminal|ipython|cell)|"
    r"execute_(?:ipython_cell|cell)|code_interpreter|terminal_\w+|shell_\w+|bash_\w+))$"
)
"""Tools that run what they are given."""

CHECKS: Final = (
    _PREFIX
    + r"(?:(?:run_)?(?:unit_?)?tests?|lint|(?:get_)?diagnostics|get_errors|verify|check|validate|build|compile))$"
)
"""Tools that do nothing but verify."""

SUBMITS: Final = (
    _PREFIX
    + r"(?:submit\w*|finish|done|complete|attempt_completion|final_?answer|task_?(?:done|complete)|answer))$"
)
"""Tools by which a run says that it is finished."""

PLANS: Final = (
    _PREFIX
    + r"(?:todo_?(?:write|list)?|write_todos|update_(?:plan|todo_list)|(?:task|plan)_?(?:create|update)|"
    r"task_?tracker|create_plan|plan))$"
)
"""Tools that write a plan down."""

SHELL_EDITS: Final = (
    r"\b(?:sed|perl) +-\w*i|\btee\b|\bapply_patch\b|\bgit +apply\b|\bpatch +-|\bmv +|\bcp +|"
    r"[^-=&\d]>{1,2} *[\w./~-]+\.\w+"
)
"""Commands that change files, among them redirections into a name with an extension."""

VERIFICATIONS: Final = (
    r"\b(?:pytest|unittest|nosetests|tox|nox|jest|vitest|mocha|ctest|rspec|phpunit|mypy|pyright|ruff|flake8|"
    r"pylint|eslint|tsc|py_compile|shellcheck)\b|\b(?:npm|yarn|pnpm|bun)(?: +run)? +(?:test|build|lint|check|start)|"
    r"\b(?:go|cargo|dotnet|swift|mix|gradle|gradlew|mvn|bazel) +(?:test|build|check|vet|run|clippy|verify)|"
    r"\bmake\b|\bgcc\b|\bg\+\+|\bjavac\b|\b(?:python[\d.]*|node|ruby|bash|sh|java|php|Rscript|julia) +[\w./-]|"
    r"(?:^|[\s;&\"])\./[\w./-]+"
)
"""Commands that run, test, build or lint. Reading a file back is no verification."""

_LOOKS_ONLY = r'"command": *"view"'
_PROSE = r'(?i)"(?:target_)?(?:file_?)?(?:path|name|file)": *"[^"]*\.(?:md|mdx|rst|txt|adoc)"'
_PRINTS_A_PATCH = r"\bgit +(?:diff|format-patch|show|log)\b[^;&|\n]*"
_SUBMITTED = r"\bCOMPLETE_TASK_AND_SUBMIT|^\W*(?:command\W+)?submit\b"
_ENTITY = (
    r"https?://[^\s\"'\\<>)\]]+|(?:[\w.~-]*/)+[\w.-]*\w|\b\w[\w-]*\.[A-Za-z]\w{0,5}\b|"
    r"\b[A-Za-z]\w*_\w+\b|\b[a-z]+[A-Z]\w+\b|\b[A-Z][a-z0-9]+[A-Z]\w*\b|\b[A-Za-z]*\d[\w-]{2,}\b|#\w{2,}"
)
TARGET: Final = r"https?://[^\s\"'\\<>)\]]+|(?:[\w.~-]*/)+[\w.-]*\w|\b\w[\w-]*\.[A-Za-z]\w{0,5}\b"
"""Files and web addresses in arguments."""

READ_CHARS: Final = 4_000
"""How far into a text entities are looked for: arguments may hold whole files."""

LAST_ACTIONS: Final = 5


def entities(text: pl.Expr, pattern: str = _ENTITY) -> pl.Expr:
    """Names of things in a text: files, addresses, identifiers, codes with digits; unique, in lower case."""
    read = text.fill_null("").str.head(READ_CHARS)
    return read.str.extract_all(pattern).list.eval(pl.element().str.to_lowercase()).list.unique()


def premature_stops(runs: Trajectories) -> pl.DataFrame:
    """Whether each run stopped without verifying its last edit: ``run``, ``premature_stop``.

    True: the run changed a file, then ended by itself (its last call was a submission or asked for
    no tool) with no verification after the last edit that went through. False: there was one, be it
    in the edit's own command. Files of prose (.md, .rst, .txt) and a diff written to a file are no
    edits to verify. Null: no edit, the run was cut off (limit, error, cancelled, or a call
    pending), or no tool that runs things was offered or used, so that it could not verify.
    """
    needed = ("run", "seq", "step", "kind", "tool", "arguments", "call_seq", "is_error")
    return stops(runs, part_by_part(runs, lambda part: ends_in(look(part, None, *needed))))


def stops(runs: Trajectories, ends: pl.DataFrame) -> pl.DataFrame:
    """What ``premature_stops`` returns, given what ``ends_in`` tells of all parts."""
    name = pl.col("name").fill_null("")
    runs_things = name.str.contains(SHELLS) | name.str.contains(CHECKS)
    offered = (
        runs.tools.filter(pl.col("toolset").is_not_null())
        .group_by("toolset")
        .agg(runs_things.any().alias("offers_a_runner"))
        .collect()
    )
    cut_off = pl.col("outcome").cast(pl.String).is_in(["limit", "cancelled", "error"])
    ended = (pl.col("submitted") == pl.col("last_call")) | (
        pl.col("last_call") < pl.col("steps") - 1
    )
    can_tell = (
        pl.col("edited").is_not_null()
        & ended.fill_null(value=False)
        & ~cut_off.fill_null(value=False)
        & (pl.col("used_a_runner") | pl.col("offers_a_runner").fill_null(value=False))
    )
    unverified = (pl.col("verified") < pl.col("edited")).fill_null(value=True)
    return (
        runs.trajectories.select("run", "toolset", "outcome", "steps")
        .collect()
        .join(ends, on="run", how="left", maintain_order="left")
        .join(offered, on="toolset", how="left", maintain_order="left")
        .select("run", pl.when(can_tell).then(unverified).alias("premature_stop"))
    )


def ends_in(seen: Look) -> pl.DataFrame:
    """What each run with tool calls did at its end, of a part of the runs.

    Columns: ``run``, ``edited`` and ``verified`` (``seq`` of the last call that did), ``submitted`` and
    ``last_call`` (their steps), ``used_a_runner``.
    """
    calls = seen.events.filter(pl.col("kind") == "tool_call").select(
        "run", "seq", SEQ.alias("at"), "step", "tool", pl.col("arguments").fill_null("")
    )
    tool = pl.col("tool").fill_null("")
    patterns = {"edits": EDITS, "shell": SHELLS, "checks": CHECKS, "submits": SUBMITS}
    tools = of_tools(calls, **{name: tool.str.contains(one) for name, one in patterns.items()})
    calls = calls.join(tools, on="tool", how="left", nulls_equal=True, maintain_order="left")
    # Arguments are searched only where the tool makes them count.
    arguments = pl.col("arguments")
    commands = calls.filter("shell").with_columns(
        arguments.str.replace_all(_PRINTS_A_PATCH, "").str.contains(SHELL_EDITS).alias("changes"),
        arguments.str.contains(VERIFICATIONS).alias("verifies"),
        arguments.str.contains(_SUBMITTED).alias("is_over"),
    )
    looks_only = arguments.str.contains(_LOOKS_ONLY) | arguments.str.contains(_PROSE)
    is_failure = (pl.col("kind") == "tool_result") & pl.col("is_error")
    failed = seen.events.filter(is_failure).select(CALL.alias("at"))
    edited = _latest(
        "edited", "seq", calls.filter("edits").filter(~looks_only), commands.filter("changes"),
        but=failed,
    )  # fmt: skip
    verified = _latest("verified", "seq", calls.filter("checks"), commands.filter("verifies"))
    submitted = _latest("submitted", "step", calls.filter("submits"), commands.filter("is_over"))
    per_run = calls.group_by("run").agg(
        pl.col("step").max().alias("last_call"),
        (pl.col("shell") | pl.col("checks")).any().alias("used_a_runner"),
    )
    for known in (edited, verified, submitted):
        per_run = per_run.join(known, on="run", how="left", maintain_order="left")
    return per_run


def _latest(
    name: str, column: str, *calls: pl.DataFrame, but: pl.DataFrame | None = None
) -> pl.DataFrame:
    """The last of these calls of each run, without ``but``: ``run``, and its ``column`` under a name."""
    every = pl.concat([one.select("run", "at", "seq", "step") for one in calls])
    if but is not None:
        every = every.join(but, on="at", how="anti")
    return every.group_by("run").agg(pl.col(column).max().alias(name))


def plan_drift(runs: Trajectories) -> pl.DataFrame:
    """How far each run's last actions are from its first plan: ``run``, ``plan_drift``.

    1 - Jaccard(entities of the first plan, entities of the last 5 actions). The plan is the thinking
    and messages of the first call that has any, with the arguments of planning tools in that call;
    an action's entities are those of its arguments. Null where the plan names nothing, the actions
    name nothing, or the run has fewer than 5 tool calls.
    """
    needed = ("run", "seq", "step", "kind", "tool", "arguments", "words")
    return part_by_part(runs, lambda part: drift_in(look(part, None, *needed)))


def drift_in(seen: Look) -> pl.DataFrame:
    """What ``plan_drift`` returns, of a part of the runs."""
    events = seen.events
    calls = events.filter(pl.col("kind") == "tool_call")
    plans = of_tools(calls, plans=pl.col("tool").fill_null("").str.contains(PLANS)).filter("plans")
    planned = calls.join(plans, on="tool", how="semi", nulls_equal=True)
    said = events.filter(pl.col("kind") != "tool_call", pl.col("words").is_not_null())
    every = pl.concat([said, planned]).filter(pl.col("step").is_not_null())
    begins = every.group_by("base").agg(pl.col("step").min()).select(STEP.alias("at_step"))
    first = (
        every.filter(STEP.is_in(begins["at_step"].implode()))
        .select("run", entities(pl.coalesce("words", "arguments")).alias("plan"))
        .group_by("run")
        .agg(pl.col("plan").explode().drop_nulls().unique())
    )
    enough = calls.group_by("run").len().filter(pl.col("len") >= LAST_ACTIONS)
    last = (
        calls.select("run", "seq", "arguments")
        .join(enough, on="run", how="semi")
        .sort("run", "seq")
        .group_by("run")
        .tail(LAST_ACTIONS)
        .select("run", entities(pl.col("arguments")).alias("acted_on"))
        .group_by("run")
        .agg(pl.col("acted_on").explode().drop_nulls().unique())
    )
    plan, acted_on = pl.col("plan"), pl.col("acted_on")
    shared = plan.list.set_intersection(acted_on).list.len()
    union = plan.list.set_union(acted_on).list.len()
    tells = (plan.list.len() > 0) & (acted_on.list.len() > 0)
    return (
        seen.runs.trajectories.select("run")
        .collect()
        .join(first, on="run", how="left", maintain_order="left")
        .join(last, on="run", how="left", maintain_order="left")
        .select("run", pl.when(tells).then(1 - shared / union).alias("plan_drift"))
    )
