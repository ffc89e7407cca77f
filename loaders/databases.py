"""SQLite databases as logs: opened for reading alone, and trusted in nothing.

A database may be made to do harm to who reads it: views and triggers run what they like, a recursive
query never ends, a generated column is as long as it likes. So only plain tables can be read, without
any function, view or recursion, and no value is longer than ``_MOST_BYTES``.

Positions in a database are ``/table/key`` and go on as a JSON pointer inside the value: the row whose
first column is the key, and of that row the last column.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from loaders.errors import UnreadableRecord
from loaders.sources import Source

_MOST_BYTES = 256 << 20
_SIZE_OF_PAGES, _COUNT_OF_PAGES = slice(16, 18), slice(28, 32)
_ALLOWED = frozenset((sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ))


@contextmanager
def opened(source: Source) -> Generator[sqlite3.Connection]:
    """A connection that can read the plain tables of a database and do nothing else.

    Changes that still stand in a write-ahead log beside it are read along. Of a database cut short,
    what stands before the cut can be read.

    Raises ``UnreadableRecord`` where it is no database.
    """
    with tempfile.TemporaryDirectory() as folder:
        uri = _uri(source, Path(folder))
        try:
            with closing(sqlite3.connect(uri, uri=True)) as connection:
                connection.text_factory = _text
                connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _MOST_BYTES)
                connection.execute("PRAGMA trusted_schema = OFF")
                connection.execute("PRAGMA cell_size_check = ON")
                connection.set_authorizer(_may)
                yield connection
        except sqlite3.Error as error:
            raise UnreadableRecord(f"the database can't be read: {error}") from error


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _may(action: int, _1: object, _2: object, _3: object, inside: str | None) -> int:
    """Allow to read columns, unless a view or a trigger asks for them."""
    is_allowed = action in _ALLOWED and inside is None
    return sqlite3.SQLITE_OK if is_allowed else sqlite3.SQLITE_DENY


# ---------------------------------------------------------------------- files


def _uri(source: Source, folder: Path) -> str:
    """The database itself where it lies there plain and whole; else a copy."""
    log = source.beside(f"{source.filename}-wal")
    if log is not None and not log.size:
        log = None
    if source.member is None and log is None and _is_plain_and_whole(source):
        return f"{source.path.absolute().as_uri()}?mode=ro&immutable=1"
    copy = folder / "copy.db"
    for file, target in ((source, copy), (log, folder / "copy.db-wal")):
        if file is not None:
            with file.open() as stream, target.open("wb") as out:
                shutil.copyfileobj(stream, out)
    if log is not None:
        return copy.as_uri()
    if _lacks_pages(copy):
        source.problem(None, "the database is cut short; what stands before the cut is read")
        _forget_missing_pages(copy)
    return f"{copy.as_uri()}?mode=ro&immutable=1"


def _is_plain_and_whole(source: Source) -> bool:
    with source.path.open("rb") as file:
        start = file.read(6)
    return start == b"SQLite" and not _lacks_pages(source.path)


def _pages(path: Path) -> tuple[int, int]:
    """How many pages the database says it has, and how many are there."""
    with path.open("rb") as file:
        head = file.read(100)
    size = int.from_bytes(head[_SIZE_OF_PAGES], "big")
    size = 65536 if size == 1 else max(size, 512)
    return int.from_bytes(head[_COUNT_OF_PAGES], "big"), path.stat().st_size // size


def _lacks_pages(path: Path) -> bool:
    said, there = _pages(path)
    return there < said


def _forget_missing_pages(copy: Path) -> None:
    """Let the header count the pages that are there: SQLite opens no file that lacks some."""
    _, there = _pages(copy)
    with copy.open("r+b") as file:
        file.seek(_COUNT_OF_PAGES.start)
        file.write(there.to_bytes(4, "big"))
        file.seek(0, os.SEEK_END)


# ---------------------------------------------------------------------- tables


def plain_tables(connection: sqlite3.Connection) -> set[str]:
    """Names of the tables that hold rows themselves: neither views nor virtual tables."""
    rows = connection.execute("SELECT type, name, rootpage FROM sqlite_master")
    return {
        name
        for kind, name, page in rows
        if kind == "table" and isinstance(name, str) and isinstance(page, int) and page > 0
    }


def value_at(source: Source, pointer: str) -> tuple[Any, str]:
    """The value of the row that a position names, and the rest of the position inside it.

    Raises ``UnreadableRecord`` where there is none.
    """
    table, _, rest = pointer[1:].partition("/")
    key, slash, rest = rest.partition("/")
    with opened(source) as connection:
        if table in plain_tables(connection):
            row = _row(connection, _quoted(table), _unescaped(key))
            if row is not None:
                return row[-1], slash + rest
    raise UnreadableRecord("the database no longer holds this row", pointer)


def _row(connection: sqlite3.Connection, table: str, key: str) -> tuple[Any, ...] | None:
    """The row of a key; where the index is damaged, found by going through the table."""
    first = connection.execute(f"SELECT * FROM {table} LIMIT 0").description[0][0]  # noqa: S608 - a quoted name
    query = f"SELECT * FROM {table} WHERE {{}}{_quoted(first)} = ? LIMIT 1"  # noqa: S608 - quoted names
    try:
        return connection.execute(query.format(""), (key,)).fetchone()
    except sqlite3.DatabaseError:
        return connection.execute(query.format("+"), (key,)).fetchone()


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _unescaped(token: str) -> str:
    return token.replace("~1", "/").replace("~0", "~")
