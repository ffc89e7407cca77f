"""A store on disk: which files hold which runs, and the one step in which all of that changes.

``derail.json`` names the files of the present snapshot. Everything else is written beside, under
names of its own, and is never changed; putting a new ``derail.json`` in the place of the old one is
what makes it part of the store. A reader thus sees one snapshot whole, whatever happens meanwhile
and wherever a writer is stopped.

``shards/<name>/`` runs of a batch of logs as they were read; ``shards/<name>~<hash>/`` the same with
runs left out or renamed; ``tables/`` what goes over all shards.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final
from uuid import uuid4

import msgspec
import polars as pl

from loaders.errors import DerailError, LoadError
from loaders.schema import SCHEMA_VERSION, TABLES

MANIFEST: Final = "derail.json"
LOCK: Final = "derail.lock"
SHARDS: Final = "shards"
LAYOUT: Final = 2
KEYED: Final = ("trajectories", "steps", "events")
_ORDER: Final = {"trajectories": ["run"], "steps": ["run", "step"], "events": ["run", "seq"]}
_KEPT_FOR: Final = 24 * 3600
"""Seconds for which files stay that a reader of an earlier snapshot may have open."""
_GROUP_ROWS, _SMALLEST_GROUP, _GROUP_BYTES = 16_384, 2_048, 3 << 20
"""Polars has some twenty row groups in hand at a time: a scan of texts takes that many times their bytes, and
one of narrow columns twice the time where groups have 4,096 rows and not 16,384."""
_UNSEEN_GROUP = 4_096
"""Rows of a group of a table that is written before it is known how large its rows are."""
_PIECE_ROWS = 1 << 20
"""Rows of a file that ``save`` writes: what a file says of its row groups is read before one run of it is."""


class Piece(msgspec.Struct, frozen=True):
    """A Parquet file, relative to the store, that holds all runs of a table from first to last."""

    path: str
    first: int
    last: int
    rows: int


class Manifest(msgspec.Struct):
    """The present snapshot of a store.

    ``pieces`` the files of ``trajectories``, ``steps`` and ``events``, in the order of their runs;
    ``tables`` the file of each other table, those of a conversion's bookkeeping among them; ``shards``
    what they were made of; ``next_shard`` the number of the next one; ``given`` what was converted;
    ``retired`` what earlier snapshots used, and when one last did.
    """

    store: str = "derail"
    schema_version: int = SCHEMA_VERSION
    layout: int = LAYOUT
    generation: int = 0
    pieces: dict[str, list[Piece]] = msgspec.field(default_factory=dict[str, list[Piece]])
    tables: dict[str, str] = msgspec.field(default_factory=dict[str, str])
    shards: list[str] = msgspec.field(default_factory=list[str])
    next_shard: int = 0
    given: list[str] = msgspec.field(default_factory=list[str])
    retired: dict[str, float] = msgspec.field(default_factory=dict[str, float])

    @property
    def is_converted(self) -> bool:
        """Whether ``convert`` wrote it, which knows the logs behind it; else ``save``."""
        return "logs" in self.tables

    def opened(self) -> Iterator[str]:
        """The files that readers open."""
        for listed in self.pieces.values():
            yield from (piece.path for piece in listed)
        yield from (self.tables[name] for name in TABLES if name in self.tables)

    def files(self) -> set[str]:
        """Folders of ``shards`` and files of ``tables`` that this snapshot needs."""
        pieces = [piece.path for listed in self.pieces.values() for piece in listed]
        shards = {"/".join(path.split("/")[:2]) for path in pieces if path.startswith(SHARDS)}
        return {
            *shards,
            *(f"{SHARDS}/{name}" for name in self.shards),
            *(path for path in pieces if not path.startswith(SHARDS)),
            *self.tables.values(),
        }


class OtherVersion(LoadError):
    """A store of another schema version; a newer one is left alone, an older one can be made anew."""

    def __init__(self, message: str, is_newer: bool) -> None:
        super().__init__(message)
        self.is_newer = is_newer


class _Version(msgspec.Struct):
    store: str
    schema_version: int
    layout: int = 1
    given: list[str] = msgspec.field(default_factory=list[str])


def manifest_of(folder: Path) -> Manifest | None:
    """The present snapshot; None where there is no store.

    Raises ``LoadError`` for a store of another schema version, with what to do.
    """
    try:
        data = (folder / MANIFEST).read_bytes()
        version = msgspec.json.decode(data, type=_Version)
    except (OSError, msgspec.DecodeError):
        return None
    if version.store != "derail":
        return None
    if (version.schema_version, version.layout) != (SCHEMA_VERSION, LAYOUT):
        raise OtherVersion(_other_version(folder, version), _is_newer(version))
    try:
        return msgspec.json.decode(data, type=Manifest)
    except msgspec.DecodeError:
        return None


def _is_newer(version: _Version) -> bool:
    return version.schema_version > SCHEMA_VERSION or version.layout > LAYOUT


def _other_version(folder: Path, version: _Version) -> str:
    found = (
        f"{folder} was written with schema version {version.schema_version}, this is version "
        f"{SCHEMA_VERSION}"
    )
    if _is_newer(version):
        return f"{found}; a newer Derail wrote it. Update: pip install --upgrade derail"
    return f"{found}. {made_anew_by(folder, version.given)}"


def made_anew_by(folder: Path, given: Sequence[str], resume: bool = True) -> str:
    """What to do, or to type, to have the store again."""
    import shlex

    if not given:
        return "Load the logs and save() them again."
    anew = [] if resume else ["--no-resume"]
    return f"Read its logs again: {shlex.join(['derail', 'convert', *given, str(folder), *anew])}"


def pieces_of(folder: Path, paths: Sequence[str]) -> list[Piece]:
    """Which runs the files of a table hold, in one query over all of them."""
    if not paths:
        return []
    run = pl.col("run")
    files = {str(folder / path): path for path in paths}
    table = pl.scan_parquet([*files], include_file_paths="file")
    told = table.group_by("file").agg(first=run.min(), last=run.max(), rows=pl.len())
    found = {file: rest for file, *rest in told.collect(engine="streaming").iter_rows()}
    return [Piece(path, *found.get(file, (0, 0, 0))) for file, path in files.items()]


# ---------------------------------------------------------------------- read


def table(
    folder: Path, manifest: Manifest, name: str, runs: pl.Series | None = None
) -> pl.LazyFrame:
    """A table of a snapshot, sorted by ``run`` where it has one.

    ``runs``: only files that may hold one of these are opened.
    """
    if name not in KEYED:
        return pl.scan_parquet(folder / manifest.tables[name])
    pieces = manifest.pieces[name]
    if runs is not None:
        pieces = _holding(pieces, runs) or pieces[:1]
    if not pieces:
        return pl.LazyFrame(schema=TABLES[name])
    files = [folder / piece.path for piece in pieces]
    return pl.scan_parquet(files).set_sorted("run")


def content_of(folder: Path, manifest: Manifest) -> str:
    """A digest of the files of steps and events: their names, which hold one content ever, size and age."""
    digest = hashlib.blake2b(f"{SCHEMA_VERSION}".encode(), digest_size=8)
    for name in ("steps", "events"):
        for piece in manifest.pieces.get(name, []):
            status = (folder / piece.path).stat()
            told = (piece.path, piece.first, piece.last, status.st_size, status.st_mtime_ns)
            digest.update(repr(told).encode())
    return digest.hexdigest()


def _holding(pieces: list[Piece], runs: pl.Series) -> list[Piece]:
    asked = runs.unique().sort()
    firsts = pl.Series([piece.first for piece in pieces], dtype=pl.Int64)
    lasts = pl.Series([piece.last for piece in pieces], dtype=pl.Int64)
    before = asked.search_sorted(firsts, side="left")
    until = asked.search_sorted(lasts, side="right")
    return [piece for piece, a, b in zip(pieces, before, until, strict=True) if b > a]


# ---------------------------------------------------------------------- write


@contextmanager
def writing_into(folder: Path) -> Generator[None]:
    """One writer at a time; nothing but a store, or what is to become one, is written into.

    Raises ``DerailError`` where the folder holds something else, or another process writes into it.
    """
    if folder.exists() and not folder.is_dir():
        raise DerailError(f"{folder} is a file; give a folder for the store")
    is_ours = (folder / MANIFEST).exists() or (folder / LOCK).exists()
    if folder.exists() and not is_ours and any(folder.iterdir()):
        raise DerailError(f"{folder} is not empty and no store of Derail; give another folder")
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        yield


@contextmanager
def locked(folder: Path) -> Generator[None]:
    """Hold the store's lock, which the system takes from a process that is killed."""
    from filelock import FileLock, Timeout

    lock = FileLock(folder / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise DerailError(
            f"another process is writing into {folder}; wait for it to end, or give another folder"
        ) from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def new_folder(folder: Path, name: str) -> Generator[Path | None]:
    """Write the files of a shard: they appear under its name all at once, or not at all.

    Gives None where the shard is there already.

    Raises ``DerailError`` where the disk is full or can't be written.
    """
    target = folder / SHARDS / name
    if target.exists():
        yield None
        return
    temporary = folder / SHARDS / f".{name}.{uuid4().hex[:12]}"
    with told_as_errors(folder):
        try:
            temporary.mkdir(parents=True)
            yield temporary
            for file in temporary.iterdir():
                sync(file)
            sync(temporary)
            try:
                temporary.rename(target)
            except OSError:
                if not target.exists():  # else somebody wrote the same one at the same time
                    raise
            sync(target.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def told_as_errors(folder: Path) -> Generator[None]:
    """What the disk refuses is an error that says what to do."""
    try:
        yield
    except (OSError, pl.exceptions.ComputeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise DerailError(
            f"can't write into {folder}: {reason}. The store is as it was; once there is room, the same "
            "command goes on where it stopped."
        ) from error


def sync(path: Path) -> None:
    """See to it that what was written survives a loss of power."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:  # Windows opens no folders
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_frame(frame: pl.DataFrame, path: Path) -> None:
    """A table as Parquet, in row groups that are small enough to read one run's text at once."""
    rows = _rows_per_group(frame)
    frame.write_parquet(path, compression="zstd", compression_level=1, row_group_size=rows)


def _rows_per_group(frame: pl.DataFrame) -> int:
    if frame.is_empty():
        return _GROUP_ROWS
    per_row = max(1, int(frame.estimated_size()) // frame.height)
    return max(_SMALLEST_GROUP, min(_GROUP_ROWS, _GROUP_BYTES // per_row))


def sink(table: pl.LazyFrame, path: Path) -> None:
    """The same for a table that need not fit into memory."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table.sink_parquet(path, compression="zstd", compression_level=1, row_group_size=_UNSEEN_GROUP)
    sync(path)


def _sink_in_pieces(table: pl.LazyFrame, folder: Path, stem: str) -> list[str]:
    """The same in several files, none of them too large to be opened for the sake of one run."""
    place = folder / "tables"
    place.mkdir(parents=True, exist_ok=True)
    files = pl.PartitionBy(
        place,
        file_path_provider=lambda told: f"{stem}-{told.index_in_partition:05}.parquet",
        max_rows_per_file=_PIECE_ROWS,
        approximate_bytes_per_file=None,
    )
    rows = _rows_per_group(table.head(_SMALLEST_GROUP).collect(engine="streaming"))
    table.sink_parquet(files, compression="zstd", compression_level=1, row_group_size=rows)
    written = sorted(place.glob(f"{stem}-*.parquet"))
    for path in written:
        sync(path)
    return [f"tables/{path.name}" for path in written]


def save(folder: Path, tables: Mapping[str, pl.LazyFrame]) -> None:
    """Make a set of runs in memory the store, in place of what is there."""
    try:
        before = manifest_of(folder)
    except OtherVersion:
        before = None
    name = uuid4().hex[:12]
    manifest = Manifest(generation=before.generation + 1 if before else 1)
    try:
        with told_as_errors(folder):
            for kind, frame in tables.items():
                if kind in KEYED:
                    paths = _in_order(frame, _ORDER[kind], folder, f"{kind}-{name}")
                    manifest.pieces[kind] = pieces_of(folder, paths)
                else:
                    manifest.tables[kind] = f"tables/{kind}-{name}.parquet"
                    sink(frame, folder / manifest.tables[kind])
    except BaseException:
        for file in (folder / "tables").glob(f"*-{name}*.parquet"):
            _remove(file)
        raise
    publish(folder, manifest, before, keep_for=0)


def _in_order(table: pl.LazyFrame, keys: list[str], folder: Path, stem: str) -> list[str]:
    """The pieces of a table, whose rows ascend: to group by a run whose rows lie apart would be silently wrong."""
    paths = _sink_in_pieces(table, folder, stem)
    run, within = pl.col(keys[0]), pl.col(keys[-1])
    descends = (run < run.shift(1)) | ((run == run.shift(1)) & (within < within.shift(1)))
    written = pl.scan_parquet([folder / path for path in paths])
    if not written.select(descends.any()).collect(engine="streaming").item():
        return paths
    for path in paths:
        _remove(folder / path)
    return _sink_in_pieces(table.sort(keys, maintain_order=True), folder, stem)


def publish(
    folder: Path, manifest: Manifest, before: Manifest | None, keep_for: float = _KEPT_FOR
) -> None:
    """Make a snapshot the present one; files that none needs any more are removed.

    What the snapshot before it used stays, and so does what was used ``keep_for`` seconds ago.
    """
    now = time.time()
    needed = manifest.files()
    just_used = before.files() if before else set[str]()
    used = {**(before.retired if before else {}), **dict.fromkeys(just_used, now)}
    manifest.retired = {
        name: at
        for name, at in used.items()
        if name not in needed and (name in just_used or now - at < keep_for)
    }
    sync(folder / "tables")
    unfinished = folder / f".{MANIFEST}"
    with told_as_errors(folder):
        unfinished.write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=1))
        sync(unfinished)
        unfinished.replace(folder / MANIFEST)
        sync(folder)
    _clean(folder, {*needed, *manifest.retired})


def _clean(folder: Path, needed: set[str]) -> None:
    for kept in ("tables", SHARDS):
        with suppress(OSError):
            for path in (folder / kept).iterdir():
                if f"{kept}/{path.name}" not in needed:
                    _remove(path)
    for name in TABLES:  # of a store without shards
        if f"{name}.parquet" not in needed:
            _remove(folder / f"{name}.parquet")


def _remove(path: Path) -> None:
    with suppress(OSError):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def clear_unfinished(folder: Path, but: Manifest | None) -> None:
    """Remove what a writer that was killed left half written; with ``but``, all that it does not need."""
    kept = but and {*but.files(), *but.retired}
    with suppress(OSError):
        for path in (folder / SHARDS).iterdir():
            is_unneeded = kept is not None and f"{SHARDS}/{path.name}" not in kept
            if path.name.startswith(".") or is_unneeded:
                _remove(path)
