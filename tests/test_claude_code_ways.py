"""Sessions of Claude Code are read in shorter ways where they can be: all give the same tables."""

from __future__ import annotations

from collections import deque
from pathlib import Path

import polars as pl
import pytest
from claude_sessions import session

import loaders
from loaders.formats import claude_code
from loaders.formats._claude_code_agents import Late
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


def while_reading(path: Path, groups_at_once: int) -> tuple[Tables, int]:
    """The tables if lines are told while the file is read, and how often that had to be given up."""
    given_up: list[bool] = []
    tell = claude_code.Session.tell_while_reading

    def counted(session: claude_code.Session) -> None:
        try:
            tell(session)
        except Late:
            given_up.append(True)
            raise

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(claude_code, "_LONG", 0)
        patch.setattr(claude_code, "_GROUPS_AT_ONCE", groups_at_once)
        patch.setattr(claude_code.Session, "tell_while_reading", counted)
        return tables(path), len(given_up)


@pytest.mark.parametrize("rare", [0.0, 0.01, 0.1, 0.5])
def test_lines_told_while_reading_are_the_same(tmp_path: Path, rare: float) -> None:
    given_up: list[int] = []
    for seed in range(8):
        for name in (f"{seed}.jsonl", f"agent-{seed}.jsonl"):
            path = tmp_path / name
            path.write_text(session(seed, 200, rare, subagents=0.1 * (seed % 2)))
            read, times = while_reading(path, groups_at_once=4 + seed)
            same(read, tables(path))
            given_up.append(times)
    assert 0 in given_up or rare > 0.1, "told while reading"
    assert 1 in given_up, "and told anew where that was too early"


def test_a_file_read_anew_leaves_others_as_they_are(tmp_path: Path) -> None:
    """What was told before is kept, with its warnings, and nothing is told twice."""
    for seed in range(4):
        text = session(seed, 300, rare=0.1)
        (tmp_path / f"{seed}.jsonl").write_text(text + '{"type": "user", "mess\n')
    read, times = while_reading(tmp_path, groups_at_once=5)
    assert times > 1
    whole = tables(tmp_path)
    for each in (read, whole):  # what is said of texts comes when they are put into columns
        each["problems"] = each["problems"].sort("source", "position", "reason")
    same(read, whole)
    reasons = read["problems"]["reason"]
    assert reasons.str.contains("credentials redacted").any()
    assert reasons.str.contains("cut short").sum() >= 4


def test_real_sessions_read_the_same(real_logs: Path) -> None:
    for path in (real_logs / "claude_code").rglob("*.jsonl"):
        read = tables(path)
        same(one_by_one(path), read)
        same(while_reading(path, groups_at_once=16)[0], read)
