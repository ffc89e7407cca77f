"""From what the user names to sources: paths, folders, globs, and templates with labels."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from operator import attrgetter
from pathlib import Path
from typing import Any, cast

from loaders.errors import LoadError, UnreadableRecord
from loaders.sources import Source

PathLike = str | os.PathLike[str]
Labels = dict[str, str]

_FIELD = re.compile(r"\{([A-Za-z_]\w*)\}")
_WILD = re.compile(r"(\{[A-Za-z_]\w*\}|\*\*/?|\*|\?|\[!?[^\]]+\])")


@dataclass
class Found:
    """A source, the labels that a template took from its path, and why it can't be read if so."""

    source: Source
    labels: Labels
    problem: str | None = None
    severity: str = "error"


def discover(paths: PathLike | Iterable[PathLike]) -> Iterator[Found]:
    """Every file that the given paths, folders, globs or templates name, each once, in stable order.

    A folder is searched through, hidden files apart; links are followed, but into no folder twice.
    In a template each ``{name}`` stands for one path part or a piece of it, and becomes a column.
    Paths, globs and templates may go on inside a zip archive (``runs.zip/{arm}/*.json``).

    Raises ``LoadError`` where nothing is found.
    """
    seen: set[str] = set()
    for path in _listed(paths):
        pattern = pattern_of(path)
        found = _found_at(pattern)
        first = next(found, None)
        if first is None:
            raise LoadError(
                f"Nothing found at {pattern!r} (from {Path.cwd()}). Give a file, a folder, a glob such "
                "as 'runs/**/*.jsonl', or a template such as 'runs/{arm}/{model}/*.json'."
            )
        for item in (first, *found):
            place = os.path.abspath(item.source.name)  # noqa: PTH100 - links stay as they are named
            if place not in seen:
                seen.add(place)
                yield item


def _listed(paths: Any) -> Iterable[object]:
    is_one = isinstance(paths, str | bytes | os.PathLike) or not isinstance(paths, Iterable)
    return [cast(object, paths)] if is_one else cast(Iterable[object], paths)


def pattern_of(path: object) -> str:
    """What the user named, as text.

    Raises ``LoadError`` where it is no path.
    """
    if not isinstance(path, str | os.PathLike):
        raise LoadError(
            f"load() takes paths of logs, not {type(path).__name__}. Give a file, a folder, a glob, a "
            "template, or a list of these; write logs in memory into a file first."
        )
    return str(Path(os.fspath(cast(PathLike, path))).expanduser())


def _found_at(pattern: str) -> Iterator[Found]:
    path = Path(pattern)
    return _files_below(path) if os.path.lexists(path) else _Template(path).matches()


# ---------------------------------------------------------------------- folders


def _any_name(path: Path) -> bool:
    return not path.name.startswith(".")


def _files_below(start: Path, wanted: Callable[[Path], bool] = _any_name) -> Iterator[Found]:
    """All files in and below a folder, or the one file; what can't be looked at, with the reason.

    ``wanted``: whether to look at what lies at a path.
    """
    entered: set[tuple[int, int]] = set()
    waiting = [start]
    while waiting:
        path = waiting.pop()
        try:
            status = path.stat()
            if not stat.S_ISDIR(status.st_mode):
                yield _found_file(path, status)
                continue
            if (status.st_dev, status.st_ino) in entered:
                reason = "the same folder is read already under another name (a link)"
                yield Found(Source(path), {}, reason, "skipped")
                continue
            entered.add((status.st_dev, status.st_ino))
            children = [child for child in path.iterdir() if wanted(child)]
        except OSError as error:
            broken_link = path.is_symlink() and isinstance(error, FileNotFoundError)
            reason = "a link to a file that does not exist" if broken_link else _reason(error)
            yield Found(Source(path), {}, reason)
            continue
        waiting.extend(sorted(children, key=attrgetter("name"), reverse=True))


def _found_file(path: Path, status: os.stat_result) -> Found:
    if stat.S_ISREG(status.st_mode):
        source = Source(path)
        source.size = status.st_size
        return Found(source, {})
    return Found(Source(path), {}, "no regular file (a pipe, socket or device)", "skipped")


def _reason(error: OSError) -> str:
    return f"can't be opened: {error.strerror or error}"


# ---------------------------------------------------------------------- templates


class _Template:
    """A pattern with ``*``, ``?``, ``[...]``, ``**`` and ``{name}``, matched while walking."""

    def __init__(self, path: Path) -> None:
        self._parts = path.parts
        texts = [Path(*path.parts[:depth]).as_posix() for depth in range(len(path.parts) + 1)]
        self._up_to_depth = [_template_regex(text) for text in texts]
        self._names = dict.fromkeys(_FIELD.findall(path.as_posix()))
        wild = (depth for depth, part in enumerate(path.parts) if "**" in part)
        self._open_below = next(wild, len(path.parts))

    def matches(self) -> Iterator[Found]:
        """Files on disk that match, or, where there are none, members of archives on the way."""
        nothing = True
        on_the_way: list[Source] = []
        for found in _files_below(self._start(), self._is_on_the_way):
            labels = self._labels(found.source.path.as_posix())
            if labels is not None:
                nothing = False
                yield replace(found, labels=labels)
            elif found.problem is None:
                on_the_way.append(found.source)
            elif found.severity == "error":
                yield found
        if nothing:
            for source in on_the_way:
                yield from self._members(source)

    def _start(self) -> Path:
        depth = next((d for d, part in enumerate(self._parts) if _WILD.search(part)), None)
        start = Path(*self._parts[:depth])
        while not os.path.lexists(start) and start != start.parent:
            start = start.parent
        return start

    def _is_on_the_way(self, path: Path) -> bool:
        depth = len(path.parts)
        if path.name.startswith(".") and not self._part_at(depth - 1).startswith("."):
            return False
        if depth > min(self._open_below, len(self._parts)):
            return True
        return self._up_to_depth[depth].fullmatch(path.as_posix()) is not None

    def _part_at(self, depth: int) -> str:
        return self._parts[depth] if depth < len(self._parts) else ""

    def _labels(self, place: str) -> Labels | None:
        match = self._up_to_depth[-1].match(place)
        return None if match is None else {name: match[name] for name in self._names}

    def _members(self, source: Source) -> Iterator[Found]:
        try:
            archive = source.archive if source.head.is_zip else None
        except (OSError, UnreadableRecord):
            return
        source.release()
        for member in archive.names if archive else ():
            found = Source(source.path, member)
            labels = self._labels(found.name)
            if labels is not None:
                yield Found(found, labels)
        if archive and archive.damage:
            yield Found(source, {}, archive.damage)


def _template_regex(pattern: str) -> re.Pattern[str]:
    """The same template as a regular expression with a group for each field.

    >>> _template_regex("runs/{arm}/**/*.json").match("runs/kept/a/b/1.json")["arm"]
    'kept'
    """
    seen: set[str] = set()
    out: list[str] = []
    for piece in _WILD.split(pattern):
        if field := _FIELD.fullmatch(piece):
            name = field[1]
            out.append(f"(?P={name})" if name in seen else f"(?P<{name}>[^/]+?)")
            seen.add(name)
        elif piece.startswith("**"):
            out.append("(?:.*/)?" if piece.endswith("/") else ".*")
        elif piece == "*":
            out.append("[^/]*")
        elif piece == "?":
            out.append("[^/]")
        elif piece.startswith("["):
            negated = piece[1] == "!"
            letters = re.sub(r"([\\\[\]^&~|])", r"\\\1", piece[1 + negated : -1])
            out.append(f"[{'^' if negated else ''}{letters}]")
        else:
            out.append(re.escape(piece))
    return re.compile("".join(out) + r"(?=$|/)")
