"""Loss accounting: is every value of a raw log in the tables, or left out for a stated reason?"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from html import escape
from types import ModuleType
from typing import Any

import polars as pl

from loaders.builder import Builder, files_of
from loaders.discovery import PathLike
from loaders.errors import LoadError, UnreadableRecord
from loaders.experiment import Cells, experiment, is_empty, leaves_of
from loaders.leaves import Leaf, Node, Tree, as_pattern, covering
from loaders.logs import Group, read_source
from loaders.progress import progress_bar
from loaders.reading import grouped
from loaders.redact import redact_text
from loaders.sources import Source

COVERAGE = pl.Schema(
    {
        "format": pl.String,
        "path": pl.String,
        "within": pl.String,
        "leaves": pl.Int64,
        "kept": pl.Int64,
        "told": pl.Int64,
        "ignored": pl.Int64,
        "lost": pl.Int64,
        "empty": pl.Int64,
        "reason": pl.String,
        "source": pl.String,
        "example": pl.String,
    }
)
_COUNTS = ("leaves", "kept", "told", "ignored", "lost", "empty")


@dataclass(frozen=True)
class Coverage:
    """What became of every value in some logs.

    ``frame`` has a row per path of each format: ``path`` a JSON pointer with ``*`` for any index;
    ``within`` what the objects around it say they are; ``leaves`` values at that path, and of them
    ``kept`` those that stand in the tables as they are, ``told`` those whose change changes the
    tables, ``ignored`` those that the format leaves out for ``reason``, ``lost`` the others, ``empty``
    nulls and empty texts; ``source`` and ``example`` a file and a value of those not kept.
    ``unread``: (file, reason) of what could not be accounted for.
    """

    frame: pl.DataFrame
    unread: tuple[tuple[str, str], ...] = ()

    @property
    def lost(self) -> pl.DataFrame:
        """The paths that lose values, most of them first."""
        return self.frame.filter(pl.col("lost") > 0).sort("lost", descending=True)

    @property
    def by_format(self) -> pl.DataFrame:
        """The counts of each format."""
        sums = [pl.col(name).sum() for name in _COUNTS]
        return self.frame.group_by("format").agg(sums).sort("format")

    def _lines(self) -> list[str]:
        lines = [
            f"{row['format']}: {row['leaves']:,} values: {row['kept']:,} kept as they are, "
            f"{row['told']:,} told in other words, {row['ignored']:,} ignored for a stated reason, "
            f"{row['empty']:,} empty, {row['lost']:,} lost"
            for row in self.by_format.iter_rows(named=True)
        ]
        lost = self.lost.head(12).iter_rows(named=True)
        lines += [
            f"  lost {r['lost']:,} at {r['path']} {r['within']} e.g. {r['example']}" for r in lost
        ]
        return lines + [f"  not accounted for: {name}: {reason}" for name, reason in self.unread]

    def __repr__(self) -> str:
        return "\n".join(self._lines())

    def _repr_html_(self) -> str:
        return "<pre>" + "\n".join(escape(line) for line in self._lines()) + "</pre>"


def coverage(
    paths: PathLike | Iterable[PathLike],
    format: str | ModuleType | None = None,
    *,
    progress: bool | None = None,
) -> Coverage:
    """Check that loading some logs loses nothing: account for every value in the raw files.

    ``paths`` and ``format`` as in ``load``. A value is *kept* if the tables hold it as it is. Of the
    others, a format may leave some out and says why. For the rest the proof is by experiment: all
    values at a path are changed and the log is read once more; if the tables change too, they are
    *told* (a type became a kind, a text a time). Where not, they are *lost*. Of long texts, four are
    changed one by one besides. One file for each path is tried, the smallest that has it.

    Takes time in proportion to the logs, and for the experiments to the number of different paths.

    Raises ``LoadError`` where nothing can be read.

    >>> coverage("sample_logs/frameworks/mini_swe_agent/openai").lost.height
    0
    """
    groups = grouped(paths, format)
    if not groups:
        raise LoadError("No log of a known format is there: load() the same path to see why.")
    account = _Account()
    for number, group in enumerate(groups):
        account.take_in(number, group)
    account.try_out(groups, progress)
    return Coverage(account.frame(), tuple(account.unread))


@dataclass
class _Path:
    """The values at one path of one format."""

    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_COUNTS, 0))
    reason: str | None = None
    open: int = 0
    """Values that are neither kept nor ignored."""
    group: int = -1
    size: float = float("inf")
    source: str | None = None
    example: str | None = None


Key = tuple[str, str, str]


class _Account:
    def __init__(self) -> None:
        self.paths: dict[Key, _Path] = {}
        self.unread: list[tuple[str, str]] = []

    def take_in(self, number: int, group: Group) -> None:
        """Count the values of a log: those in its tables, those that its format ignores, the others."""
        chosen, parts, _ = group
        builder = Builder()
        read_source(chosen, parts, builder)
        cells = Cells(builder.frames())
        ignoring = covering(tuple(chosen.ignored))
        files = files_of(parts[0])
        size = sum(file.size for file in files)
        for name, tree in self._trees(files):
            for item in tree.walk(cells.have_node):
                path = self.paths.setdefault((chosen.name, item.path, item.within), _Path())
                if isinstance(item, Node):
                    count = sum(1 for _ in leaves_of(item.value))
                    path.counts["leaves"] += count
                    path.counts["kept"] += count
                    continue
                is_open = self._is_open(path, item, cells, chosen.ignored, ignoring)
                path.open += is_open
                if is_open and size < path.size:
                    path.group, path.size, path.source = number, size, name
                    path.example = _shown(item.value)

    def _trees(self, files: list[Source]) -> Iterator[tuple[str, Tree]]:
        for file in files:
            try:
                prefix = "" if file in files[0].parts else f"{as_pattern(file.filename)}#"
                yield file.name, Tree(file, prefix)
            except (UnreadableRecord, OSError) as error:
                self.unread.append((file.name, str(error)))

    @staticmethod
    def _is_open(
        path: _Path,
        leaf: Leaf,
        cells: Cells,
        reasons: Mapping[str, str],
        ignoring: Callable[[str, str], str | None],
    ) -> bool:
        """Count the value; whether it is neither kept nor ignored."""
        path.counts["leaves"] += 1
        if is_empty(leaf.value):
            path.counts["empty"] += 1
        elif cells.have(leaf.value):
            path.counts["kept"] += 1
        elif (pattern := ignoring(leaf.path, leaf.within)) is not None:
            path.counts["ignored"] += 1
            path.reason = reasons[pattern]
        else:
            return True
        return False

    def try_out(self, groups: list[Group], progress: bool | None) -> None:
        """For each path with open values: does it change the tables when they are changed?"""
        wanted: dict[int, set[Key]] = {}
        for key, path in self.paths.items():
            if path.open:
                wanted.setdefault(path.group, set()).add(key)
        with progress_bar(sum(map(len, wanted.values())), progress, "checking", " paths") as bar:
            for number, keys in wanted.items():
                told = self._told(groups[number], sorted(keys), bar)
                for key in keys:
                    path = self.paths[key]
                    path.counts["told" if key in told else "lost"] += path.open

    @staticmethod
    def _told(group: Group, keys: list[Key], bar: Any) -> set[Key]:
        """Those of the keys that are told: first tried on a part of a large log, then on all of it."""
        told: set[Key] = set()
        with experiment(group) as trial:
            for key in keys:
                if trial.tells(key[1], key[2]):
                    told.add(key)
                bar.update(1)
            is_whole = trial.is_whole
        if not is_whole and len(told) < len(keys):
            with experiment(group, whole=True) as trial:
                told.update(key for key in keys if key not in told and trial.tells(key[1], key[2]))
        return told

    def frame(self) -> pl.DataFrame:
        """A row per path."""
        rows = [
            {
                "format": key[0],
                "path": key[1],
                "within": key[2],
                **path.counts,
                "reason": path.reason,
                "source": path.source,
                "example": path.example,
            }
            for key, path in sorted(self.paths.items())
        ]
        return pl.DataFrame(rows, schema=COVERAGE)


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else repr(value)
    return redact_text(text[:80])[0]
