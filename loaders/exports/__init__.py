"""Exports: runs written out in formats that other tools read, with a list of what these can't hold.

A target is a module of this folder without a leading underscore:

    TITLE                  what it writes, for messages
    VERSIONS               versions of the format that it can write, the default first; may be empty
    write(runs, path, version, losses) -> list[Path]

``runs`` yields one run at a time, ``losses`` takes what the format has no place for.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from loaders.errors import DerailError
from loaders.exports._report import ExportReport, Losses
from loaders.exports._runs import each_run
from loaders.trajectories import Trajectories

__all__ = ["ExportReport", "export"]


def export(
    runs: Trajectories, target: str, path: str | os.PathLike[str], *, version: str | None = None
) -> ExportReport:
    """Write runs in a format that other tools read.

    ``target`` one of:

    - ``"atif"``: Harbor's Agent Trajectory Interchange Format, 1.8 or with ``version="1.7"`` that: a
      folder with a JSON file for each run, named after its ``trajectory_id``;
    - ``"openai_chat"``: a JSON Lines file with one row of ``messages`` and ``tools`` for each run;
    - ``"inspect_scout"``: a folder of Parquet files, which Inspect Scout opens as its transcripts.

    ``path`` the file or folder to write: a new one, or a folder that is empty.

    Returns an ``ExportReport``: the files, and in ``losses`` all that the format has no field for,
    with where it is kept beside or that it is left out. Positions in the raw log, fingerprints and
    what follows from the rest (counts of steps, of events, of characters) are not written and not
    listed.

    Raises ``DerailError`` for an unknown target or version, and where something is there already.

    >>> import loaders, tempfile
    >>> runs = loaders.load("sample_logs/study/*/planner-1/inspect/timeout.eval")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     report = loaders.export(runs.filter(runs.ids[:2]), "atif", folder)
    >>> report.runs, len(report.paths)
    (2, 2)
    """
    writer = _target(target)
    versions: tuple[str, ...] = writer.VERSIONS
    if version is not None and version not in versions:
        known = ", ".join(versions) or "none to choose from"
        raise DerailError(f"{target!r} can't be written in version {version!r}; versions: {known}.")
    place = Path(path)
    _refuse_to_replace(place)
    place.parent.mkdir(parents=True, exist_ok=True)
    losses = Losses()
    chosen = version or next(iter(versions), None)
    paths = writer.write(each_run(runs), place, chosen, losses)
    return ExportReport(target, chosen, place, paths, losses.runs, losses.frame())


def _target(name: str) -> Any:
    known = sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_"))
    if name not in known:
        close = get_close_matches(str(name), known, 1)
        meant = f" Did you mean {close[0]!r}?" if close else ""
        raise DerailError(
            f"Runs can't be exported as {name!r}.{meant} Known targets: {', '.join(known)}."
        )
    return importlib.import_module(f"loaders.exports.{name}")


def _refuse_to_replace(place: Path) -> None:
    is_free = place.is_dir() and not any(place.iterdir())
    if place.exists() and not is_free:
        raise DerailError(f"{place} is there already; give a new path, or remove it first")
