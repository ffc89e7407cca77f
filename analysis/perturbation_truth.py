"""Which tool responses are known to be broken, by what the rules for their text may not see."""

from __future__ import annotations

import json
import re
import shlex
from typing import Final

import polars as pl

from analysis import perturbation_messages as said
from analysis import perturbation_rules as rules
from analysis.signals import responses
from loaders import Trajectories
from loaders.errors import DerailError

SEVERAL: Final = "the status of the last of several commands"
SEARCH: Final = "a search that may have found nothing"

_SEARCHES: Final = frozenset(
    [
        "grep",
        "egrep",
        "fgrep",
        "zgrep",
        "rg",
        "ag",
        "diff",
        "cmp",
        "comm",
        "test",
        "[",
        "pgrep",
        "which",
        "type",
        "expr",
    ]
)
"""Programs whose status 1 says that they found nothing, or a difference."""
_HEREDOC: Final = re.compile(r"<<-?\s*(['\"]?)(\w+)\1([^\n]*)\n.*?\n\s*\2(?=\n|$)", re.DOTALL)
_SUBSTITUTION: Final = re.compile(r"'[^']*'|(\$\(|`)")
_TROUBLE: Final = (
    r"(?i)error|fail|cannot|can't|could ?n[o']t|could not|unable|not found|no such|denied|refus|invalid|illegal|"
    r"unknown|unrecogni|missing|exception|traceback|fatal|abort|kill|panic|time[d-]? ?out|warn|usage:|unexpected|"
    r"not an? |bad |denied|unsupported|interrupt|is a directory|not permitted|core dumped|no space|busy"
)
"""Any word with which a program might tell of trouble: far wider than the rules, as a doubt and no proof."""
_BETWEEN: Final = frozenset("();<>|&\n")


def known_truth(runs: Trajectories) -> pl.DataFrame:
    """Which responses are known to be broken or in order, by the framework's flag and the exit status.

    Columns: ``run``, ``seq``, ``truth`` (broken or not; null: undecided), ``code`` (what the rules say
    who may see flag and status), ``why`` (nobody can decide it, or ``silent``). The status is the exit
    code that the log records or that the response tells in words (``exit code: 1``). Responses of which
    neither flag nor status is known are left out.

    A search or comparison (``grep``, ``diff``, ``test``) that ended in 1, or in a flag without a status,
    is in order if it printed no error message of a program: so it says that it found nothing, or a
    difference (POSIX). Undecided are

    - several commands (``a; b``, ``a | b``, not ``a && b``) of a shell that ended well, for the status is
      the last one's alone, if messages are thrown away or any word of trouble stands anywhere in the
      response;
    - such a search whose messages are thrown away (``2>/dev/null``, ``-q``, ``-s``), or beside which
      others speak while its status is unknown.

    ``silent``: broken, and the response holds no text that could say so.
    """
    flag = pl.col("is_error").fill_null(value=False)
    status = pl.coalesce("exit_code", "told_status")
    table = rules.closer_look(rules.first_look(responses(runs))).filter(
        pl.col("is_error").is_not_null() | status.is_not_null()
    )
    flagged = flag | (status != 0).fill_null(value=False)
    language = pl.col("arguments").str.extract(r'"language"\s*:\s*"(\w+)"').str.to_lowercase()
    of_a_shell = language.is_null() | language.is_in(["sh", "bash", "shell", "zsh", "console"])
    family = pl.col("family").fill_null("")
    is_shell = ((family == "shell") | (status.is_not_null() & (family != "code"))) & of_a_shell
    table = table.with_columns(
        flagged.alias("flagged"), is_shell.alias("is_shell"), status.alias("status")
    ).join(_commands(table["command"]), on="command", how="left", nulls_equal=True)
    text = without_status(pl.col("text").fill_null("")).str.replace_all(r"</?\w+>", "")
    silent = ~text.str.contains(r"\w") | text.str.strip_chars().is_in(
        ["(no output)", "None", "null"]
    )
    says_why = text.str.contains(said.DIAGNOSIS)
    found_nothing = pl.all_horizontal(
        pl.col("is_shell"), pl.col("flagged"), pl.col("is_search").fill_null(value=False),
        pl.col("status").is_null() | (pl.col("status") == 1), ~says_why,
    )  # fmt: skip
    compares = pl.col("command").str.contains(r"\b(?:diff|cmp|comm)\s")
    why = (
        pl.when(
            ~pl.col("flagged")
            & pl.col("is_shell")
            & pl.col("several")
            & (pl.col("is_muted") | pl.col("text").str.contains(_TROUBLE) | says_why)
        )
        .then(pl.lit(SEVERAL))
        .when(
            found_nothing
            & (pl.col("is_muted") | (pl.col("status").is_null() & ~silent & ~compares))
        )
        .then(pl.lit(SEARCH))
        .when(pl.col("flagged") & ~found_nothing & silent)
        .then(pl.lit("silent"))
    )
    truth = pl.when(why.is_null() | (why == "silent")).then(pl.col("flagged") & ~found_nothing)
    table = table.with_columns(why.alias("why"), truth.alias("truth"))
    full = pl.concat([rules.from_flags(table), rules.from_status(table)])
    codes = full.unique(["run", "seq"], keep="first", maintain_order=True)
    return table.join(codes.select("run", "seq", "code"), on=["run", "seq"], how="left").select(
        "run", "seq", "truth", pl.when("truth").then("code").alias("code"), "why"
    )


def _commands(commands: pl.Series) -> pl.DataFrame:
    """Of each different command: ``several`` (its status is one part's alone), ``is_search``, ``is_muted``."""
    schema = {"command": pl.String, "several": pl.Boolean, "is_search": pl.Boolean, "is_muted": pl.Boolean}  # fmt: skip
    rows = [
        (command, *(_parts_of(command) if command is not None else (False, False, False)))
        for command in commands.unique()
    ]
    return pl.DataFrame(rows, schema=schema, orient="row")


def _parts_of(command: str) -> tuple[bool, bool, bool]:
    r"""Of a shell command as JSON escapes it: several, is a search, its messages are thrown away.

    >>> _parts_of("cd a && make"), _parts_of("make | tail -3"), _parts_of(r"grep \"a;b\" c")
    ((False, False, False), (True, False, False), (False, True, False))
    """
    try:
        text = str(json.loads(f'"{command}"', strict=False))
    except ValueError:  # it was no JSON text
        text = command
    substitutes = any(found[1] for found in _SUBSTITUTION.finditer(text))
    text = _HEREDOC.sub(r"\3", text).replace(r"\;", "_").strip().removeprefix("execute[")
    lexer = shlex.shlex(text, posix=True, punctuation_chars="".join(_BETWEEN))
    lexer.whitespace, lexer.commenters = " \t\r", ""
    try:
        words: list[str] = list(lexer)
    except ValueError:  # a quotation without an end: nobody knows what is a command here
        return True, False, True
    several = substitutes
    last: list[str] = []
    for word in words:
        if set(word) <= _BETWEEN and not set(word) & {"<", ">"}:
            several |= word != "&&"
            last = []
        else:
            several |= word.startswith("<(")
            last.append(word)
    program = re.split(r"[/\[]", last[0])[-1] or last[0] if last else ""
    options = "".join(word[1:] for word in last if re.fullmatch(r"-[A-Za-z]+", word))
    is_muted = bool(set("qs") & set(options)) or "/dev/null" in command
    return several, program in _SEARCHES, is_muted


def injected_truth(runs: Trajectories) -> pl.DataFrame:
    """Which responses the harness says it perturbed; all others in its runs are in order.

    Columns as of ``known_truth``; ``code`` is the harness's own word for the fault.

    Raises ``DerailError`` where no event tells of an injected fault.
    """
    results = runs.events.filter(pl.col("kind") == "tool_result")
    table = results.select("run", "seq", "injected").collect()
    if table["injected"].is_null().all():
        raise DerailError("no response here is marked as injected; give truth= a frame of your own")
    return table.select(
        "run",
        "seq",
        pl.col("injected").is_not_null().alias("truth"),
        pl.col("injected").alias("code"),
        pl.lit(None, dtype=pl.String).alias("why"),
    )


def without_status(text: pl.Expr) -> pl.Expr:
    """Exit statuses told in words taken out."""
    return text.str.replace_all(said.STATUS, "")
