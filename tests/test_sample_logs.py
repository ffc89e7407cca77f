"""The logs of the other frameworks against the truth beside them, and what all sample logs keep to."""

from __future__ import annotations

import gzip
import re
from typing import Any

import polars as pl
import pytest
from generator import SAMPLES, table_of

import loaders
from loaders.archives import ZipArchive, open_zstd


def test_mini_swe_agent_sends_thinking_back_and_its_log_does_not_say(
    truth: dict[str, Any],
) -> None:
    part = truth["parts"]["mini_swe_agent"]["runs"]
    assert len(part) == 6
    for run in part:
        assert run["thinking_sent"] == run["thinking_available"]
        read = loaders.load(SAMPLES / run["log"])
        (row,) = table_of(read, "trajectories").iter_rows(named=True)
        assert (row["format"], row["steps"]) == ("mini_swe_agent", run["steps"])
        assert row["end_reason"] == run["exit_status"]
        assert row["success"] is None
        assert table_of(read, "problems").is_empty()
        steps = table_of(read, "steps")
        assert set(steps["thinking"]) == {"text"}
        assert steps["thinking_sent"].is_null().all()


FORMATS = {
    "mini_swe_agent": "mini_swe_agent",
    "pydantic_ai": "pydantic_ai",
    "openai_agents": "openai_agents",
    "smolagents": "smolagents",
    "google_adk": "google_adk",
    "openhands": "openhands_v1",
}
SENDS_BACK = {
    "pydantic_ai": {"not_sent": False, "responses_unknown": False},
    "openai_agents": {"reasoning_content": False},
    "smolagents": {"reasoning_content": False, "reasoning": False},
    "google_adk": {},
    "openhands": {"openai": False, "deepseek": False},
    "otel": {},
}
"""Styles in which a framework does not send thinking back; in all others it does."""


@pytest.mark.parametrize("name", FORMATS)
def test_a_framework_s_logs_are_read_as_its_runs_were(name: str, truth: dict[str, Any]) -> None:
    for run in truth["parts"][name]["runs"]:
        read = loaders.load(SAMPLES / run["log"])
        assert table_of(read, "problems").filter(pl.col("severity") == "error").is_empty()
        (row,) = table_of(read, "trajectories").iter_rows(named=True)
        assert row["format"] == FORMATS[name], run["log"]
        if run.get("ended") != "ToolRaised":  # what the framework logs of its own end differs
            assert row["steps"] == run["steps"], run["log"]
        sent = table_of(read, "steps").sort("step")["thinking_sent"]
        assert sent.is_null().all() or sent.to_list() == run["thinking_sent"], run["log"]


@pytest.mark.parametrize("name", SENDS_BACK)
def test_a_framework_sends_thinking_back_or_not(name: str, truth: dict[str, Any]) -> None:
    runs = truth["parts"][name]["runs"]
    assert {hit["kind"] for run in runs for hit in run["perturbations"]} >= {"raised_error"}
    for run in runs:
        is_sent = SENDS_BACK[name].get(run["style"], True)
        expected = run["thinking_available"] if is_sent else [0] * run["steps"]
        assert run["thinking_sent"] == expected, (run["style"], run["task_id"])


@pytest.mark.parametrize("name", ["mini_swe_agent", *SENDS_BACK])
def test_a_framework_s_archive_tells_what_was_sent(name: str, truth: dict[str, Any]) -> None:
    runs = {
        (run["style"], run["task_id"]): run
        for run in truth["parts"][name]["runs"]
        if run.get("wire", True)
    }
    read = loaders.load(SAMPLES / "frameworks" / name / "wire.har")
    assert table_of(read, "problems").is_empty()
    rows = list(table_of(read, "trajectories").iter_rows(named=True))
    assert len(rows) == len(runs)
    steps = table_of(read, "steps").sort("run", "step")
    for row in rows:
        address = re.search(r"127\.0\.0\.1[^/]*/([^/]+)/([^/]+)/", str(row["metadata"]))
        assert address
        run = runs.pop((address[1], address[2]))
        frame = steps.filter(pl.col("run") == row["run"])
        assert frame["thinking_sent"].to_list() == run["thinking_sent"], address
        assert frame["thinking_available"].to_list() == run["thinking_available"], address


def test_the_sample_logs_are_small_and_name_no_machine() -> None:
    """Of the study's files every eighth is unpacked; the runners look at each run as they write it."""
    files = [path for path in SAMPLES.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    packed = sorted(path for path in files if path.is_relative_to(SAMPLES / "study"))
    assert sum(path.stat().st_size for path in packed) < 15_000_000
    assert sum(path.stat().st_size for path in files) < 19_000_000
    private = re.compile(rb"/(?:home|root|Users|tmp|work|var|usr|opt)\b|\\Users\\")
    for path in [*packed[::8], *(path for path in files if path not in packed)]:
        if path.suffix == ".eval":
            archive = ZipArchive(path)
            texts = [archive.read(name) for name in archive.names]
        elif path.suffix == ".gz":
            texts = [gzip.decompress(path.read_bytes())]
        elif path.suffix == ".zst":
            with path.open("rb") as stream:
                texts = [open_zstd(stream).read()]
        else:
            texts = [path.read_bytes()] if path.suffix in (".json", ".jsonl", ".har") else []
        for text in texts:
            assert not private.search(text), path
            assert b"Bearer" not in text, path
