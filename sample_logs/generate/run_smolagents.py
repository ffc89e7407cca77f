# /// script
# requires-python = ">=3.11"
# dependencies = ["smolagents[openai]==1.26.0", "openai==3.54.0"]
# ///
"""A few runs of smolagents at the desk: the memory of its agent that calls tools.

Writes ``frameworks/smolagents/<style>/<task>.json`` as ``agent.memory.get_full_steps`` gives it, the
messages that the model was sent left out of most (they hold the whole history at each step);
``wire.har`` beside the styles, and ``truth_parts/smolagents.json``. The prompts are ours, so that none
of the framework's own text is in a log. Run it as ``uv run --script run_smolagents.py OUT``.
"""

from __future__ import annotations

import json
from typing import Any

import smolagents
from offline import CALL_LIMIT
from running import MODEL, Played, Stay, run_all
from smolagents import OpenAIModel, PromptTemplates, Tool, ToolCallingAgent
from visit import Visit

RUNS = {
    "reasoning_content": ["orders-easy-3", "orders-easy-7", "tables-easy-7"],
    "reasoning": ["tables-easy-8"],
    "think_tags": ["tables-easy-8", "bookings-medium-1"],
}
WITH_REQUESTS = {("reasoning_content", "tables-easy-7")}
"""Runs whose log keeps the messages that the model was sent."""
WIRE = {"reasoning_content": ["orders-easy-7"], "think_tags": ["bookings-medium-1"]}
WORDS = {"advice": "Please try again or use another tool"}
SYSTEM = (
    "You work at a service desk. Use the tools, one call at a time, and hand in your answer with "
    "final_answer."
)


class DeskTool(Tool):
    """A tool of the desk."""

    skip_forward_signature_validation = True
    output_type = "string"

    def __init__(self, definition: dict[str, Any], visit: Visit) -> None:
        function = definition["function"]
        self.name = function["name"]
        self.description = function["description"]
        self.inputs = function["parameters"]["properties"]
        self.visit = visit
        super().__init__()

    def forward(self, **arguments: Any) -> str:
        """Do the call."""
        return self.visit.call(self.name, arguments)


def play(stay: Stay) -> Played:
    """One run, and the agent's memory of it."""
    visit = stay.visit
    given = None if stay.style == "reasoning_content" else stay.style
    empty: dict[str, Any] = {
        "planning": {
            "initial_plan": "",
            "update_plan_pre_messages": "",
            "update_plan_post_messages": "",
        },
        "managed_agent": {"task": "", "report": ""},
        "final_answer": {"pre_messages": "", "post_messages": ""},
    }
    agent = ToolCallingAgent(
        tools=[DeskTool(tool.definition(), visit) for tool in visit.desk.tools.values()],
        model=OpenAIModel(MODEL, api_base=stay.url(given), api_key="none"),
        prompt_templates=PromptTemplates(system_prompt=SYSTEM, **empty),
        verbosity_level=0,
    )
    result = agent.run(visit.task.text, max_steps=CALL_LIMIT + 1, return_full_result=True)
    if result.state == "success":
        visit.submit(result.output)
    steps = agent.memory.get_full_steps()
    if (stay.style, visit.task.id) not in WITH_REQUESTS:
        steps = [{**step, "model_input_messages": None} for step in steps]
    ended = "done" if result.state == "success" else "limit"
    return Played(json.dumps(steps, indent=1) + "\n", ended)


if __name__ == "__main__":
    run_all("smolagents", smolagents.__version__, RUNS, play, wire=WIRE, words=WORDS)
