"""Reflexion on ALFWorld against the published successes, counted from the raw files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import loaders
from loaders import Trajectories

FOLDER = Path("reflexion", "alfworld_runs", "root", "base_run_logs")


@pytest.fixture(scope="module")
def runs(real_logs: Path) -> Trajectories:
    return loaders.load(real_logs / FOLDER)


def test_successes_so_far_are_the_published_ones(runs: Trajectories) -> None:
    trials = runs.trajectories.group_by("trial").agg(pl.col("success").sum(), tasks=pl.len())
    assert sorted(trials.collect().iter_rows()) == [
        ("0", 84, 134),
        ("2", 97, 134),
        ("4", 100, 134),
        ("6", 101, 134),
    ]


def test_reflections_are_kept_in_their_order(runs: Trajectories, real_logs: Path) -> None:
    files = sorted((real_logs / FOLDER).glob("*.json"))
    records = [record for file in files for record in json.loads(file.read_text())]
    events = runs.events.collect()
    assert events["text"].to_list() == [text for record in records for text in record["memory"]]
    assert set(events["kind"]) == {"other"}
    assert runs.trajectories.collect()["task_id"].to_list() == [r["name"] for r in records]
    for row in events.gather_every(60).iter_rows(named=True):
        assert runs.raw(row["trajectory_id"], row["seq"]) == row["text"]


def test_hostile_and_cut_files_keep_what_can_be_read(tmp_path: Path) -> None:
    records: list[Any] = [
        {"name": "env_0", "memory": ["kept", 7], "is_success": True},
        {"name": ["x"], "memory": {"a": 1}, "is_success": "no"},
        "no record",
        {"name": 3, "memory": ["lost"], "is_success": False},
    ]
    file = tmp_path / "results.json"
    file.write_text(json.dumps(records))
    table = loaders.load(file).trajectories.collect()
    assert table["task_id"].to_list() == ["env_0", None, None, "3"]
    assert table["success"].to_list() == [True, None, None, False]
    assert table["trial"].null_count() == 4
    file.write_text(json.dumps(records)[:-30])
    cut = loaders.load(file)
    assert cut.events.collect()["text"].to_list()[0] == "kept"
    assert cut.problems.collect()["severity"].to_list() == ["error"]
