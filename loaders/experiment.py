"""What the tables hold of a log, and whether they change when a value of the log does."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, cast

import msgspec
import polars as pl

from loaders.builder import Builder, Frames, files_of
from loaders.errors import UnreadableRecord
from loaders.jsontext import decode
from loaders.leaves import Leaf, Line, Node, Tree, as_pattern, covering
from loaders.logs import Group, read_source
from loaders.redact import REDACTED, redact_object, redact_text
from loaders.registry import Format
from loaders.sources import Source
from loaders.values import as_time, is_array, is_object, well_formed

_SHORTEST_VERBATIM = 8
"""A shorter text stands in the tables by accident too often to count as found."""
_SHORTEST_PIECE = 16
_SMALLEST_NUMBER = 10_000
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d.\d\d")
_LONG = 17
"""Of texts so long some are changed one by one: that one of them is told says little of the others."""
_TRIED_ONE_BY_ONE = 4
_MANY_RUNS = 20
_SEARCHED_BYTES = 2_000_000_000
_NOT_COMPARED = ("trajectory_id", "parent_id", "source", "source_hash")
_OPENS = ("{", "[")
_OPENS_A_KEY = ('{"', '[{"')
_JSON_COLUMNS = ("arguments", "metadata", "params", "parameters", "raw")


# ---------------------------------------------------------------------- what the tables hold


class Cells:
    """All texts and numbers in the tables of a log, and in the JSON that stands in some of them."""

    def __init__(self, frames: Frames) -> None:
        self.texts: set[str] = set()
        self.numbers: set[float] = set()
        self.times: set[datetime] = set()
        for name in ("trajectories", "steps", "events", "tools"):
            for column in frames[name].iter_columns():
                self._take(column)
        self.texts.discard("")  # what can't be written as JSON is no text, and not this one
        self._all = ""
        self._searchable = _SEARCHED_BYTES
        self._searched: dict[str, bool] = {}

    def _take(self, column: pl.Series) -> None:
        """Without Polars' expressions, each of which takes longer than all of a small log's cells."""
        if column.null_count() == len(column):
            return
        if column.dtype == pl.List(pl.String):
            column = column.explode()
        if column.dtype == pl.Datetime:
            self.times.update(value for value in column.to_list() if value is not None)
        elif column.dtype.is_numeric():
            self.numbers.update(value for value in column.to_list() if value is not None)
        elif isinstance(column.dtype, pl.List) and "raw" in str(column.dtype):
            scores = column.explode().drop_nulls().struct.unnest()
            for inner in scores.iter_columns():
                self._take(inner)
        elif column.dtype == pl.String:
            texts: set[str] = {text for text in column.to_list() if text is not None}
            self.texts |= texts
            if column.name in _JSON_COLUMNS:
                for text in texts:
                    self._open(text)

    def _open(self, text: str) -> None:
        """The texts and values inside a cell of JSON."""
        try:
            value = decode(text.encode())
        except UnreadableRecord:
            return
        for inner in _nodes_of(value):
            if isinstance(inner, str):
                self.texts.add(inner)
            elif isinstance(inner, int | float):
                self.numbers.add(inner)
            elif inner:
                self.texts.add(msgspec.json.encode(inner).decode())

    def have_node(self, value: Any) -> bool:
        """Whether an object, an array or a text of JSON stands in the tables as a whole."""
        if isinstance(value, str):
            return value in self.texts
        if _beginning_of(value) not in self._beginnings:
            return False
        if not self._hold_redacted and _written(value) not in self.texts:
            return False  # without credentials it is not there, and none was taken out of anything
        return _json_of(value) in self.texts

    @cached_property
    def _hold_redacted(self) -> bool:
        return any(REDACTED in text for text in self.texts)

    @cached_property
    def _beginnings(self) -> set[str]:
        """How the texts of JSON begin: most objects of a log need not be written to be told from them."""
        return {_beginning(text) for text in self.texts if text[:1] in _OPENS}

    def have(self, value: Any) -> bool:
        """Whether a value is in the tables, and too telling for that to be an accident."""
        if isinstance(value, bool):
            return False
        if self._have_time(value):
            return True
        if isinstance(value, int | float):
            return value in self.numbers and (abs(value) >= _SMALLEST_NUMBER or value % 1 != 0)
        text = redact_text(well_formed(value))[0]
        if len(text) < _SHORTEST_VERBATIM:
            return False
        if text in self.texts or text.strip() in self.texts:
            return True
        return len(text) >= _SHORTEST_PIECE and self._hold_in_a_text(text.strip())

    def _have_time(self, value: Any) -> bool:
        """Whether a moment is in a column of times: to less than a second, or it is no proof."""
        if isinstance(value, str) and not _MOMENT.match(value):
            return False
        moment = as_time(value)
        return moment is not None and moment.microsecond != 0 and moment in self.times

    def _hold_in_a_text(self, text: str) -> bool:
        if text not in self._searched:
            self._all = self._all or "\0".join(self.texts)
            self._searchable -= len(self._all)
            self._searched[text] = self._searchable > 0 and text in self._all
        return self._searched[text]


def _beginning(text: str) -> str:
    """A text of JSON up to its first key; of an array of anything but objects two letters.

    >>> _beginning('[{"role":"user","text":"hi"}]'), _beginning('["a","b"]')
    ('[{"role":', '["')
    """
    return text[: text.find('":') + 2] if text.startswith(_OPENS_A_KEY) else text[:2]


def _beginning_of(value: Any) -> str:
    """What ``_beginning`` says of ``_json_of`` the value: its credentials stand behind that.

    >>> _beginning_of([{"role": "user", "text": "hi"}])
    '[{"role":'
    """
    return _beginning(_written(_first_in(value)))


def _first_in(value: Any) -> Any:
    """An object with the first of its keys, or the array of its first item alone."""
    if is_object(value):
        return dict.fromkeys(islice(value, 1))
    return [_first_in(item) if is_object(item) else item for item in value[:1]]


def _json_of(value: Any) -> str:
    """As ``loaders.values.as_json`` writes it, after credentials are taken out."""
    return _written(redact_object(value)[0])


def _written(value: Any) -> str:
    try:
        return msgspec.json.encode(value).decode()
    except (TypeError, UnicodeEncodeError):
        return ""


def _nodes_of(value: Any) -> Iterator[Any]:
    yield value
    if is_object(value):
        for item in value.values():
            yield from _nodes_of(item)
    elif is_array(value):
        for item in value:
            yield from _nodes_of(item)


def leaves_of(value: Any) -> Iterator[Any]:
    return (inner for inner in _nodes_of(value) if not isinstance(inner, dict | list))


def is_empty(value: Any) -> bool:
    """Whether there is nothing to keep of a value."""
    return value is None or (isinstance(value, str | list | dict) and not value)


# ---------------------------------------------------------------------- proof by experiment


_Ignoring = Callable[[str, str], str | None]
"""Which pattern of ignored paths covers a path, and what the objects around it say they are."""


class _Place(NamedTuple):
    """Where a value stands: in a copy of a file, in a line of it."""

    file: Path
    line: Line
    leaf: Leaf


@contextmanager
def experiment(group: Group, whole: bool = False) -> Generator[_Experiment]:
    """Copies of a log to change values in; unless ``whole``, without more of the same."""
    with tempfile.TemporaryDirectory() as folder:
        yield _Experiment(group, Path(folder), whole)


class _Experiment:
    """Copies of a log's files, in which values are changed; ``is_whole`` if nothing is left out."""

    def __init__(self, group: Group, folder: Path, whole: bool) -> None:
        self.is_whole = True
        self._leaves_out = not whole
        self._format: Format
        self._format, self._parts, _ = group
        files = files_of(self._parts[0])
        self._base = Path(os.path.commonpath([file.path.parent.absolute() for file in files]))
        self._folder = folder
        self._trees: dict[Path, Tree] = {}
        self._leaves: dict[tuple[str, str], list[_Place]] = {}
        self._written: dict[Line, bytes] = {}
        """The lines of all files, as they are before anything is changed."""
        self._changed: set[Path] = set()
        """Files in which the last change still stands."""
        tables = self._read_from(self._parts)
        self._runs = tables["trajectories"].height
        cells = Cells(tables)
        ignoring = covering(tuple(self._format.ignored))
        for file in files:
            self._copy(file, cells, ignoring)
        for target, tree in self._trees.items():
            target.write_bytes(tree.content(self._written))
        self._before = self._read()

    def _copy(self, file: Source, cells: Cells, ignoring: _Ignoring) -> None:
        target = self._place(file)
        target.parent.mkdir(parents=True, exist_ok=True)
        if target not in self._trees:
            try:
                self._trees[target] = Tree(Source(file.path))
            except UnreadableRecord:
                target.write_bytes(file.path.read_bytes())
                return
        tree = self._trees[target]
        if file.member is not None:
            member = tree.members[file.member]
            tree = cast(Tree, member)
        tree.prefix = "" if file in self._parts else f"{as_pattern(file.filename)}#"
        has_alike_lines = tree.is_lines and _MANY_RUNS < len(tree.root) <= 2 * self._runs
        if self._leaves_out and (has_alike_lines or (file.member is None and tree.members)):
            self.is_whole = False
            tree.keep(_first_with_each_path(tree, cells, ignoring))
        for line, walk in tree.walks(cells.have_node):
            for leaf in _open_leaves(walk, cells, ignoring):
                places = self._leaves.setdefault((leaf.path, leaf.within), [])
                places.append(_Place(target, line, leaf))

    def _place(self, file: Source) -> Path:
        return self._folder / file.path.absolute().relative_to(self._base)

    def _read(self) -> Frames:
        return self._read_from([Source(self._place(part), part.member) for part in self._parts])

    def _read_from(self, parts: list[Source]) -> Frames:
        builder = Builder()
        read_source(self._format, [Source(part.path, part.member) for part in parts], builder)
        return {
            name: frame.drop(_NOT_COMPARED, strict=False)
            for name, frame in builder.frames().items()
        }

    def tells(self, path: str, within: str) -> bool:
        """Whether the tables change when all values at the path do, and when single long ones do."""
        places = self._leaves.get((path, within), [])
        if not places or not self._change_tells(places):
            return False
        long = [place for place in places if len(str(place.leaf.value)) >= _LONG]
        chosen = long[:: max(1, len(long) // _TRIED_ONE_BY_ONE)][:_TRIED_ONE_BY_ONE]
        return len(places) == 1 or all(self._change_tells([place]) for place in chosen)

    def _change_tells(self, places: list[_Place]) -> bool:
        return any(self._differs(places, change) for change in (_a_little, _wholly))

    def _differs(self, places: list[_Place], change: Callable[[Any, int], Any]) -> bool:
        """Whether the tables differ while these values are changed.

        A file is written as it was only when the next change is made, and maybe in that file again.
        """
        touched = {place.file for place in places}
        lines = {place.line for place in places}
        as_before = {line: data for line, data in self._written.items() if line not in lines}
        for number, (_, _, leaf) in enumerate(places):
            leaf.holder[leaf.key] = change(leaf.value, number)
        for file in touched | self._changed:
            file.write_bytes(self._trees[file].content(as_before))
        self._changed = touched
        after = self._read()
        for _, _, leaf in places:
            leaf.holder[leaf.key] = leaf.value
        return any(not after[name].equals(frame) for name, frame in self._before.items())


def _first_with_each_path(tree: Tree, cells: Cells, ignoring: _Ignoring) -> set[str | int]:
    """Members of an archive, or lines, that show all paths between them, the smallest members first.

    A log of a hundred alike runs would else be read whole for each path.
    """
    known: set[tuple[str, str]] = set()
    wanted: set[str | int] = set()
    for name, walk in tree.pieces(cells.have_node):
        paths = {(leaf.path, leaf.within) for leaf in _open_leaves(walk, cells, ignoring)}
        if paths - known:
            wanted.add(name)
            known |= paths
    return wanted


def _open_leaves(walk: Iterator[Leaf | Node], cells: Cells, ignoring: _Ignoring) -> Iterator[Leaf]:
    """The values that are neither empty, nor in the tables, nor ignored."""
    for leaf in walk:
        if isinstance(leaf, Node) or is_empty(leaf.value) or cells.have(leaf.value):
            continue
        if ignoring(leaf.path, leaf.within) is None:
            yield leaf


def _a_little(value: Any, _: int) -> Any:
    if isinstance(value, bool):
        return not value
    return value + "~" if isinstance(value, str) else value + 1


def _wholly(value: Any, number: int) -> Any:
    """Another value of the same type; numbers in reverse order, for they may tell an order."""
    if isinstance(value, bool):
        return None
    return f"~{number}" if isinstance(value, str) else -value - 1
