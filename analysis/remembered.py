"""What several analyses need of the same runs is computed once: for that set of runs, or for their store."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache, wraps
from pathlib import Path
from types import ModuleType
from typing import Concatenate, Final, ParamSpec
from uuid import uuid4
from weakref import WeakKeyDictionary

import polars as pl

from loaders import Trajectories
from loaders.trajectories import stored_content

_MOST_KEPT: Final = 8
"""Results of one name for the same runs."""

_Compute = Callable[[Trajectories], pl.DataFrame]
Asked = ParamSpec("Asked")


def once_for_each_set(compute: _Compute) -> _Compute:
    """``compute``, which keeps its frame for as long as the very same set of runs lives.

    A set never changes; ``filter`` and ``label`` make another, which is computed anew. Each caller
    gets a frame of its own over the same memory, so that renaming a column in place harms nobody.
    """
    known: WeakKeyDictionary[Trajectories, pl.DataFrame] = WeakKeyDictionary()

    @wraps(compute)
    def remembered(runs: Trajectories) -> pl.DataFrame:
        frame = known.get(runs)
        if frame is None:
            frame = known[runs] = compute(runs)
        return frame.clone()

    return remembered


def kept_beside_store(
    name: str, rules: Sequence[ModuleType]
) -> Callable[
    [Callable[Concatenate[Trajectories, Asked], pl.DataFrame]],
    Callable[Concatenate[Trajectories, Asked], pl.DataFrame],
]:
    """``compute`` for all runs of a store is done once and kept in the store's folder ``found``.

    The file's name tells the runs (``stored_content``), the source of ``compute`` and of
    the modules ``rules``, and what else ``compute`` was given (values that tell themselves by ``repr``), so
    that it is no longer found when one of these is another. Nothing is kept of
    a part of a store, or where the folder can't be written. ``compute`` may look at steps and events alone:
    labels of the runs are not among what the name tells.
    """

    def kept(
        compute: Callable[Concatenate[Trajectories, Asked], pl.DataFrame],
    ) -> Callable[Concatenate[Trajectories, Asked], pl.DataFrame]:
        @wraps(compute)
        def remembered(
            runs: Trajectories, *asked: Asked.args, **named: Asked.kwargs
        ) -> pl.DataFrame:
            place = _place(runs, name, (*rules, compute.__module__), repr((asked, named)))
            if place is None:
                return compute(runs, *asked, **named)
            with suppress(OSError, pl.exceptions.PolarsError):
                return pl.read_parquet(place)
            frame = compute(runs, *asked, **named)
            with suppress(OSError, pl.exceptions.PolarsError):
                _keep(frame, place)
            return frame

        return remembered

    return kept


def _place(
    runs: Trajectories, name: str, rules: Sequence[ModuleType | str], asked: str
) -> Path | None:
    content, source = stored_content(runs), _source_of(tuple(rules), asked)
    if runs.stored_at is None or content is None or source is None:
        return None
    return runs.stored_at / "found" / f"{name}-{content}-{source}.parquet"


def _keep(frame: pl.DataFrame, place: Path) -> None:
    """Appears whole or not at all; what was kept of other contents of the store goes, and what is oldest.

    Of the same content there may be some, asked for in other ways or found by other versions of the rules.
    """
    place.parent.mkdir(exist_ok=True)
    unfinished = place.with_name(f".{place.name}.{uuid4().hex[:12]}")
    try:
        frame.write_parquet(unfinished, compression="zstd", compression_level=1)
        unfinished.replace(place)
    finally:
        unfinished.unlink(missing_ok=True)
    name, content, _ = place.name.split("-")
    kept = sorted(place.parent.glob(f"{name}-*.parquet"), key=_age)
    same = [other for other in kept if other.name.split("-")[1] == content]
    for other in {*kept} - {*same[:_MOST_KEPT]}:
        other.unlink(missing_ok=True)


def _age(file: Path) -> float:
    return -file.stat().st_mtime


@cache
def _source_of(modules: tuple[ModuleType | str, ...], asked: str) -> str | None:
    """A digest of their source, of what is asked and of Polars' version; None where the source can't be read."""
    import sys

    digest = hashlib.blake2b(f"{pl.__version__} {asked}".encode(), digest_size=8)
    for module in modules:
        file = (sys.modules[module] if isinstance(module, str) else module).__file__
        try:
            digest.update(Path(file or "").read_bytes())
        except OSError:
            return None
    return digest.hexdigest()
