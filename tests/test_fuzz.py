"""Damaged logs of every format: each is read or is a problem, and nothing worse happens.

``benchmarks/fuzz.py`` does the same with as many as one likes.
"""

from __future__ import annotations

import json
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import fuzzing
import pytest
from conftest import ROOT
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import loaders
from loaders import registry

INPUTS, PARTS = 2_000, 4


@pytest.mark.parametrize("part", range(PARTS))
def test_mutated_samples(part: int, real_logs: Path) -> None:
    """In a process of its own, which may be killed without harm to the others."""
    count = INPUTS // PARTS
    given = ["--first", part * count, "--inputs", count, "--processes", 1]
    out = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "fuzz.py", *map(str, given)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert out.returncode == 0, out.stdout + out.stderr
    assert f"{count} inputs in" in out.stdout


def test_there_is_a_sample_of_every_format(real_logs: Path) -> None:
    found = {sample.format for sample in fuzzing.samples()}
    assert found == set(loaders.available()["format"])
    read = {
        sample.format
        for sample in fuzzing.samples()
        if fuzzing.check(sample.name, sample.data, sample.others) == "read"
    }
    assert found == read
    assert {s.format for s in fuzzing.samples() if s.others} >= {"openhands_v1", "opencode"}


def test_the_same_number_is_the_same_input() -> None:
    assert fuzzing.mutated(77) == fuzzing.mutated(77)
    assert fuzzing.mutated(77)[1] != fuzzing.mutated(78)[1]


# ---------------------------------------------------------------------- what hypothesis thinks of

WORDS = sorted(
    {
        word
        for sample in fuzzing.samples()
        for word in sample.data.decode("utf-8", "ignore").split('"')[1:60:2]
        if 0 < len(word) < 30
    }
)
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9)
)
VALUES = st.recursive(
    SCALARS | st.sampled_from(WORDS) | st.sampled_from(fuzzing.HOSTILE),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=5)
    ),
    max_leaves=25,
)


@pytest.mark.parametrize("shape", ["lines", "one value"])
def test_any_json_made_of_the_words_of_logs(shape: str) -> None:
    @settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(VALUES, min_size=1, max_size=4))
    def try_one(values: list[Any]) -> None:
        texts = [json.dumps(value) for value in (values if shape == "lines" else [values])]
        fuzzing.check("folder/log.jsonl", "\n".join(texts).encode("utf-8", "surrogatepass"))

    try_one()


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(fuzzing.samples()), st.data())
def test_any_cut_and_any_byte_of_any_sample(sample: fuzzing.Sample, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(sample.data)))
    until = data.draw(st.integers(at, min(at + 200, len(sample.data))))
    fuzzing.check(
        sample.name, sample.data[:at] + data.draw(st.binary(max_size=9)) + sample.data[until:]
    )


# ---------------------------------------------------------------------- the check can fail


def broken_by(read: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    module = types.ModuleType("odd")
    module.__dict__.update(TITLE="odd", sniff=lambda head: head.data == b"odd", read=read)
    odd = registry.from_module(module)
    monkeypatch.setattr("loaders.reading.choose", lambda name: [odd])
    with pytest.raises(fuzzing.Broken) as caught:
        fuzzing.check("folder/odd", b"odd")
    return str(caught.value)


def test_what_hangs_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(source: Any, out: Any) -> None:
        while True:
            pass

    monkeypatch.setattr(fuzzing, "SECONDS", 0.2)
    assert "takes longer" in broken_by(read, monkeypatch)


def test_what_takes_memory_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(source: Any, out: Any) -> None:
        bytearray(1 << 30)[:: 1 << 12] = b"x" * (1 << 18)
        out.trajectory(pos="").user("hi", "")

    assert "MB of memory" in broken_by(read, monkeypatch)


def test_what_crashes_or_breaks_a_rule_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(source: Any, out: Any) -> None:
        out.trajectory(pos="").user("no position")

    assert "breaks every_row_says_where_it_stands" in broken_by(read, monkeypatch)
    monkeypatch.setattr("loaders.card.summarize", lambda runs: 1 / 0)

    def read_well(source: Any, out: Any) -> None:
        out.trajectory(pos="").user("hi", "")

    assert "crashes:" in broken_by(read_well, monkeypatch)


# ---------------------------------------------------------------------- what it found


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a/trace.json", b'{"object": "trace", "id": "t1", "workflow_name": "w"}'),
    ],
)
def test_what_was_found_stays_mended(name: str, data: bytes) -> None:
    fuzzing.check(name, data)
