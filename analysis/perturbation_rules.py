"""The rules by which a tool response counts as perturbed, each on one kind of evidence."""

from __future__ import annotations

from typing import Final

import polars as pl

# What an error message says. Only applied where something else proves that it is an error message
# (a flag, a status, an error field), or anchored at the start of the response.
MEANING: Final = {
    "timeout": r"(?i)\btimed?[ -]?out(?:error|exception|expired)?\b|deadline exceeded|\bexit code:? (?:124|137)\b",
    "rate_limit": r"(?i)\b429\b|rate.?limit|too many requests|quota exceeded|overloaded",
    "auth": r"(?i)\b40[13]\b|permission denied|unauthori[sz]ed|forbidden|not authenticated|"
    r"authentication (?:failed|required)|access denied|not logged in",
    "not_found": r"(?i)\b404\b|\bENOENT\b|no such (?:file|directory|user|item|key|order)|not found|"
    r"does(?: not|n't) exist|could not find|cannot find",
    "http_error": r"(?i)\b(?:HTTP|status)\D{0,12}5\d\d\b|internal server error|bad gateway|"
    r"service unavailable|connection (?:refused|reset|aborted|error)",
    "harness_format": r"(?i)(?:unknown|invalid|no such|unsupported|unrecognized) (?:tool|function)\b|"
    r"\btool \S{1,60} (?:not found|does not exist|is not available)|InputValidationError|"
    r"invalid (?:tool )?(?:arguments|parameters|input)\b|validation errors? for|"
    r"missing \d* ?required (?:positional |keyword-only )?(?:argument|parameter|propert)|"
    r"unexpected keyword argument|failed to parse (?:arguments|tool|json|action)|"
    r"(?:argument|parameter)s? (?:is|are) missing|is a required property",
    "user_interrupt": r"(?i)interrupted by (?:the )?user|user (?:rejected|denied|cancelled|canceled|"
    r"doesn't want)|request (?:was )?cancell?ed by",
    "context_limit": r"(?i)maximum context length|context (?:window|length) exceeded|"
    r"prompt is too long",
}
_MESSAGE_ORDER: Final = (
    "user_interrupt",
    "harness_format",
    "context_limit",
    "timeout",
    "rate_limit",
    "auth",
    "not_found",
    "http_error",
)
_TRACEBACK = r"(?m)^Traceback \(most recent call last\)"
_EXCEPTION = r"(?m)^\s*(?:[A-Za-z_][\w]*\.)*[A-Z]\w*(?:Error|Exception|Warning: Error)(?::|$)"
_SAYS_ERROR = (
    r"(?i)^\s*(?:<\w+>)?\s*(?:error|fatal|failed)\b\s*(?:\(|:|!|-|while|calling|executing|occurred)"
)
_TRUNCATION = (
    r"(?i)(?:\[|<|\(|\.\.\. ?)(?:output |response |text |observation )?(?:was )?"
    r"(?:truncated|clipped|elided)|\d+ (?:characters|chars|bytes|lines) (?:were )?"
    r"(?:omitted|truncated|elided)|response clipped"
)
_INJECTION = (
    r"(?i)ignore (?:all |any )?(?:the )?(?:previous|prior|above|earlier) (?:instructions|messages|prompts)|"
    r"<\|im_(?:start|end)\|>|<INFORMATION>\s*This is an important message|"
    r"(?m:^\s*(?:system|assistant)\s*:\s*you )"
)
_ZERO_WIDTH = "[\u200b\u200c\u2060\u2062-\u2064\U000e0020-\U000e007f]"
_NO_OP = (
    r"(?i)^\s*(?:no changes?(?: were)?(?: made)?|nothing to (?:commit|do|update)|no replacement was|"
    r"already (?:exists|up[ -]to[ -]date)|no match(?:es)? (?:was |were )?found for replacement)"
)
_CONTROL = "[\u0000-\u0008\u000b\u000c\u000e-\u001a\u001c-\u001f\ufffd]"

KEYS: Final = ("run", "trajectory_id", "seq", "step", "tool")


def with_features(table: pl.DataFrame) -> pl.DataFrame:
    """Add what several rules look at: both ends of the text, JSON validity, an error message."""
    text = pl.col("text").fill_null("")
    table = table.with_columns(
        pl.concat_str(text.str.head(400), pl.lit("\n"), text.str.tail(400)).alias("ends"),
        text.str.contains(r"^\s*[\[{]").alias("json_like"),
        text.str.len_chars().alias("chars"),
    )
    parsed = pl.when("json_like").then(pl.col("text").str.json_path_match("$"))
    table = table.with_columns(parsed.is_not_null().alias("json"))
    own = pl.when("json").then(pl.col("text"))
    return table.with_columns(
        pl.coalesce(
            own.str.json_path_match("$.error"),
            own.str.json_path_match("$.error_message"),
            own.str.json_path_match("$.exception"),
            pl.when(own.str.json_path_match("$.status").str.to_lowercase().is_in(["error", "failed"]))
            .then(pl.coalesce(own.str.json_path_match("$.message"), pl.lit("status: error"))),
            pl.when(own.str.json_path_match("$.success") == "false")
            .then(pl.coalesce(own.str.json_path_match("$.message"), pl.lit("success: false"))),
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
    for code in reversed(_MESSAGE_ORDER):
        expression = (
            pl.when(message.str.contains(MEANING[code])).then(pl.lit(code)).otherwise(expression)
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


def from_flags(table: pl.DataFrame) -> pl.DataFrame:
    flagged = pl.col("is_error").fill_null(value=False)
    message = pl.concat_str(pl.col("error_type").fill_null(""), pl.lit(": "), "ends")
    raised = message.str.contains(_TRACEBACK) | message.str.contains(_EXCEPTION)
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


def from_status(table: pl.DataFrame) -> pl.DataFrame:
    exit_code = pl.col("exit_code")
    is_search = pl.col("arguments").str.contains(
        r"(?:^|[|;&\"'\s])(?:grep|egrep|rg|diff|cmp|test|\[|pgrep|which|find)\b"
    )
    failed = exit_code.is_not_null() & (exit_code != 0)
    no_match = (exit_code == 1) & is_search.fill_null(value=False) & (pl.col("chars") < 400)
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
    is_timeout = exit_code.is_in([124, 137])
    ordinary = failed & ~no_match & ~is_timeout
    return pl.concat(
        [
            hits(table, is_timeout, "timeout", "status", "exit code 124 or 137"),
            hits(table, ordinary, "exec_error", "status", "exit code is not 0"),
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
    succeeded = pl.col("exit_code").fill_null(-1) == 0
    ends = pl.col("ends")
    says_error = ends.str.contains(_SAYS_ERROR)
    raised = ends.str.contains(_TRACEBACK) | ends.str.contains(_EXCEPTION)
    open_question = ~known & ~succeeded
    shell_timeout = ends.str.contains(
        r"(?i)^\W*(?:the )?(?:command|operation|request|(?:tool )?call|execution|action)\b.{0,80}\btimed? ?out"
    )
    missing = ends.str.contains(
        r"(?m)^[^\n]{0,200}(?:: No such file or directory|: command not found)\s*$"
    )
    stripped = pl.col("text").fill_null("").str.strip_chars()
    is_empty = stripped.is_in(["", "[]", "{}", "null", "None", '""'])
    return pl.concat(
        [
            hits(
                table,
                open_question & says_error,
                _meaning_of(ends, "exec_error"),
                "pattern",
                "the response begins with Error:",
            ),
            hits(
                table,
                open_question & raised,
                "exception",
                "pattern",
                "a traceback or exception line",
            ),
            hits(
                table,
                open_question & shell_timeout,
                "timeout",
                "pattern",
                "begins with ... timed out",
            ),
            hits(
                table,
                open_question & missing & ~says_error,
                "not_found",
                "pattern",
                "a line ends with No such file or directory",
            ),
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
                ends.str.contains(_TRUNCATION),
                "truncated",
                "pattern",
                "a marker of cut text",
            ),
            hits(
                table,
                ends.str.contains(_INJECTION) | pl.col("text").str.contains(_ZERO_WIDTH),
                "injection",
                "pattern",
                "instructions or invisible characters inside a tool response",
            ),
            hits(
                table,
                ends.str.contains(_NO_OP),
                "no_op",
                "pattern",
                "the tool says nothing changed",
            ),
            hits(
                table,
                pl.col("text").str.count_matches(_CONTROL) > pl.col("chars") * 0.01,
                "encoding",
                "pattern",
                "over 1 % replacement or control characters",
            ),
        ]
    )
