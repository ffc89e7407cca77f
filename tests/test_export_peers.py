"""Exports as the tools they are meant for read them, each in an environment of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from test_export import TELLERS, told

import loaders
from loaders import Trajectories
from loaders.exports import export

HARBOR, PYDANTIC = "harbor==0.25.0", "pydantic==2.13.5"
SCOUT = ("inspect-scout==0.6.1", "inspect-ai==0.3.285")
PEERS = Path(__file__).parent / "peers"
FORMATS = ("claude_code", "codex", "opencode", "atif", "inspect")
SHOWN = ("text", "tagged_in_text")

Object = dict[str, Any]


def uv(*arguments: str | Path) -> str:
    """What a command of uv prints; it tells its path to what it runs."""
    program = os.environ.get("UV") or shutil.which("uv")
    if program is None:
        pytest.skip("uv is not on this machine, and it makes the environments of other tools")
    done = subprocess.run(
        [program, *arguments], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def harbor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Harbor's own wheel alone, whose models ask for nothing but pydantic.

    As a whole it asks for a newer Python and for much that no model needs.
    """
    folder = tmp_path_factory.mktemp("harbor")
    only = ("--no-deps", "--only-binary", ":all:", "--python-version", "3.12")
    uv("pip", "install", "--quiet", "--target", folder, *only, HARBOR)
    return folder


@pytest.fixture(scope="module")
def runs(real_logs: Path, tmp_path_factory: pytest.TempPathFactory) -> Trajectories:
    """Every kind of event, the sample logs, and real logs."""
    mine = told(tmp_path_factory.mktemp("told") / "logs", *TELLERS)
    return mine + loaders.load(["sample_logs/frameworks", *(real_logs / name for name in FORMATS)])


def counted(runs: Trajectories, *conditions: pl.Expr) -> Counter[str]:
    """Events of each run for which these hold."""
    chosen = runs.events.filter(*conditions).group_by("trajectory_id").len().collect()
    return Counter(dict(chosen.iter_rows()))


@pytest.mark.parametrize("version", ["1.8", "1.7"])
def test_harbor_reads_every_trajectory_as_it_was(
    runs: Trajectories, version: str, harbor: Path, tmp_path: Path
) -> None:
    report = export(runs, "atif", tmp_path / "atif", version=version)
    script = ("python", PEERS / "harbor_reads.py", harbor, tmp_path / "atif")
    read: dict[str, Object] = json.loads(uv("run", "--no-project", "--with", PYDANTIC, *script))
    assert len(read) == report.runs == len(report.paths)
    kind, state = pl.col("kind"), pl.col("thinking_state")
    thought = runs.events.filter(state.is_in(SHOWN), pl.col("text") != "")
    steps = thought.unique(["trajectory_id", "step"]).group_by("trajectory_id").len()
    reasoning = Counter(dict(steps.collect().iter_rows()))
    calls, results = counted(runs, kind == "tool_call"), counted(runs, kind == "tool_result")
    answered = counted(runs, kind == "tool_result", pl.col("call_seq").is_not_null())
    users = counted(runs, kind == "user")
    rest = counted(runs, kind.is_in(["system", "error", "compaction", "other"]))
    table = runs.trajectories.collect()
    model_calls = dict(table.select("trajectory_id", "steps").iter_rows())
    for name, one in read.items():
        assert one["version"] == f"ATIF-v{version}"
        assert one["nothing_dropped"], name
        assert one["model_calls"] == model_calls[name]
        assert one["reasoning"] == reasoning[name]
        assert (one["tool_calls"], one["results"]) == (calls[name], results[name])
        assert one["answered"] == answered[name]
        assert one["sources"].get("user", 0) == users[name]
        assert one["sources"].get("system", 0) == rest[name]
    linked = table.drop_nulls(["parent_id", "parent_seq"]).height
    assert sum(one["subagents"] for one in read.values()) == linked > 0


def test_inspect_scout_reads_every_transcript_as_it_was(runs: Trajectories, tmp_path: Path) -> None:
    export(runs, "inspect_scout", tmp_path / "scout")
    packages = [part for package in SCOUT for part in ("--with", package)]
    script = ("python", PEERS / "scout_reads.py", tmp_path / "scout")
    read: dict[str, Object] = json.loads(uv("run", "--no-project", *packages, *script))
    assert list(read) == runs.ids
    kind, state = pl.col("kind"), pl.col("thinking_state")
    users, systems = counted(runs, kind == "user"), counted(runs, kind == "system")
    calls, results = counted(runs, kind == "tool_call"), counted(runs, kind == "tool_result")
    errors = counted(runs, kind == "tool_result", pl.col("is_error"))
    states = {
        name: counted(runs, state == name)
        for name in ("text", "summary", "hidden", "redacted", "tagged_in_text")
    }
    shown = counted(runs, state.is_in(SHOWN), pl.col("text") != "")
    for row in runs.trajectories.collect().iter_rows(named=True):
        name, one = row["trajectory_id"], read[row["trajectory_id"]]
        roles = Counter(one["roles"])
        assert (roles["user"], roles["system"]) == (users[name], systems[name])
        assert (roles["tool"], one["tool_calls"]) == (results[name], calls[name])
        assert roles["assistant"] >= row["steps"]
        assert roles.total() == one["message_count"]
        assert one["errors"] == errors[name]
        assert Counter(one["states"]) == +Counter({s: c[name] for s, c in states.items()})
        assert one["reasoning"] == shown[name]
        assert one["task"] == [row["benchmark"], row["task_id"], row["success"]]
        assert (one["format"], one["outcome"]) == (row["format"], row["outcome"])
        assert one["events"] == 0
    assert sum(Counter(one["states"]).total() for one in read.values()) > 200
