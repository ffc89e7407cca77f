"""Which formats there are, and which one a source is written in."""

from __future__ import annotations

import importlib
import pkgutil
import warnings
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cache
from importlib.metadata import entry_points
from types import ModuleType
from typing import Any, cast

import polars as pl

import loaders.formats
from loaders.builder import Builder
from loaders.errors import LoadError, UnreadableRecord
from loaders.heads import Head
from loaders.sources import Source
from loaders.values import is_array

GIVES = ("thinking", "sent", "tools", "tokens", "outcome")
"""What a format's logs can hold: thinking; what was sent back; tool definitions; tokens; outcome."""
_GROUP = "derail.loaders"


@dataclass(frozen=True)
class Format:
    """A log format: a module with ``TITLE``, ``sniff`` and ``read``, and what it declares.

    Optional in the module: ``LOGS_THINKING`` (``always``: a call without thinking in the log had
    none; ``never``: the log has no place for it; ``if_present``, the default: some writers log it);
    ``GIVES``, names out of ``registry.GIVES``; ``companion(head)``, true for a file that is read
    with another one; ``bundle(source)``, the key under which several files are one log;
    ``splits(source)``, true for JSON Lines of which each is a run, or none, whatever the others say,
    so that parts of a long file can be read alone (``source.ties_lines()`` where one needs another);
    ``members(source)``, the names of an archive's members that are runs, where they can be read alone
    (``read`` asks ``source.share`` which of them to read);
    ``IGNORED``, what of the raw log is left out of the tables: path (``loaders.leaves.matcher``) to
    the reason; ``EXCEPTIONS``, rules of ``tests/battery.py`` that it can't hold to, and why.
    """

    name: str
    title: str
    sniff: Callable[[Head], bool]
    read: Callable[[Source, Builder], None]
    logs_thinking: str
    gives: tuple[str, ...]
    companion: Callable[[Head], bool] | None
    bundle: Callable[[Source], str] | None
    splits: Callable[[Source], bool] | None = None
    members: Callable[[Source], Sequence[str]] | None = None
    ignored: Mapping[str, str] = field(default_factory=dict[str, str])
    exceptions: Mapping[str, str] = field(default_factory=dict[str, str])


def from_module(module: ModuleType, name: str | None = None) -> Format:
    """The format that a module describes.

    Raises ``LoadError`` where the module lacks ``TITLE``, ``sniff`` or ``read``.
    """
    name = name or module.__name__.rpartition(".")[2]
    missing = [part for part in ("TITLE", "sniff", "read") if not hasattr(module, part)]
    if missing:
        raise LoadError(
            f"Format {name!r} lacks {', '.join(missing)}; loaders/formats/_template.py shows what a "
            "format consists of."
        )
    parts = cast(Any, module)
    return Format(
        name,
        parts.TITLE,
        parts.sniff,
        parts.read,
        getattr(parts, "LOGS_THINKING", "if_present"),
        tuple(gift for gift in GIVES if gift in getattr(parts, "GIVES", ())),
        getattr(parts, "companion", None),
        getattr(parts, "bundle", None),
        getattr(parts, "splits", None),
        getattr(parts, "members", None),
        dict(getattr(parts, "IGNORED", {})),
        dict(getattr(parts, "EXCEPTIONS", {})),
    )


@cache
def formats() -> dict[str, Format]:
    """Every format by name: those in ``loaders/formats``, then those of installed packages.

    A package offers formats as entry points of the group ``derail.loaders``, each the module of one
    format; one of a known name takes its place. A package that can't be imported is warned of.
    """
    names = (info.name for info in pkgutil.iter_modules(loaders.formats.__path__))
    found = {name: _own(name) for name in sorted(names) if not name.startswith("_")}
    for entry in sorted(entry_points(group=_GROUP), key=lambda entry: entry.name):
        try:
            found[entry.name] = from_module(entry.load(), entry.name)
        except Exception as error:  # noqa: BLE001 - another package's mistake must not stop this one
            warnings.warn(
                f"the format {entry.name!r} of an installed package ({entry.value}) can't be used: "
                f"{type(error).__name__}: {error}",
                RuntimeWarning,
                stacklevel=2,
            )
    return found


@cache
def format_called(name: str) -> Format:
    """The format of a known name; the others are not imported, which a process of many can't afford."""
    if name in {entry.name for entry in entry_points(group=_GROUP)}:
        return formats()[name]
    return _own(name)


@cache
def _own(name: str) -> Format:
    return from_module(importlib.import_module(f"loaders.formats.{name}"), name)


def available() -> pl.DataFrame:
    """The formats that can be read.

    Columns: ``format`` (the name to give as ``format=``), ``title``, and true or false for what
    such logs can hold: ``thinking``, ``sent`` (what each model call was sent), ``tools`` (tool
    definitions), ``tokens``, ``outcome``.

    >>> "inspect" in available()["format"]
    True
    """
    rows = [(f.name, f.title, *(gift in f.gives for gift in GIVES)) for f in formats().values()]
    schema = {"format": pl.String, "title": pl.String, **dict.fromkeys(GIVES, pl.Boolean)}
    return pl.DataFrame(rows, schema=schema, orient="row")


def choose(format: str | ModuleType | None) -> list[Format]:
    """The formats to consider: the one that the user names, or all.

    Raises ``LoadError`` for an unknown name.
    """
    if format is None:
        return list(formats().values())
    if isinstance(format, ModuleType):
        return [from_module(format)]
    if format not in formats():
        close = get_close_matches(str(format), formats(), 1)
        meant = f" Did you mean {close[0]!r}?" if close else ""
        raise LoadError(
            f"No format is called {format!r}.{meant} Known formats: {', '.join(formats())}. For a "
            "format of your own, give its module: load(path, format=my_module)."
        )
    return [formats()[format]]


@dataclass
class Verdict:
    """What a source was recognised as: a format, part of another log, or neither and why.

    ``asked``: the question to which it answered yes.
    """

    format: Format | None
    companion_of: str | None = None
    severity: str = "skipped"
    reason: str = ""
    asked: Callable[[Head], bool] | None = None


Alike = dict[Hashable, Verdict]
"""What sources of the same look were recognised as."""


def recognise(
    source: Source,
    candidates: Sequence[Format],
    named: bool = False,
    alike: Alike | None = None,
) -> Verdict:
    """Which of the candidates a source is written in, by its content.

    ``named``: the user named the one candidate, so it is taken wherever the source is text. An SQLite
    database is of a format only where that format knows its tables. ``alike``: what is known of other
    sources and the same candidates, to which this one is added. Of a source that looks like one of
    them only the format of that one is asked: thousands of small files cost little that way.
    """
    try:
        head = source.head
        unreadable = _why_unreadable(head)
    except OSError as error:
        return Verdict(None, severity="error", reason=f"can't be opened: {error.strerror or error}")
    except UnreadableRecord as error:
        return Verdict(None, severity="error", reason=error.reason)
    if unreadable is not None:
        return unreadable
    look = None if alike is None else _look_of(head)
    known = alike.get(look) if alike and look is not None else None
    if known is not None and _is_still_true(known, head):
        return known
    verdict = _asked_all(source, head, candidates, named)
    if alike is not None and look is not None and verdict.asked is not None:
        alike[look] = verdict
    return verdict


def _asked_all(source: Source, head: Head, candidates: Sequence[Format], named: bool) -> Verdict:
    said_yes: list[Format] = []
    for candidate in candidates:
        if candidate.companion is not None and _says_yes(candidate.companion, head):
            return Verdict(None, companion_of=candidate.name, asked=candidate.companion)
        if (named and not head.is_zip and not head.is_database) or _says_yes(candidate.sniff, head):
            said_yes.append(candidate)
    if len(said_yes) == 1:
        return Verdict(said_yes[0], asked=None if named else said_yes[0].sniff)
    if said_yes:
        names = [candidate.name for candidate in said_yes]
        return Verdict(
            None,
            severity="error",
            reason=f"reads as {' and as '.join(names)}; name one with format={names[0]!r}",
        )
    if head.is_zip and source.member is not None:
        reason = "an archive inside an archive; unpack the outer one first"
        return Verdict(None, severity="error", reason=reason)
    if head.damage:
        return Verdict(None, severity="error", reason=head.damage)
    if head.is_database:
        return Verdict(None, reason="an SQLite database, no agent log")
    return Verdict(None, reason="no known format")


def _look_of(head: Head) -> Hashable:
    """By what a JSON file resembles those of the same kind: how its name ends, its layout and its keys.

    None where these are too little to go by. It only says whose question to ask first, and as no log of
    one format is one of another, too, its yes is enough.
    """
    if not head.keys or head.is_zip or head.is_database:
        return None
    ends = head.filename.partition(".")[2].translate(_DIGITS)
    return ends, head.is_json_lines, is_array(head.value), head.keys


_DIGITS = str.maketrans("123456789", "000000000")


def _is_still_true(known: Verdict, head: Head) -> bool:
    return known.asked is not None and _says_yes(known.asked, head)


_OTHER_FILES = (
    (0, b"\xff\xfe", "error", "UTF-16 text; save it as UTF-8"),
    (0, b"\xfe\xff", "error", "UTF-16 text; save it as UTF-8"),
    (257, b"ustar", "error", "a tar archive; unpack it first"),
    (0, b"BZh", "error", "packed by bzip2; unpack it first"),
    (0, b"\xfd7zXZ", "error", "packed by xz; unpack it first"),
    (0, b"7z\xbc\xaf", "error", "packed by 7-Zip; unpack it first"),
    (0, b"PK\x05\x06", "error", "empty zip archive"),
    (0, b"PAR1", "skipped", "a Parquet table, no agent log"),
)
_PICKLE_PROTOCOLS = tuple(bytes((0x80, number)) for number in range(2, 6))


def _why_unreadable(head: Head) -> Verdict | None:
    """What speaks against reading a file, whatever its format; None if nothing does."""
    if not head.data.strip():
        reason = "empty file" if head.is_whole else "blank in its first 16 KB"
        return Verdict(None, severity="error", reason=head.damage or reason)
    if head.data.startswith(_PICKLE_PROTOCOLS):
        reason = "a pickle; refused, opening it could run code"
        return Verdict(None, severity="error", reason=reason)
    for offset, magic, severity, reason in _OTHER_FILES:
        if head.data.startswith(magic, offset):
            return Verdict(None, severity=severity, reason=reason)
    if head.is_binary and not head.is_database:
        return Verdict(None, reason="binary file, no agent log")
    return None


def _says_yes(question: Callable[[Head], bool], head: Head) -> bool:
    try:
        return bool(question(head))
    except Exception:  # noqa: BLE001 - a head is hostile data: what a sniff stumbles over is not its format
        return False
