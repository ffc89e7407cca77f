"""Logs that no real model made say so: in their own metadata, or by a file beside or above them.

A log is marked where its metadata holds ``"simulated": true``, at any depth, or where its folder or one
above it holds a file named ``SIMULATED``; the builder writes the second into the metadata too, so that
the mark goes wherever the run goes: through filters, stores and sums of sets.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Final

import polars as pl

MARKER: Final = "SIMULATED"
_KEY: Final = '"simulated":true'
_LEVELS: Final = 12


def marked(metadata: str | None) -> str:
    """A run's metadata, as JSON text, with the mark in it."""
    if metadata is None or metadata == "{}":
        return f"{{{_KEY}}}"
    return metadata if _KEY in metadata else f"{{{_KEY},{metadata[1:]}"


def is_simulated() -> pl.Expr:
    """Whether the ``metadata`` of a run says that it is simulated; what says nothing is not."""
    return pl.col("metadata").str.contains(_KEY, literal=True).fill_null(value=False)


def stands_under_marker(path: Path) -> bool:
    """Whether a file named ``SIMULATED`` lies in the file's folder or above it."""
    return _is_marked(path.absolute().parent, _LEVELS)


@lru_cache(maxsize=4096)
def _is_marked(folder: Path, levels: int) -> bool:
    if (folder / MARKER).is_file():
        return True
    return levels > 0 and folder != folder.parent and _is_marked(folder.parent, levels - 1)
