"""What a conversion has to read: logs that are new or changed, and what hangs together with them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import polars as pl

from loaders.discovery import Found, Labels
from loaders.logs import Group
from loaders.reading import Kinds, sort_out
from loaders.registry import Format
from loaders.schema import PROBLEMS
from loaders.shards import LOGS_OF_A_SHARD, state_of
from loaders.sources import Source

LOGS = pl.Schema(
    {
        "shard": pl.String,
        **LOGS_OF_A_SHARD,
        "format": pl.String,
        "bundle": pl.String,
        "name": pl.String,
        "labels": pl.String,
        "parts": pl.List(pl.Struct({"path": pl.String, "member": pl.String})),
    }
)
"""Internal, a row per log of a store: where its runs are, what it was read from, and its labels."""

OTHERS = pl.Schema(
    {
        "path": pl.String,
        "size": pl.Int64,
        "changed": pl.Int64,
        "name": pl.String,
        "companion_of": pl.String,
        **{name: PROBLEMS[name] for name in ("position", "severity", "reason", "format")},
    }
)
"""Internal, a row per file that is no log of its own: a companion, an archive, or a problem."""

_TICK_NS = 2_000_000_000
"""A file may change within one tick of a coarse clock and show no trace of it but in its bytes."""

Row = dict[str, Any]


@dataclass
class Plan:
    """What to keep as it is and what to read; ``logs`` pairs a log with its key of format and bundle."""

    kept: list[Row]
    logs: list[tuple[tuple[str, str], Group]]
    others: list[Row]

    def has_news(self, logs: pl.DataFrame, others: pl.DataFrame) -> bool:
        """Whether anything differs from what the store knows."""
        return bool(self.logs) or self.kept != logs.to_dicts() or self.others != others.to_dicts()


def plan(
    found: list[Found],
    logs: pl.DataFrame,
    others: pl.DataFrame,
    candidates: list[Format],
    named: bool,
) -> Plan:
    """Compare what is found with what a store knows (``LOGS``, ``OTHERS``).

    A log is read again if a file that it was read from, or looked for, is another one now; a log that
    is gone, or was not named this time, stays. Files are told by size and time of change, and by their
    bytes where only the time differs.
    """
    places: dict[str, list[Found]] = {}
    for item in found:
        places.setdefault(item.source.path.as_posix(), []).append(item)
    known = logs.to_dicts()
    only = candidates[0].name if named else None
    stale = {
        number
        for number, log in enumerate(known)
        if any(part["path"] in places for part in log["parts"])
        and ((only and log["format"] != only) or _has_changed(log))
    }
    current = _unchanged_others(others.to_dicts(), places)
    while True:
        wanted = _to_sort(known, stale, current, places)
        sorted_out = sort_out(wanted, candidates, named)
        touched = _also_touched(sorted_out, known, stale)
        if not touched:
            break
        stale |= touched
    looked_at = {item.source.path.as_posix() for item in wanted}
    kept = [log for number, log in enumerate(known) if number not in stale]
    for log in kept:
        log["labels"] = _labels_now(log, places)
    rest = [row for row in current if row["path"] not in looked_at]
    return Plan(kept, list(sorted_out.groups.items()), [*rest, *_others(sorted_out)])


def _has_changed(log: Row) -> bool:
    parts = {part["path"] for part in log["parts"]}
    before = {file["path"]: (file["size"], file["changed"]) for file in log["files"]}
    states = state_of(set(before))
    now = {file["path"]: (file["size"], file["changed"]) for file in states}
    if any(now[part][0] is None for part in parts):
        return False  # gone; its runs stay
    differing = {path for path, state in now.items() if state != before[path]}
    in_doubt = {part for part in parts if (now[part][1] or 0) > log["read_at"] - _TICK_NS}
    if not differing | in_doubt:
        return False
    if differing - parts or any(now[path][0] != before[path][0] for path in differing):
        return True
    if log["hash"] is None or _hash_now(log) != log["hash"]:
        return True
    log["files"] = states
    log["read_at"] = max((now[part][1] or 0) for part in parts) + _TICK_NS
    return False


def _hash_now(log: Row) -> str | None:
    sources = _sources(log)
    sources[0].parts = tuple(sources)
    try:
        return sources[0].hash
    except Exception:  # noqa: BLE001 - what can't be read any more has changed
        return None


def _sources(log: Row) -> list[Source]:
    return [Source(Path(part["path"]), part["member"]) for part in log["parts"]]


def _unchanged_others(others: list[Row], places: dict[str, list[Found]]) -> list[Row]:
    paths = {row["path"] for row in others}
    now = {file["path"]: (file["size"], file["changed"]) for file in state_of(paths)}
    return [
        row
        for row in others
        if now[row["path"]] == (row["size"], row["changed"])
        or (row["path"] not in places and now[row["path"]][0] is not None)
    ]


def _to_sort(
    known: list[Row], stale: set[int], current: list[Row], places: dict[str, list[Found]]
) -> list[Found]:
    """Everything found of which the store does not know what it is now, in the order of the finding."""
    done = {
        (part["path"], part["member"])
        for number, log in enumerate(known)
        if number not in stale
        for part in log["parts"]
    }
    for row in current:
        is_member = row["name"] != row["path"]
        done.add((row["path"], row["name"][len(row["path"]) + 1 :] if is_member else None))
    opened = {
        row["path"] for row in current if row["severity"] is None and row["companion_of"] is None
    }
    wanted: dict[str, list[Found]] = {
        path: items
        for path, items in places.items()
        if any(
            item.problem is not None
            or ((path, item.source.member) not in done and path not in opened)
            for item in items
        )
    }
    for number in stale:
        for source, part in zip(_sources(known[number]), known[number]["parts"], strict=True):
            if part["path"] in places:
                wanted[part["path"]] = places[part["path"]]
            else:
                labels: Labels = msgspec.json.decode(known[number]["labels"])
                wanted.setdefault(part["path"], []).append(Found(source, labels))
    order = {path: number for number, path in enumerate(places)}
    return [
        item
        for path in sorted(wanted, key=lambda path: (order.get(path, len(order)), path))
        for item in wanted[path]
    ]


def _also_touched(kinds: Kinds, known: list[Row], stale: set[int]) -> set[int]:
    """Logs of which a part was found that is new, or that lie in a file that is read again."""
    read_again = {path.as_posix() for path in kinds.places.values()}
    return {
        number
        for number, log in enumerate(known)
        if number not in stale
        and (
            (log["format"], log["bundle"]) in kinds.groups
            or any(part["path"] in read_again for part in log["parts"])
        )
    }


def _labels_now(log: Row, places: dict[str, list[Found]]) -> str:
    first = log["parts"][0]
    for item in places.get(first["path"], ()):
        if item.source.member in (None, first["member"]):
            return labels_as_json(item.labels)
    return log["labels"]


def labels_as_json(labels: Labels) -> str:
    """Labels as text, the same for the same ones."""
    return msgspec.json.encode(labels, order="deterministic").decode()


def _others(kinds: Kinds) -> list[Row]:
    rows: list[Row] = []
    empty = dict.fromkeys(OTHERS)
    for name, position, severity, reason, format_name, _ in kinds.problems:
        about = {"position": position, "severity": severity, "reason": reason}
        rows.append({**empty, "name": name, **about, "format": format_name})
    rows += [{**empty, "name": n, "companion_of": of} for n, of in kinds.companions.items()]
    rows += [{**empty, "name": name} for name in kinds.archives]
    for row in rows:
        row["path"] = kinds.places[row["name"]].as_posix()
    states = {state["path"]: state for state in state_of({row["path"] for row in rows})}
    return [{**row, **states[row["path"]]} for row in rows]
