"""Sessions of Claude Code are read in shorter ways where they can be: all give the same tables."""

from __future__ import annotations

from collections import deque
from pathlib import Path

import polars as pl
import pytest
from claude_sessions import session

import loaders
from loaders.formats._claude_code_lines import Line
from loaders.formats._claude_code_plain import PlainLines
from loaders.formats._claude_code_telling import Telling

TABLES = ("trajectories", "steps", "events", "tools", "problems")
Tables = dict[str, pl.DataFrame]


def tables(path: Path) -> Tables:
    runs = loaders.load(path, format="claude_code", progress=False)
    return {name: getattr(runs, name).collect() for name in TABLES}


def same(one: Tables, other: Tables) -> None:
    for name, table in one.items():
        assert table.equals(other[name]), name


def one_by_one(path: Path) -> Tables:
    """The tables if no line is plain."""

    def nothing(
        _: PlainLines, groups: deque[Line], history_edit: str | None, end: str | None
    ) -> str | None:
        return end

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PlainLines, "tell", nothing)
        return tables(path)


@pytest.mark.parametrize("rare", [0.0, 0.01, 0.05, 0.2, 0.5])
@pytest.mark.parametrize("subagents", [0.0, 0.3])
def test_plain_lines_are_told_as_any_others(tmp_path: Path, rare: float, subagents: float) -> None:
    for seed in range(3):
        path = tmp_path / f"{seed}.jsonl"
        path.write_text(session(seed, 200, rare, subagents))
        read = tables(path)
        same(read, one_by_one(path))
        assert read["events"].height > 150


def test_plain_lines_are_told_in_the_short_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the comparison would compare nothing, and reading would be slow."""
    path = tmp_path / "s.jsonl"
    path.write_text(session(0, 9_000, 0.0, 0.0))
    slow = one_by_one(path)
    assert slow["events"].height > 2 * 4_096
    told: list[str] = []
    tell = Telling._tell

    def counted(telling: Telling, line: Line) -> None:
        told.append(line.type)
        tell(telling, line)

    monkeypatch.setattr(Telling, "_tell", counted)
    same(tables(path), slow)
    assert len(told) < 0.1 * slow["events"].height
    assert "assistant" not in told


def test_real_sessions_read_the_same(real_logs: Path) -> None:
    for path in (real_logs / "claude_code").rglob("*.jsonl"):
        same(tables(path), one_by_one(path))
