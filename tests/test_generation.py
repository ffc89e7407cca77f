"""The sample logs are made by their one command: two frameworks, one task, checked as they are written.

``make.py`` runs the frameworks' own scripts with ``uv``, which installs them apart from the project.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from generator import GENERATE, SAMPLES, Generator, table_of

import loaders

RUNNERS = ("run_inspect.py", "run_study_agents.py")


def uv_command(folder: Path) -> Path:
    """``uv`` that runs these tests, or where the README puts it, beside this Python, on the path, or a module.

    The last is put into a script, since ``make.py`` takes one command.
    """
    root = SAMPLES.parent
    places = [
        os.environ.get("UV"),
        root / ".uv" / "bin" / "uv",
        Path(sys.executable).with_name("uv"),
    ]
    found = [Path(place) for place in places if place and Path(place).is_file()]
    found += [Path(path) for path in (shutil.which("uv"),) if path]
    if not found and importlib.util.find_spec("uv"):
        script = folder / "uv"
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m uv "$@"\n')
        script.chmod(0o755)
        found = [script]
    if not found:
        pytest.fail(
            "uv does not run these tests, is neither in .uv/bin, nor beside this Python, nor on the path"
        )
    return found[0]


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("generated")
    command = [sys.executable, "make.py", "--out", folder / "logs", "--limit", "1"]
    command += ["--replays", "1", "--uv", uv_command(folder), "--only", *RUNNERS]
    done = subprocess.run(
        [*map(str, command)], cwd=GENERATE, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "logs"


def test_what_was_made_is_read_as_the_server_saw_it(out: Path, made: Generator) -> None:
    """Each runner refuses a log that differs from what the server saw; here loaders must agree."""
    truth: dict[str, Any] = json.loads((out / "truth.json").read_text())
    told = {
        (*(run[name] for name in made.design.Arm._fields), run["trial"]): run
        for run in made.truth.study_runs(truth)
    }
    assert len(told) == 48
    runs = loaders.load(out / "study" / "{policy}/{model}/{scaffold}/{perturbation}.*")
    assert table_of(runs, "problems").is_empty()
    steps = table_of(runs, "steps").partition_by("run", as_dict=True)
    for row in table_of(runs, "trajectories").iter_rows(named=True):
        run = told.pop((row["policy"], row["model"], row["scaffold"], int(row["trial"])))
        assert (row["outcome"], row["steps"]) == (run["outcome"], run["steps"])
        sent = steps[(row["run"],)].sort("step")["thinking_sent"].to_list()
        assert sent == made.study.thinking_due(run["policy"], run["steps"])
        assert '"simulated":true' in row["metadata"]
    assert not told
    assert (out / "SIMULATED").is_file()
    assert "simulated" in (out / "TRUTH.md").read_text()


def test_making_them_again_gives_the_same_conversations(out: Path) -> None:
    """All of what was said, called and answered is that of the study: ids and times alone are new."""
    template = "study/{policy}/{model}/{scaffold}/{perturbation}.*"
    new = loaders.load(out / template)
    names = sorted(path.relative_to(out) for path in (out / "study").rglob("*.*"))
    wanted = [SAMPLES / name for name in names if "planner-2" not in name.parts]
    old = loaders.load(wanted)
    old = old.filter(task_id="orders-easy-1")
    kinds = ("framework", "trial", "steps", "outcome", "system_prompt", "user_prompt", "toolset")
    told = ["kind", "actor", "text", "tool", "arguments", "is_error"]

    def said(runs: loaders.Trajectories) -> set[Any]:
        table = table_of(runs, "trajectories")
        events = table_of(runs, "events").partition_by("run", as_dict=True)
        return {
            (*(row[name] for name in kinds), str(events[(row["run"],)].sort("seq")[told].rows()))
            for row in table.iter_rows(named=True)
        }

    remade = said(new.filter(model="planner-1"))
    assert len(remade) > 8
    assert said(old) == remade
