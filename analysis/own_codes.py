"""Perturbation codes of your own: defined in one line, known to every analysis from then on."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

import polars as pl

from analysis.perturbation_rules import KEYS
from analysis.signals import responses
from loaders import Trajectories
from loaders.errors import DerailError

Cause = Literal["agent", "environment", "unknown"]


@dataclass(frozen=True)
class _Own:
    condition: pl.Expr
    rule: str
    cause: Cause


_DEFINED: Final[dict[str, _Own]] = {}
_TAKEN: Final[set[str]] = set()


def reserve(codes: Iterable[str]) -> None:
    """Keep these names from being defined: they are the library's own."""
    _TAKEN.update(codes)


def define(
    code: str, rule: str | pl.Expr, *, tool: str | None = None, cause: Cause = "environment"
) -> None:
    """Add a code that ``detect``, and with it every analysis of this process, looks for.

    ``rule``: a regular expression (Rust's syntax) that the text of a response contains, or a Polars
    expression over the columns of ``signals.responses`` (``text``, ``tool``, ``arguments``,
    ``exit_code``, ``is_error``, ``is_read`` ...). ``tool``: only responses of tools whose whole name this regular
    expression matches. ``cause``: whose doing it is. A second definition of a code replaces the first.

    Raises ``DerailError`` for a name that is a code already or no identifier, and for a pattern that
    does not compile.

    >>> import loaders
    >>> from analysis import perturbations
    >>> perturbations.define("paywall", r"(?i)subscribe to (?:read|continue)")
    >>> chat = [{"role": "assistant", "tool_calls": [{"id": "1", "type": "function",
    ...     "function": {"name": "fetch", "arguments": "{}"}}]},
    ...     {"role": "tool", "tool_call_id": "1", "content": "Please subscribe to continue."}]
    >>> perturbations.detect(loaders.from_messages([chat])).select("code", "cause").rows()
    [('paywall', 'environment')]
    >>> perturbations.undefine("paywall")
    """
    if code in _TAKEN:
        raise DerailError(f"{code!r} is a code already; give yours another name")
    if not re.fullmatch(r"[a-z][a-z0-9_]*", code):
        raise DerailError(f"{code!r} is no name for a code: use small letters, digits and _")
    if isinstance(rule, str):
        _check(rule)
        condition, words = pl.col("text").str.contains(rule), f"defined: {rule}"
    else:
        condition, words = rule, f"defined: {rule}"
    if tool is not None:
        _check(tool)
        condition = condition & pl.col("tool").str.contains(f"^(?:{tool})$")
    _DEFINED[code] = _Own(condition, words, cause)


def undefine(code: str) -> None:
    """Forget a code of your own. Raises ``DerailError`` where there is none of that name."""
    if _DEFINED.pop(code, None) is None:
        known = ", ".join(_DEFINED) or "none"
        raise DerailError(f"no code {code!r} is defined here; defined are: {known}")


def defined() -> dict[str, str]:
    """The codes of your own and their rules, in words."""
    return {code: own.rule for code, own in _DEFINED.items()}


def causes() -> dict[str, Cause]:
    """Whose doing each of them is."""
    return {code: own.cause for code, own in _DEFINED.items()}


def found(runs: Trajectories) -> pl.DataFrame:
    """Responses that have a code of your own: the columns that ``perturbation_rules.hits`` gives."""
    schema = {**dict.fromkeys((*KEYS, "code", "evidence", "rule", "injected"), pl.String)}
    schema |= dict.fromkeys(("run", "seq", "step"), pl.Int64)
    if not _DEFINED:
        return pl.DataFrame(schema=schema)
    table = responses(runs)
    return pl.concat(
        table.filter(own.condition.fill_null(value=False)).select(
            *KEYS,
            pl.lit(code).alias("code"),
            pl.lit("pattern").alias("evidence"),
            pl.lit(own.rule).alias("rule"),
            "injected",
        )
        for code, own in _DEFINED.items()
    )


def _check(pattern: str) -> None:
    try:
        pl.Series([""]).str.contains(pattern)
    except pl.exceptions.ComputeError as error:
        raise DerailError(f"{pattern!r} is no regular expression: {error}") from error
