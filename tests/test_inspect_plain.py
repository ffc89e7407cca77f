"""Ordinary samples of Inspect logs are told in one pass: it gives the tables of the general way."""

from __future__ import annotations

import copy
import json
import random
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import loaders
from loaders import LoadError
from loaders.archives import ZipArchive
from loaders.formats import _inspect_eval
from loaders.formats._inspect_plain import PlainTranscript

TESTS = Path(__file__).parent
LOGS = sorted((TESTS / "inspect_logs").glob("*.eval"))
STUDY = TESTS.parent / "sample_logs" / "study" / "all" / "planner-1" / "inspect" / "none.eval"
TABLES = ("trajectories", "steps", "events", "tools", "problems")
Tables = dict[str, pl.DataFrame]
Record = dict[str, Any]


def tables(path: Path) -> Tables | str:
    try:
        runs = loaders.load(path, format="inspect", progress=False)
    except LoadError as error:
        return str(error)
    return {name: getattr(runs, name).collect() for name in TABLES}


def general(path: Path) -> Tables | str:
    """The tables if no sample is ordinary."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PlainTranscript, "tell", lambda _: False)
        return tables(path)


def counted(path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Tables | str, list[bool]]:
    """The tables, and which samples were told in the short way."""
    told: list[bool] = []
    tell = PlainTranscript.tell

    def tell_and_count(transcript: PlainTranscript) -> bool:
        told.append(tell(transcript))
        return told[-1]

    with monkeypatch.context() as patch:
        patch.setattr(PlainTranscript, "tell", tell_and_count)
        return tables(path), told


def same(one: Tables | str, other: Tables | str) -> bool:
    if isinstance(one, str) or isinstance(other, str):
        return one == other
    return all(table.equals(other[name]) for name, table in one.items())


def samples_of(path: Path) -> list[Record]:
    archive = ZipArchive(path)
    names = [name for name in archive.names if name.startswith("samples/")]
    return [json.loads(archive.read(name)) for name in names]


def write(path: Path, samples: list[Record]) -> Path:
    """An archive of these samples, without compression."""
    header = ZipArchive(STUDY).read("header.json")
    with zipfile.ZipFile(path, "w") as archive:
        for number, sample in enumerate(samples):
            archive.writestr(f"samples/{number}_epoch_1.json", json.dumps(sample))
        archive.writestr("header.json", header)
    return path


# ---------------------------------------------------------------------- damage


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every object and array with a key or index of it."""
    stack = [value]
    while stack:
        item = stack.pop()
        keys = item if isinstance(item, dict) else range(len(item))
        for key in keys:
            yield item, key
            if isinstance(item[key], dict | list):
                stack.append(item[key])


PARTS = ("events", "messages", "events_data", "attachments")
OTHERS: tuple[Any, ...] = (
    None, "", " \n", 1, 0.5, True, [], {}, "think</think>so", "attachment://nowhere", "assistant",
    "user", "tool", "model", "scorer", "agent", [[0, 2]], [[0, 99], [1, 3]],
)  # fmt: skip


def damaged(sample: Record, rng: random.Random) -> Record:
    """The sample with one or two of its values exchanged, repeated, moved or taken out."""
    sample = json.loads(json.dumps(sample))
    if rng.random() < 0.3:
        in_place(sample)
    for _ in range(rng.randint(1, 2)):
        part = rng.choice(PARTS)
        within = sample.get(part) if part in sample and rng.random() < 0.9 else sample
        found = [*places(within)] if isinstance(within, dict | list) else []
        if not found:
            continue
        owner, key = rng.choice(found)
        other_owner, other = rng.choice(found)
        match rng.choice(("delete", "replace", "copy", "alike", "repeat", "swap")):
            case "delete":
                del owner[key]
            case "replace":
                owner[key] = rng.choice(OTHERS)
            case "copy":
                owner[key] = copy.deepcopy(other_owner[other])
            case "alike":  # most likely to be taken for one another: values of the same key
                same_key = [item[name] for item, name in found if name == key]
                owner[key] = copy.deepcopy(rng.choice(same_key))
            case "repeat" if isinstance(owner, list):
                owner.insert(rng.randint(0, len(owner)), copy.deepcopy(owner[key]))
            case _ if isinstance(owner, list):
                owner.append(owner.pop(key))
            case _:
                owner[f"{key} too"] = owner.pop(key)
    return sample


def in_place(sample: Record) -> None:
    """Messages of inputs and requests as logs had them before there were pools."""
    pools = sample.pop("events_data", None) or {}
    for event in sample.get("events") or ():
        if pools and event["event"] == "model" and "input_refs" in event:
            refs = event.pop("input_refs")
            event["input"] = [m for a, b in refs for m in pools["messages"][a:b]]
            call = event.get("call") or {}
            if "call_refs" in call:
                refs = call.pop("call_refs")
                call["request"]["messages"] = [m for a, b in refs for m in pools["calls"][a:b]]


# ---------------------------------------------------------------------- tests


def test_ordinary_samples_are_told_as_any_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, told = counted(STUDY, monkeypatch)
    assert len(told) >= 50
    assert all(told), "otherwise the comparison compares nothing, and reading is slow"
    assert same(read, general(STUDY))
    pooled = samples_of(STUDY)[:8]
    for sample in pooled:
        in_place(sample)
    path = write(tmp_path / "in_place.eval", pooled)
    read, told = counted(path, monkeypatch)
    assert all(told)
    assert same(read, general(path))


@pytest.mark.parametrize("path", LOGS, ids=lambda path: path.stem)
def test_own_logs_are_told_alike_whatever_was_sent_back(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, told = counted(path, monkeypatch)
    assert all(told)
    assert same(read, general(path))


def test_notes_are_told_in_the_short_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sample = samples_of(STUDY)[0]
    note = {"event": "info", "source": "me", "data": {"n": 1}, "timestamp": "2026-01-01T00:00:00Z"}
    sample["events"][6:6] = [note, {"event": "sample_limit", "type": "message", "limit": 9}]
    path = write(tmp_path / "log.eval", [sample])
    read, told = counted(path, monkeypatch)
    assert told == [True]
    assert not isinstance(read, str)
    assert read["events"].filter(pl.col("actor") == "info").height == 1
    assert same(read, general(path))


def compared(samples: list[Record], folder: Path, seed: int, count: int) -> list[bool]:
    """Reads damaged samples in both ways; which were told in the short one."""
    rng = random.Random(seed)
    path = write(folder / "log.eval", [damaged(rng.choice(samples), rng) for _ in range(count)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_inspect_eval, "PATIENCE", count)
        read, told = counted(path, patch)
        assert same(read, general(path)), f"seed {seed}"
    return told


def test_damaged_samples_are_told_alike(tmp_path: Path) -> None:
    samples = samples_of(STUDY)
    samples = sorted(samples, key=lambda sample: len(json.dumps(sample)))[:3]
    samples += [sample for path in LOGS for sample in samples_of(path)[:1]]
    told = compared(samples, tmp_path, seed=1, count=120)
    assert told.count(True) > 20, "damage does not always matter"
    assert told.count(False) > 20


def test_after_many_samples_of_another_kind_no_more_are_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed, *_, ordinary = samples_of(STUDY)
    failed["error"] = {"message": "failed", "traceback": "", "traceback_ansi": ""}
    patience = _inspect_eval.PATIENCE
    few = [*[failed] * (patience - 1), ordinary, *[failed] * patience, ordinary]
    path = write(tmp_path / "log.eval", few)
    read, told = counted(path, monkeypatch)
    assert told == [*[False] * (patience - 1), True, *[False] * patience]
    assert same(read, general(path))
