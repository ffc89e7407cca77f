"""What counts as an edit, a verification, a submission, a plan: rules on tool names and arguments.

Names and commands are matched, never meanings: an edit by a tool of an unknown name is not seen.
"""

from __future__ import annotations

from typing import Final

import polars as pl

from analysis.parts import part_by_part
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
    tool, arguments = pl.col("tool").fill_null(""), pl.col("arguments").fill_null("")
    is_shell = tool.str.contains(SHELLS)
    is_no_edit = arguments.str.contains(_LOOKS_ONLY) | arguments.str.contains(_PROSE)
    changes = arguments.str.replace_all(_PRINTS_A_PATCH, "").str.contains(SHELL_EDITS)
    edits = (tool.str.contains(EDITS) & ~is_no_edit) | (is_shell & changes)
    verifies = tool.str.contains(CHECKS) | (is_shell & arguments.str.contains(VERIFICATIONS))
    submits = tool.str.contains(SUBMITS) | (is_shell & arguments.str.contains(_SUBMITTED))
    failed = (
        runs.events.filter((pl.col("kind") == "tool_result") & pl.col("is_error"))
        .select("run", pl.col("call_seq").alias("seq"), pl.lit(value=True).alias("failed"))
        .unique(["run", "seq"])
    )
    per_run = (
        runs.clustered("events")
        .filter(pl.col("kind") == "tool_call")
        .join(failed, on=["run", "seq"], how="left", maintain_order="left")
        .group_by("run")
        .agg(
            pl.col("seq").filter(edits & pl.col("failed").is_null()).max().alias("edited"),
            pl.col("seq").filter(verifies).max().alias("verified"),
            pl.col("step").filter(submits).max().alias("submitted"),
            pl.col("step").max().alias("last_call"),
            (is_shell | tool.str.contains(CHECKS)).any().alias("used_a_runner"),
        )
    )
    name = pl.col("name").fill_null("")
    runners = (
        runs.tools.group_by("toolset")
        .agg((name.str.contains(SHELLS) | name.str.contains(CHECKS)).any().alias("offers_a_runner"))
        .filter(pl.col("toolset").is_not_null())
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
        .join(per_run, on="run", how="left", maintain_order="left")
        .join(runners, on="toolset", how="left", maintain_order="left")
        .select("run", pl.when(can_tell).then(unverified).alias("premature_stop"))
        .collect(engine="streaming")
    )


def plan_drift(runs: Trajectories) -> pl.DataFrame:
    """How far each run's last actions are from its first plan: ``run``, ``plan_drift``.

    1 - Jaccard(entities of the first plan, entities of the last 5 actions). The plan is the thinking
    and messages of the first call that has any, with the arguments of planning tools in that call;
    an action's entities are those of its arguments. Null where the plan names nothing, the actions
    name nothing, or the run has fewer than 5 tool calls.
    """
    return part_by_part(runs, _plan_drift)


def _plan_drift(runs: Trajectories) -> pl.DataFrame:
    said = pl.col("kind").is_in(["thinking", "message"]) & (
        pl.col("text").fill_null("").str.strip_chars() != ""
    )
    planned = (pl.col("kind") == "tool_call") & pl.col("tool").fill_null("").str.contains(PLANS)
    first = (
        runs.events.filter(said | planned, pl.col("step").is_not_null())
        .filter(pl.col("step") == pl.col("step").min().over("run"))
        .select("run", entities(pl.coalesce("text", "arguments")).alias("plan"))
        .group_by("run")
        .agg(pl.col("plan").explode().drop_nulls().unique())
    )
    last = (
        runs.events.filter(pl.col("kind") == "tool_call")
        .select("run", "seq", "arguments")
        .group_by("run")
        .agg(pl.col("arguments").sort_by("seq").tail(LAST_ACTIONS), pl.len().alias("calls"))
        .filter(pl.col("calls") >= LAST_ACTIONS)
        .select("run", "arguments")
        .explode("arguments")
        .select("run", entities(pl.col("arguments")).alias("acted_on"))
        .group_by("run")
        .agg(pl.col("acted_on").explode().drop_nulls().unique())
    )
    plan, acted_on = pl.col("plan"), pl.col("acted_on")
    shared = plan.list.set_intersection(acted_on).list.len()
    union = plan.list.set_union(acted_on).list.len()
    tells = (plan.list.len() > 0) & (acted_on.list.len() > 0)
    return (
        runs.trajectories.select("run")
        .join(first, on="run", how="left", maintain_order="left")
        .join(last, on="run", how="left", maintain_order="left")
        .select("run", pl.when(tells).then(1 - shared / union).alias("plan_drift"))
        .collect()
    )
