# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "crewai[anthropic]==1.15.30", "anthropic==0.73.0", "openai==2.54.0", "pydantic==2.12.5",
# ]
# ///
"""A few runs of a crew of one agent, CrewAI's own, at the desk.

Writes ``frameworks/crewai/<style>/<task>.json`` with ``wire.har`` beside the styles, and
``truth_parts/crewai.json``. A log is the crew's output, the events that its bus passed on as a listener
dumps them, or what the crew writes to its ``output_log_file``. Run it as
``uv run --script run_crewai.py OUT``.
"""

from __future__ import annotations

# ruff: noqa: E402  (CrewAI reads its settings when it is imported)
import json
import os
import tempfile
from pathlib import Path
from typing import Any

HOME = tempfile.mkdtemp()
os.environ["HOME"] = os.environ["CREWAI_STORAGE_DIR"] = HOME  # no settings of this machine
for setting in ("CREWAI_DISABLE_TELEMETRY", "CREWAI_DISABLE_TRACKING", "OTEL_SDK_DISABLED"):
    os.environ[setting] = "true"  # nothing is reported to anyone
os.environ["CREWAI_TRACING_ENABLED"] = "false"

import crewai
from crewai import LLM, Agent, Crew
from crewai import Task as CrewTask
from crewai.events import crewai_event_bus
from crewai.events.base_events import BaseEvent
from crewai.events.types.crew_events import CrewKickoffCompletedEvent, CrewKickoffStartedEvent
from crewai.events.types.llm_events import LLMCallCompletedEvent, LLMCallStartedEvent
from crewai.events.types.task_events import TaskCompletedEvent, TaskStartedEvent
from crewai.events.types.tool_usage_events import (
    ToolFailureDetectedEvent,
    ToolUsageErrorEvent,
    ToolUsageFinishedEvent,
    ToolUsageStartedEvent,
)
from crewai.tools import BaseTool
from crewai.utilities.i18n import I18N_DEFAULT
from offline import CALL_LIMIT
from pydantic import PrivateAttr, create_model
from running import MODEL, Played, Stay, run_all
from visit import Visit

RUNS = {
    "reasoning_content": ["orders-easy-3", "tables-easy-8", "orders-easy-7", "tables-easy-7"],
    "think_tags": ["tables-easy-8", "orders-easy-7"],
    "anthropic": ["tables-easy-8", "orders-easy-7"],
}
FORMS = {
    ("reasoning_content", "tables-easy-8"): "events",
    ("anthropic", "tables-easy-8"): "events",
    ("reasoning_content", "tables-easy-7"): "log",
}
"""What a run is saved as, other than as the output of its crew."""
WIRE = {style: ["tables-easy-8"] for style in RUNS}
TYPES: dict[str, Any] = {"string": str, "integer": int, "number": float}
PROMPTS = {
    "role_playing": "You are the {role} of a service desk, to {goal}. {backstory}",
    "native_task": "{input}",
    "expected_output": "Hand in {expected_output}.",
}
"""Our own words in place of the framework's, which are its authors'."""
HEARD: list[BaseEvent] = []
OBJECTS = {"task", "agent", "crew", "from_task", "from_agent"}
"""Fields of events that hold whole objects of the program."""


@crewai_event_bus.on(CrewKickoffStartedEvent)
@crewai_event_bus.on(CrewKickoffCompletedEvent)
@crewai_event_bus.on(TaskStartedEvent)
@crewai_event_bus.on(TaskCompletedEvent)
@crewai_event_bus.on(LLMCallStartedEvent)
@crewai_event_bus.on(LLMCallCompletedEvent)
@crewai_event_bus.on(ToolUsageStartedEvent)
@crewai_event_bus.on(ToolUsageFinishedEvent)
@crewai_event_bus.on(ToolUsageErrorEvent)
@crewai_event_bus.on(ToolFailureDetectedEvent)
def hear(source: Any, event: BaseEvent) -> None:
    """Keep an event."""
    HEARD.append(event)


class DeskTool(BaseTool):
    """A tool of the desk, or the one that hands in the answer."""

    _visit: Visit = PrivateAttr()

    def _run(self, **arguments: Any) -> str:
        if self.name == "submit":
            return self._visit.submit(arguments["answer"])
        return self._visit.call(self.name, arguments)


def tool_of(definition: dict[str, Any], visit: Visit) -> DeskTool:
    """A tool of the framework; the answer that is handed in is that of the task."""
    function = definition["function"]
    name: str = function["name"]
    properties = function["parameters"]["properties"].items()
    tool = DeskTool(
        name=name,
        description=function["description"],
        args_schema=create_model(
            name, **{key: (TYPES[kind["type"]], ...) for key, kind in properties}
        ),
        result_as_answer=name == "submit",
    )
    tool._visit = visit
    return tool


def model_of(stay: Stay) -> Any:
    """The framework's own client of the API that the style belongs to."""
    if stay.style == "anthropic":
        return LLM(
            model=MODEL,
            provider="anthropic",
            api_key="none",
            base_url=stay.url(version=""),
            max_tokens=4096,
            thinking={"type": "enabled", "budget_tokens": 2048},
        )
    given = "think_tags" if stay.style == "think_tags" else None
    return LLM(model=MODEL, provider="openai", api_key="none", base_url=stay.url(given))


def play(stay: Stay) -> Played:
    """One kickoff of the crew."""
    HEARD.clear()
    clerk = Agent(
        role="clerk",
        goal="answer what is asked",
        backstory="Use the tools, one call at a time, and hand in your answer with submit.",
        llm=model_of(stay),
        tools=[tool_of(definition, stay.visit) for definition in stay.visit.definitions()],
        allow_delegation=False,
        max_iter=CALL_LIMIT + 1,
        max_retry_limit=0,
    )
    task = CrewTask(
        name=stay.visit.task.id,
        description=stay.visit.task.text,
        expected_output="the answer",
        agent=clerk,
    )
    log = Path(f"{stay.style}-{stay.visit.task.id}.json")
    crew = Crew(agents=[clerk], tasks=[task], output_log_file=str(log), tracing=False)
    output = crew.kickoff()
    form = FORMS.get((stay.style, stay.visit.task.id))
    if form == "log":
        return Played(log.read_text(encoding="utf-8"))
    if form == "events":
        crewai_event_bus.flush()
        heard = sorted(HEARD, key=lambda event: event.emission_sequence or 0)
        lines = [json.dumps(event.to_json(exclude=OBJECTS)) for event in heard]
        return Played("[\n" + ",\n".join(lines) + "\n]\n")
    return Played(output.model_dump_json(indent=1) + "\n")


if __name__ == "__main__":
    I18N_DEFAULT._prompts["slices"].update(
        PROMPTS
    )  # its option for a file of prompts has no effect
    run_all("crewai", crewai.__version__, RUNS, play, wire=WIRE)
