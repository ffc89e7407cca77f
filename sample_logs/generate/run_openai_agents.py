# /// script
# requires-python = ">=3.11"
# dependencies = ["openai-agents==0.24.0", "openai==3.54.0"]
# ///
"""A few runs of the OpenAI Agents SDK at the desk: its traces, and dumps of its items.

Writes ``frameworks/openai_agents/<style>/<task>.trace.jsonl``, what a processor of traces is given to
export, and for Responses ``<task>.items.json``, the items that the next request would begin with;
``wire.har`` beside the styles, and ``truth_parts/openai_agents.json``. The framework hides what a tool raises from the
model. Run it as ``uv run --script run_openai_agents.py OUT``.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

from agents import (
    Agent,
    MaxTurnsExceeded,
    Model,
    ModelSettings,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    Runner,
    RunResult,
    function_tool,
)
from agents.tracing import Span, Trace, TracingProcessor, set_trace_processors
from agents.version import __version__
from offline import CALL_LIMIT
from openai import AsyncOpenAI
from openai.types.shared import Reasoning
from running import MODEL, SYSTEM, Played, Stay, function_of, run_all

RUNS = {
    "reasoning_content": ["orders-easy-3"],
    "reasoning": ["bookings-easy-3"],
    "think_tags": ["bookings-medium-1"],
    "replayed": ["orders-easy-7"],
    "responses": ["tables-easy-8"],
    "responses_sealed": ["orders-easy-7"],
    "responses_chained": ["orders-easy-3"],
}
"""Style to tasks. ``replayed``: the framework's own switch for sending ``reasoning_content`` back."""
WIRE = {"replayed": ["orders-easy-7"], "responses": ["tables-easy-8"]}

WORDS = {"error text": "An error occurred while running the tool. Please try again."}


class Exporter(TracingProcessor):
    """Keeps what it is given of each trace and span when they end, as exporters do."""

    def __init__(self) -> None:
        self.lines: list[Any] = []

    def on_trace_start(self, trace: Trace) -> None:
        self.lines.append(trace.export())

    def on_trace_end(self, trace: Trace) -> None:
        """Nothing more is told at its end."""

    def on_span_start(self, span: Span[Any]) -> None:
        """A span is exported when it ends."""

    def on_span_end(self, span: Span[Any]) -> None:
        self.lines.append(span.export())

    def shutdown(self) -> None:
        """Nothing to shut down."""

    def force_flush(self) -> None:
        """Nothing to flush."""


def model_of(style: str, client: AsyncOpenAI) -> Model:
    """The framework's own client of the API that the style belongs to."""
    if style.startswith("responses"):
        return OpenAIResponsesModel(MODEL, client)
    replay = (lambda context: True) if style == "replayed" else None
    return OpenAIChatCompletionsModel(MODEL, client, should_replay_reasoning_content=replay)


def settings_of(style: str) -> ModelSettings:
    """What is asked of the Responses API; the others take no such settings."""
    if style == "responses_sealed":
        return ModelSettings(
            reasoning=Reasoning(summary="auto"),
            response_include=["reasoning.encrypted_content"],
            store=False,
        )
    return ModelSettings(reasoning=Reasoning(summary="auto") if "responses" in style else None)


async def converse(stay: Stay) -> RunResult:
    """One run."""
    style, visit = stay.style, stay.visit
    given = style if style in ("reasoning", "think_tags") else None
    async with AsyncOpenAI(base_url=stay.url(given), api_key="none", max_retries=0) as client:
        agent = Agent(
            name="clerk",
            instructions=SYSTEM,
            tools=[function_tool(function_of(one, visit)) for one in visit.definitions()],
            model=model_of(style, client),
            model_settings=settings_of(style),
        )
        return await Runner.run(
            agent,
            visit.task.text,
            max_turns=CALL_LIMIT + 1,
            auto_previous_response_id=style == "responses_chained",
        )


def play(stay: Stay) -> Played:
    """One run: its trace, and its items."""
    exporter = Exporter()
    set_trace_processors([exporter])
    ended, more = "done", {}
    try:
        items = asyncio.run(converse(stay)).to_input_list()
        if stay.style.startswith("responses"):
            more[".items.json"] = json.dumps(items, indent=1) + "\n"
    except MaxTurnsExceeded:
        ended = "limit"
    return Played("".join(json.dumps(line) + "\n" for line in exporter.lines), ended, more)


if __name__ == "__main__":
    run_all("openai_agents", __version__, RUNS, play, ending=".trace.jsonl", wire=WIRE, words=WORDS)
