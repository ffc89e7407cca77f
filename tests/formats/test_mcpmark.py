"""MCPMark against its published table and figures counted from the raw files."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from statistics import pstdev
from typing import Any

import polars as pl
import pytest

import loaders
from loaders import Trajectories


@pytest.fixture(scope="module")
def runs(real_logs: Path) -> Trajectories:
    return loaders.load(real_logs / "mcpmark" / "model_results")


@pytest.fixture(scope="module")
def raw(real_logs: Path) -> list[dict[str, Any]]:
    """Every attempt in the files, with its model and task."""
    files = (real_logs / "mcpmark" / "model_results").rglob("*.json")
    records = [json.loads(file.read_text()) for file in sorted(files)]
    return [
        {**attempt, "model": record["model"], "task": record["task"], "trial": trial}
        for record in records
        for trial, attempt in record["runs"].items()
    ]


# ---------------------------------------------------------------------- real files


@pytest.mark.parametrize(
    ("model", "at_1", "deviation", "at_4", "hat_4"),
    [
        ("deepseek-v3-2-chat", 29.7, 1.5, 46.5, 13.4),
        ("deepseek-v3-2-thinking", 36.8, 1.8, 51.2, 21.3),
    ],
)
def test_the_published_table_comes_out(
    runs: Trajectories, model: str, at_1: float, deviation: float, at_4: float, hat_4: float
) -> None:
    table = runs.trajectories.filter(pl.col("model") == model).collect()
    by_trial = table.group_by("trial").agg(pl.col("score").mean() * 100)["score"].to_list()
    by_task = table.group_by("task_id").agg(pl.col("success").sum(), pl.len())
    assert len(by_trial) == 4
    assert by_task["len"].to_list() == [4] * 127
    assert round(sum(by_trial) / 4, 1) == at_1
    assert round(pstdev(by_trial), 1) == deviation
    assert round(100 * (by_task["success"] > 0).sum() / 127, 1) == at_4
    assert round(100 * (by_task["success"] == 4).sum() / 127, 1) == hat_4


def test_every_attempt_has_its_tokens_time_and_end(
    runs: Trajectories, raw: list[dict[str, Any]]
) -> None:
    table = runs.trajectories.collect()
    assert len(table) == len(raw) == 1016
    for name in ("input_tokens", "output_tokens", "reasoning_tokens"):
        assert Counter(table[name]) == Counter(one["token_usage"][name] for one in raw)
    metadata = [json.loads(text) for text in table["metadata"]]
    assert Counter(one["turn_count"] for one in metadata) == Counter(a["turn_count"] for a in raw)
    assert sum(one["execution_time_s"] for one in metadata) == pytest.approx(
        sum(one["execution_time"] for one in raw)
    )
    assert table["steps"].sum() == 0


def test_errors_are_kept_and_do_not_undo_a_success(
    runs: Trajectories, raw: list[dict[str, Any]]
) -> None:
    errors = runs.events.filter(pl.col("kind") == "error").collect()
    messages = Counter(one["error_message"] for one in raw if one["error_message"] is not None)
    assert Counter(errors["text"]) == messages
    assert messages.total() == 214
    assert runs.raw(errors["trajectory_id"][0], errors["seq"][0]) == errors["text"][0]
    outcomes = Counter(runs.trajectories.collect()["outcome"])
    failed = [one for one in raw if not one["success"]]
    limits = sum("ContextWindowExceeded" in str(one["error_message"]) for one in failed)
    limits += sum("Max turns" in str(one["error_message"]) for one in failed)
    assert outcomes["limit"] == limits
    assert outcomes["success"] == sum(one["success"] for one in raw)
    assert outcomes["error"] + limits == sum(one["error_message"] is not None for one in failed)


# ---------------------------------------------------------------------- variants made here


def write(folder: Path, content: Any) -> Trajectories:
    (folder / "s.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return loaders.load(folder / "s.json")


def test_what_else_an_attempt_says_is_metadata(tmp_path: Path) -> None:
    usage = {"input_tokens": 5, "output_tokens": 2, "total_tokens": 7, "cached_tokens": 4}
    attempt = {"success": True, "token_usage": usage, "execution_time": 1.5, "turn_count": 3}
    record = {"model": "m", "service": "s", "task": "t", "verifier": "v2", "runs": {"1": attempt}}
    row = write(tmp_path, record).trajectories.collect().row(0, named=True)
    assert json.loads(row["metadata"]) == {
        "service": "s",
        "verifier": "v2",
        "execution_time_s": 1.5,
        "turn_count": 3,
        "cached_tokens": 4,
    }


def test_hostile_and_cut_files_keep_what_can_be_read(tmp_path: Path) -> None:
    attempts: dict[str, Any] = {
        "run-1": {"success": "yes", "error_message": {"a": 1}, "token_usage": [1]},
        "run/2": {"success": False, "error_message": "Max turns (100) exceeded"},
        "run-3": 7,
        "run-4": {"success": True, "token_usage": {"input_tokens": "9", "output_tokens": 3}},
    }
    record = {"model": ["m"], "service": "s", "task": "t", "runs": attempts}
    runs = write(tmp_path, record)
    table = runs.trajectories.collect()
    assert table["outcome"].to_list() == ["unknown", "limit", "unknown", "success"]
    assert table["output_tokens"].to_list() == [None, None, None, 3]
    assert runs.raw(runs.ids[1], 0) == "Max turns (100) exceeded"
    text = json.dumps(record)
    cut = write(tmp_path, text[: text.index('"run-3"')])
    assert cut.trajectories.collect()["trial"].to_list() == ["run-1", "run/2"]
    assert cut.problems.collect()["severity"].to_list() == ["error"]
