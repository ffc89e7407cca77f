# /// script
# requires-python = ">=3.11"
# dependencies = ["openai-agents==0.24.0", "openai==3.54.0", "zstandard==0.25.0"]
# ///
"""The study's second scaffold: the OpenAI Agents SDK, its traces packed as JSON lines.

Writes ``study/<policy>/<model>/openai_agents/<perturbation>.jsonl.zst`` and
``truth_parts/study_openai_agents.json``. A filter of what goes into a model call, which the SDK offers,
takes earlier reasoning out as the policy says. What a program knows of a run (task, trial, outcome) it
gives to the trace as metadata. Run it as ``uv run --script run_study_agents.py OUT [--limit N]``.
"""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import clean
import study
import zstandard
from agents import (
    Agent,
    FunctionTool,
    MaxTurnsExceeded,
    OpenAIChatCompletionsModel,
    RunConfig,
    Runner,
    trace,
)
from agents.run import CallModelData, ModelInputData
from agents.tool_context import ToolContext
from agents.tracing import Span, Trace, TracingProcessor, set_trace_processors
from agents.version import __version__
from design import CALL_LIMIT, SCAFFOLDS, Arm, draw
from openai import AsyncOpenAI
from server import ModelServer, serving
from study import Run
from visit import ToolRaised, Visit

SCAFFOLD = "openai_agents"
STYLE = "reasoning"
"""The way of giving thinking that the SDK sends back by itself."""


class Exporter(TracingProcessor):
    """Keeps the traces and spans that end, for export once the run is over."""

    def __init__(self) -> None:
        self.ended: list[Trace | Span[Any]] = []

    def on_trace_start(self, trace: Trace) -> None:
        """A trace is exported with its spans."""

    def on_trace_end(self, trace: Trace) -> None:
        self.ended.insert(0, trace)

    def on_span_start(self, span: Span[Any]) -> None:
        """A span is exported when it has ended."""

    def on_span_end(self, span: Span[Any]) -> None:
        self.ended.append(span)

    def shutdown(self) -> None:
        """Nothing to shut down."""

    def force_flush(self) -> None:
        """Nothing to flush."""

    def lines(self) -> list[str]:
        """What is exported, as JSON."""
        return [json.dumps(part.export(), separators=(",", ":")) for part in self.ended]


def tool_of(definition: dict[str, Any], visit: Visit) -> FunctionTool:
    """A tool of the desk, or the one that hands in the answer."""
    function = definition["function"]
    name: str = function["name"]

    async def use(context: ToolContext[Any], arguments: str) -> str:
        given = json.loads(arguments)
        if name == "submit":
            return visit.submit(given["answer"])
        try:
            return visit.call(name, given)
        except ToolRaised as raised:
            return str(raised)

    schema = {**function["parameters"], "additionalProperties": False}
    return FunctionTool(name, function["description"], schema, use)


def filter_of(policy: str) -> Callable[[CallModelData[Any]], ModelInputData]:
    """Leaves in what is sent as much earlier reasoning as the policy does."""

    def filtered(data: CallModelData[Any]) -> ModelInputData:
        items = data.model_data.input
        thoughts = [n for n, item in enumerate(items) if item.get("type") == "reasoning"]
        gone = {"all": [], "last": thoughts[:-1], "none": thoughts}[policy]
        kept = [item for n, item in enumerate(items) if n not in gone]
        return ModelInputData(kept, data.model_data.instructions)

    return filtered


async def play(run: Run, url: str, exporter: Exporter) -> tuple[Visit, bool]:
    """One run. Whether it ended at the limit of calls stands beside the visit."""
    visit, is_limit = run.visit(), False
    async with AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:
        agent = Agent(
            name="clerk",
            instructions=SCAFFOLDS[SCAFFOLD],
            tools=[tool_of(definition, visit) for definition in visit.definitions()],
            model=OpenAIChatCompletionsModel(run.arm.model, client),
            tool_use_behavior={"stop_at_tool_names": ["submit"]},
        )
        about = {**study.MARK, "benchmark": "service_desk", "task_id": run.task.id}
        about |= {"trial": run.trial, "perturbation": run.kind}
        about |= {"domain": run.task.domain, "difficulty": run.task.difficulty}
        with trace("service desk", metadata=about) as told:
            try:
                await Runner.run(
                    agent,
                    run.task.text,
                    max_turns=CALL_LIMIT,
                    run_config=RunConfig(call_model_input_filter=filter_of(run.arm.policy)),
                )
            except MaxTurnsExceeded:
                is_limit = True
            told.metadata.update(success=visit.success, exit_status="limit" if is_limit else "done")
    return visit, is_limit


def run_one(run: Run, server: ModelServer) -> tuple[list[str], dict[str, Any]]:
    """The lines of a run's trace, and its truth; the trace must hold what the server saw."""
    exporter = Exporter()
    set_trace_processors([exporter])
    name = (run.arm.policy, run.task.id, draw(run.trial, run.arm.model, SCAFFOLD))
    visit, is_limit = asyncio.run(play(run, server.base_url(*name, STYLE), exporter))
    lines = exporter.lines()
    where = " ".join(name)
    clean.check("\n".join(lines), where)
    spans = sorted(map(json.loads, lines[1:]), key=lambda span: span["started_at"])
    inputs = [s["span_data"]["input"] for s in spans if s["span_data"]["type"] == "generation"]
    logged = [sum(bool(m.get("reasoning")) for m in messages) for messages in inputs]
    seen = server.records[name].thinking_sent
    due = study.thinking_due(run.arm.policy, len(seen))
    if not logged == seen == due:
        raise SystemExit(f"{where}: thinking sent {seen}, in the log {logged}, due {due}")
    return lines, study.truth_of(run, visit, len(seen), is_limit)


def main() -> None:
    """Run every arm of the scaffold and write its logs and its truth."""
    asked = study.options(__doc__)
    out: Path = asked.out.resolve()
    told: list[dict[str, Any]] = []
    written: dict[tuple[Arm, str], list[str]] = defaultdict(list)
    study.clear(out, SCAFFOLD, asked)
    with serving() as server:
        for run in study.runs_of(SCAFFOLD, asked):
            lines, truth = run_one(run, server)
            written[run.arm, run.kind] += lines
            told.append(truth)
            server.exchanges.clear()
    for (arm, kind), lines in written.items():
        path = study.log_path(out, arm, kind, ".jsonl.zst")
        path.parent.mkdir(parents=True, exist_ok=True)
        text = "".join(f"{line}\n" for line in lines).encode()
        path.write_bytes(zstandard.ZstdCompressor(level=19).compress(text))
    study.write_part(out, SCAFFOLD, __version__, told)


if __name__ == "__main__":
    main()
