"""SQLite databases as logs: what can be read of them, and what can't be done through them."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from loaders.databases import opened, plain_tables, value_at
from loaders.errors import UnreadableRecord
from loaders.raw import raw_record
from loaders.sources import Source


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / 'a "b" #1?.db'
    with sqlite3.connect(path) as connection:
        connection.execute('CREATE TABLE "odd ""name" (key TEXT PRIMARY KEY, value BLOB)')
        connection.execute("CREATE TABLE other (key TEXT, a INT, value TEXT)")
        connection.execute("CREATE VIEW seen AS SELECT key, value FROM other")
        connection.execute("CREATE VIRTUAL TABLE found USING fts4(key)")
        connection.execute('INSERT INTO "odd ""name" VALUES (\'a/b\', ?)', (b'{"x": [1, "y"]}',))
        connection.execute("INSERT INTO other VALUES ('k', 1, 'text')")
        connection.execute("INSERT INTO other VALUES ('bad', 1, CAST(x'ff41' AS TEXT))")
    connection.close()
    return path


def test_a_position_leads_to_a_row_and_into_its_value(database: Path) -> None:
    assert raw_record(str(database), '/odd "name/a~1b/x/1') == "y"
    assert raw_record(str(database), "/other/k") == "text"
    assert value_at(Source(database), "/other/bad")[0] == "\ufffdA"
    for place in ("/other/none", "/nothing/k", "/seen/k", "/found/k", ""):
        with pytest.raises(UnreadableRecord, match="no longer holds"):
            raw_record(str(database), place)


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM other",
        "SELECT key FROM seen",
        "SELECT randomblob(10)",
        "SELECT load_extension('x')",
        "PRAGMA user_version = 3",
        "ATTACH DATABASE ':memory:' AS more",
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i FROM n) SELECT i FROM n",
    ],
)
def test_nothing_but_plain_rows_can_be_read(database: Path, statement: str) -> None:
    before = database.read_bytes()
    with (
        pytest.raises(UnreadableRecord, match=r"not authorized|prohibited"),
        opened(Source(database)) as connection,
    ):
        connection.execute(statement).fetchall()
    assert database.read_bytes() == before


def test_views_and_virtual_tables_are_no_plain_tables(database: Path) -> None:
    with opened(Source(database)) as connection:
        assert {'odd "name', "other"} <= plain_tables(connection)
        assert not {"seen", "found"} & plain_tables(connection)


def test_what_is_no_database_says_so(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    for content in (b"SQLite format 3\0", b"SQLite format 3\0" + bytes(5_000), b"no database"):
        path.write_bytes(content)
        with pytest.raises(UnreadableRecord), opened(Source(path)) as connection:
            plain_tables(connection)
