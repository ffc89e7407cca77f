"""The rules by which a tool response counts as perturbed, each on one kind of evidence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import polars as pl

from analysis import perturbation_messages as said
from analysis.signals import family_of, of_tools

_TELLING_KEYS = r'"(?:error|error_message|exception|status|success|ok|isError|is_error|status_code|statusCode|code)"\s*:|\\u'
_FAILED = (("success", "false"), ("ok", "false"), ("isError", "true"), ("is_error", "true"))
ENDS: Final = 400
KEYS: Final = ("run", "trajectory_id", "seq", "step", "tool")


def first_look(table: pl.DataFrame) -> pl.DataFrame:
    """Add what all responses are looked at for: the tool's family, length, JSON, and whether to look closer.

    ``close``: a flag, a status or one of the words that the rules need (``said.NEEDED``) is there, or next
    to nothing. One search goes through all texts; only the close ones, few in most logs, are for the rules.
    """
    text = pl.col("text").fill_null("")
    stripped = text.str.strip_chars()
    table = table.join(
        of_tools(table, family=family_of(pl.col("tool"))),
        on="tool", how="left", nulls_equal=True, maintain_order="left",
    ).with_columns(
        text.str.len_chars().alias("chars"),
        (stripped.str.starts_with("{") | stripped.str.starts_with("[")).alias("json_like"),
        (
            text.str.contains(said.NEEDED)
            | (stripped.str.len_bytes() <= said.LONGEST_NOTHING)
            | pl.col("is_error").fill_null(value=False)
            | (pl.col("exit_code") != 0).fill_null(value=False)
            | pl.col("truncated").fill_null(value=False)
            | pl.col("injected").is_not_null()
        ).alias("close"),
    )  # fmt: skip
    parsed = pl.when("json_like").then(pl.col("text")).str.json_path_match("$")
    return table.with_columns(parsed.is_not_null().alias("json"))


def command_of() -> pl.Expr:
    """The command of a shell tool in the arguments of its call, as JSON escapes it; else the arguments."""
    quoted = r'"((?:[^"\\]|\\.)*)"'
    arguments = pl.col("arguments")
    return pl.coalesce(
        arguments.str.extract(rf'"-l?c"\s*,\s*{quoted}'),
        arguments.str.extract(rf'"(?:command|cmd|action|script)"\s*:\s*{quoted}'),
        arguments,
    )


def closer_look(table: pl.DataFrame) -> pl.DataFrame:
    """Add what the rules read: both ends of the text, the command, a status or an error message in it."""
    text = pl.col("text").fill_null("")
    both = (
        pl.when(pl.col("chars") <= 2 * ENDS)
        .then(text)
        .otherwise(pl.concat_str(text.str.head(ENDS), pl.lit("\n"), text.str.tail(ENDS)))
    )
    table = table.with_columns(both.alias("ends"), command_of().alias("command")).with_columns(
        pl.coalesce(pl.col("ends").str.extract(said.STATUS, group) for group in (1, 2))
        .cast(pl.Int64, strict=False)
        .alias("told_status")
    )
    # Only a response that has one of the keys is parsed for each of them; a key may be escaped.
    own = pl.when(pl.col("json") & text.str.contains(_TELLING_KEYS)).then(pl.col("text"))
    reason = [own.str.json_path_match(f"$.{key}") for key in ("message", "reason", "detail")]
    return table.with_columns(
        pl.coalesce(
            own.str.json_path_match("$.error"),
            own.str.json_path_match("$.error_message"),
            own.str.json_path_match("$.exception"),
            pl.when(own.str.json_path_match("$.status").str.to_lowercase().is_in(["error", "failed"]))
            .then(pl.coalesce(*reason, pl.lit("status: error"))),
            *(
                pl.when(own.str.json_path_match(f"$.{key}") == value)
                .then(pl.coalesce(*reason, pl.lit(f"{key}: {value}")))
                for key, value in _FAILED
            ),
        ).alias("json_error"),
        pl.coalesce(
            own.str.json_path_match("$.status_code"),
            own.str.json_path_match("$.statusCode"),
            own.str.json_path_match("$.code"),
        )
        .cast(pl.Int64, strict=False)
        .alias("http_status"),
    ).with_columns(
        pl.when(~pl.col("json_error").str.to_lowercase().is_in(["", "false", "null", "none", "[]", "{}"]))
        .then("json_error")
        .alias("json_error")
    )  # fmt: skip


def _meaning_of(message: pl.Expr, otherwise: str) -> pl.Expr:
    """The code that an error message stands for."""
    expression = pl.lit(otherwise)
    for code in reversed(said.MESSAGE_ORDER):
        expression = (
            pl.when(message.str.contains(said.MEANING[code]))
            .then(pl.lit(code))
            .otherwise(expression)
        )
    return expression


def hits(
    table: pl.DataFrame, where: pl.Expr, code: pl.Expr | str, evidence: str, rule: str
) -> pl.DataFrame:
    code = pl.lit(code) if isinstance(code, str) else code
    return table.filter(where).select(
        *KEYS,
        code.alias("code"),
        pl.lit(evidence).alias("evidence"),
        pl.lit(rule).alias("rule"),
        "injected",
    )


def alone(table: pl.DataFrame, *, every: bool = False) -> tuple[pl.DataFrame, pl.DataFrame]:
    """What responses show by themselves, the better evidence first; and all of them with ``broken``.

    ``every``: look closely at all of them, to the same result.
    """
    table = first_look(table)
    found = of_close(table if every else table.filter("close"))
    return found, with_broken(table, found)


def of_close(table: pl.DataFrame) -> pl.DataFrame:
    """What the rules find in responses that are to be looked at closely, the better evidence first."""
    close = closer_look(table)
    return pl.concat(
        [from_flags(close), from_status(close), from_json(close), from_patterns(close)]
    )


def with_broken(table: pl.DataFrame, found: pl.DataFrame) -> pl.DataFrame:
    """Responses with ``broken``: whether the rules found something in it."""
    broken = found.select("run", "seq", pl.lit(value=True).alias("broken")).unique()
    table = table.join(broken, on=["run", "seq"], how="left", maintain_order="left")
    return table.with_columns(pl.col("broken").fill_null(value=False))


def from_flags(table: pl.DataFrame) -> pl.DataFrame:
    flagged = pl.col("is_error").fill_null(value=False)
    message = pl.concat_str(pl.col("error_type").fill_null(""), pl.lit(":\n"), "ends")
    raised = message.str.contains(said.TRACEBACK) | message.str.contains(said.EXCEPTION)
    generic = pl.when(raised).then(pl.lit("exception")).otherwise(pl.lit("exec_error"))
    meaning = _meaning_of(message, "")
    code = pl.when(meaning == "").then(generic).otherwise(meaning)
    return pl.concat(
        [
            hits(table, flagged, code, "flag", "the framework flags an error"),
            hits(
                table,
                pl.col("truncated").fill_null(value=False),
                "truncated",
                "flag",
                "the framework says that the output was cut",
            ),
            hits(
                table,
                pl.col("injected").str.contains("(?i)inject|important_instructions|tool_knowledge"),
                "injection",
                "flag",
                "the harness says that it planted an injection",
            ),
        ]
    )


def is_search() -> pl.Expr:
    """The call runs a program that says by its exit status 1 that it found nothing, or a difference."""
    return (
        pl.col("arguments")
        .str.contains(
            r"(?:^|[|;&\"'\s\[`])(?:grep|egrep|fgrep|zgrep|rg|ag|diff|cmp|test|\[|pgrep|which|type|find|comm|expr)\b"
        )
        .fill_null(value=False)
    )


def from_status(table: pl.DataFrame) -> pl.DataFrame:
    exit_code = pl.col("exit_code")
    told = pl.when(exit_code.is_null()).then(pl.col("told_status"))
    code = pl.coalesce(exit_code, told)
    failed = code.is_not_null() & (code != 0)
    no_match = (code == 1) & is_search() & (pl.col("chars") < 400)
    status = pl.col("http_status")
    http = (
        pl.when(status == 429)
        .then(pl.lit("rate_limit"))
        .when(status.is_in([401, 403]))
        .then(pl.lit("auth"))
        .when(status == 404)
        .then(pl.lit("not_found"))
        .when(status.is_in([408, 504]))
        .then(pl.lit("timeout"))
        .otherwise(pl.lit("http_error"))
    )
    is_timeout = code.is_in([124, 137])
    ordinary = failed & ~no_match & ~is_timeout
    return pl.concat(
        [
            hits(table, is_timeout, "timeout", "status", "exit code 124 or 137"),
            hits(table, ordinary & told.is_null(), "exec_error", "status", "exit code is not 0"),
            hits(
                table,
                ordinary & told.is_not_null(),
                "exec_error",
                "status",
                "the response tells an exit status that is not 0",
            ),
            hits(table, status.is_between(400, 599), http, "status", "HTTP status 400 to 599"),
        ]
    )


def from_json(table: pl.DataFrame) -> pl.DataFrame:
    return hits(
        table,
        pl.col("json_error").is_not_null() & ~pl.col("is_error").fill_null(value=False),
        _meaning_of(pl.col("json_error"), "exec_error"),
        "json",
        "an error field of the JSON response",
    )


def from_patterns(table: pl.DataFrame) -> pl.DataFrame:
    """Anchored patterns; not where a flag or a status already says that all is well or not."""
    known = pl.col("is_error").fill_null(value=False) | pl.col("json_error").is_not_null()
    succeeded = pl.coalesce("exit_code", "told_status", pl.lit(-1)) == 0
    ends = pl.col("ends")
    is_empty = pl.col("text").fill_null("").str.contains(said.NOTHING)
    return pl.concat(
        [
            *_failures(table.filter(~known & ~succeeded)),
            hits(
                table,
                is_empty
                & pl.col("is_read")
                & pl.col("exit_code").is_null()
                & pl.col("media").is_null()
                & ~known,
                "empty",
                "pattern",
                "nothing in the response of a call that should return something",
            ),
            hits(
                table,
                ends.str.contains(said.TRUNCATION),
                "truncated",
                "pattern",
                "a marker of cut text",
            ),
            hits(
                table,
                ends.str.contains(said.INJECTION) | pl.col("text").str.contains(said.ZERO_WIDTH),
                "injection",
                "pattern",
                "instructions or invisible characters inside a tool response",
            ),
            hits(
                table,
                ends.str.contains(said.NO_OP),
                "no_op",
                "pattern",
                "the tool says nothing changed",
            ),
            hits(
                table,
                pl.col("text").str.count_matches(said.CONTROL) > pl.col("chars") * 0.01,
                "encoding",
                "pattern",
                "over 1 % replacement or control characters",
            ),
        ]
    )


def _failures(table: pl.DataFrame) -> list[pl.DataFrame]:
    """Of responses whose success is an open question: each pattern is sought only where it could count.

    The longest of these expressions cost more to make ready than most searches with them.
    """
    ends, family = pl.col("ends"), pl.col("family")
    is_line = (pl.col("chars") < 200) & ~ends.str.strip_chars().str.contains("\n", literal=True)
    shown = pl.col("command").str.contains(said.SHOWS_FILES).fill_null(value=False)
    reads = (family == "read").fill_null(value=False)
    table = table.with_columns(
        ends.str.contains(said.SAYS_ERROR).alias("says_error"),
        (ends.str.contains(said.TRACEBACK) | ends.str.contains(said.EXCEPTION)).alias("raised"),
        (reads | shown).alias("shows_files"),
        ((reads | shown) & ~(reads & is_line)).alias("quotes"),
    )
    silent = table.filter(~pl.col("says_error"))
    programs = silent.filter(family.is_in(["shell", "code"]) | family.is_null())
    builds = programs.filter(~pl.col("shows_files"), ~pl.col("raised"))
    tools = table.filter(family.is_in(["function", "web"]), ~pl.col("shows_files"))
    failed = {
        "the response begins with Error:": table.filter("says_error"),
        "the response begins with a refusal": _matching(
            silent.filter(~pl.col("quotes")), said.REFUSED
        ),
        "a program names itself and says why it could not": programs.filter(
            _any_of(said.SHELL) | programs_say_why(programs["ends"])
        ),
        "a line that compilers, build tools or test runners begin a failure with": _matching(
            builds, (*said.BUILD, *said.TESTS)
        ),
    }
    meant = pl.concat(
        [rows.with_columns(pl.lit(rule).alias("rule")) for rule, rows in failed.items()]
    ).with_columns(_meaning_of(ends, "exec_error").alias("code"))
    says_error, *others = (
        hits(meant, pl.col("rule") == rule, pl.col("code"), "pattern", rule) for rule in failed
    )
    return [
        says_error,
        hits(
            table,
            pl.col("raised") & ~pl.col("shows_files"),
            "exception",
            "pattern",
            "a traceback or exception line",
        ),
        hits(
            table,
            ends.str.contains(said.TIMED_OUT),
            "timeout",
            "pattern",
            "begins with ... timed out",
        ),
        *others,
        hits(
            tools,
            ends.str.contains(said.FROM_CACHE),
            "stale",
            "pattern",
            "the response says that it comes from a cache",
        ),
    ]


def _matching(table: pl.DataFrame, patterns: Sequence[str]) -> pl.DataFrame:
    return table if table.is_empty() else table.filter(_any_of(patterns))


def _any_of(patterns: Sequence[str]) -> pl.Expr:
    return pl.any_horizontal(pl.col("ends").str.contains(one) for one in patterns)


def programs_say_why(texts: pl.Series) -> pl.Series:
    """Whether a line of each text is a program's name, and why the program could not do what was asked."""
    lines = (
        pl.select(texts.str.extract_all(said.PROGRAM_LINE).alias("line"))
        .with_row_index("place")
        .explode("line", empty_as_null=False)
        .drop_nulls()
        .with_columns(pl.col("line").str.splitn(": ", 2).struct.rename_fields(["program", "says"]))
        .select("place", pl.col("line").struct.unnest())
    )
    program, says = pl.col("program"), pl.col("says").str.replace(said.NUMBERED, "")
    is_program = program.str.strip_prefix("/bin/").str.len_chars() <= said.LONGEST_PROGRAM
    parts = says.str.splitn(": ", 2).struct
    is_object = parts[0].str.contains(said.PROGRAMS_OBJECT) & (
        parts[0].str.len_chars() <= said.LONGEST_OBJECT
    )
    why = lines.filter(
        is_program,
        pl.col("says").str.contains(said.PROGRAMS_ERROR)
        | says.str.contains(said.PROGRAMS_USAGE)
        | says.str.contains(said.PROGRAM_REFUSES)
        | (is_object & parts[1].str.contains(said.PROGRAM_REFUSES)),
    )
    return pl.int_range(len(texts), eager=True).is_in(why["place"].unique().implode())
