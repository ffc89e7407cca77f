"""The generator of the sample logs, imported apart, and what its tests share."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import loaders

ROOT = Path(__file__).parent.parent
SAMPLES = ROOT / "sample_logs"
GENERATE = SAMPLES / "generate"
STUDY_PARTS = {
    "study, malformed": SAMPLES / "study/last/planner-1/inspect/malformed.eval",
    "study, raised errors": SAMPLES / "study/all/planner-2/inspect/raised_error.eval",
    "study, traces": SAMPLES / "study/all/planner-1/openai_agents/rate_limit.jsonl.zst",
}
"""Files of the study that between them hold every path and type of value of its 144 files, but for a
few arguments' names: one framework writes all of them, so that what reads these reads the others."""
KINDS = (
    *("returned_error", "raised_error", "timeout", "empty", "truncated", "malformed", "stale"),
    *("schema_drift", "rate_limit", "injection", "wrong_value"),
)


class Generator:
    """The generator's modules, imported apart: their plain names are no package's."""

    def __init__(self) -> None:
        names = [path.stem for path in GENERATE.glob("*.py") if not path.stem.startswith("run_")]
        before = {name: sys.modules.pop(name) for name in names if name in sys.modules}
        sys.path.insert(0, str(GENERATE))
        self.modules = {name: importlib.import_module(name) for name in names if name != "make"}
        self._later = names, before

    def __getattr__(self, name: str) -> Any:
        return self.modules[name]

    def close(self) -> None:
        names, before = self._later
        sys.path.remove(str(GENERATE))
        for name in names:
            sys.modules.pop(name, None)
        sys.modules.update(before)


@pytest.fixture(scope="module")
def made() -> Iterator[Generator]:
    generator = Generator()
    yield generator
    generator.close()


@pytest.fixture(scope="module")
def faultless(made: Generator) -> Any:
    """An agent that never slips and always recovers."""
    sure = (1.0, 1.0)
    recovers = {name: sure for name in vars(made.agent.Parameters()) if name.startswith("recover_")}
    return made.agent.Parameters(
        misread=(0.0, 0.0), overlook=0.0, confuse=0.0, stop_early=(0.0, 0.0), **recovers
    )


@pytest.fixture(scope="module")
def truth() -> dict[str, Any]:
    return json.loads((SAMPLES / "truth.json").read_text(encoding="utf-8"))


def request_after(made: Generator, task: Any, replies: int, history: str, params: Any) -> list[Any]:
    """The messages of a run's request after so many replies."""
    desk = made.world.open_desk(task)
    tools = [tool.definition() for tool in desk.tools.values()]
    messages: list[Any] = [{"role": "user", "content": task.text}]
    for step in range(replies):
        seen = made.offline.sent_back(messages, history)
        reply = made.agent.respond(seen, tools, "seed", params)
        function = {"name": reply.tool, "arguments": reply.arguments}
        call = {"id": f"c{step}", "type": "function", "function": function}
        said = {"role": "assistant", "content": reply.text, "reasoning_content": reply.thinking}
        response = desk.call(reply.tool, json.loads(reply.arguments))
        messages += [
            {**said, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": f"c{step}", "content": response},
        ]
    return made.offline.sent_back(messages, history)


def table_of(runs: loaders.Trajectories, name: str) -> pl.DataFrame:
    """A table of these runs, collected."""
    return getattr(runs, name).collect()
