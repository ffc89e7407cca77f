# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "llama-index-core==0.14.25",
#     "llama-index-workflows==2.26.1",
#     "llama-index-llms-anthropic==0.12.3",
#     "llama-index-llms-openai==0.8.3",
#     "llama-index-llms-openai-like==0.8.1",
#     "anthropic==0.125.0",
#     "openai==2.54.0",
#     "pydantic==2.13.4",
# ]
# ///
"""A few runs of LlamaIndex's function agent at the desk, saved as contexts or as events.

Writes ``frameworks/llama_index/<style>/<task>.json`` with ``wire.har`` beside the styles, and
``truth_parts/llama_index.json``. A context is what ``Context.to_dict()`` gives, an event what the
workflow's own serializer writes. Run it as ``uv run --script run_llama_index.py OUT``.
"""

from __future__ import annotations

import asyncio
import json
from importlib.metadata import version
from typing import Any

from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.llms import LLMMetadata
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.tools import FunctionTool
from llama_index.core.workflow import Context, JsonSerializer
from llama_index.llms.anthropic import Anthropic
from llama_index.llms.openai_like import OpenAILike
from offline import CALL_LIMIT
from pydantic import create_model
from running import MODEL, SYSTEM, Played, Stay, run_all
from visit import Visit
from workflows.errors import WorkflowRuntimeError

RUNS = {
    "reasoning_content": ["orders-easy-3", "tables-easy-8", "orders-easy-7", "tables-easy-7"],
    "think_tags": ["tables-easy-8", "orders-easy-7"],
    "anthropic": ["tables-easy-8", "orders-easy-7"],
}
EVENTS = {("reasoning_content", "tables-easy-8"), ("anthropic", "orders-easy-7")}
"""Runs that are saved as their events; the others as the context at their end."""
WIRE = {"reasoning_content": ["tables-easy-8"], "anthropic": ["orders-easy-7"]}
LOOP = asyncio.new_event_loop()
TYPES: dict[str, Any] = {"string": str, "integer": int, "number": float}


class Messages(Anthropic):
    """The framework's client of Anthropic's API, for a model whose name is none of theirs."""

    @property
    def metadata(self) -> LLMMetadata:
        """What the agent has to know of the model."""
        return LLMMetadata(
            context_window=200_000, is_chat_model=True, is_function_calling_model=True
        )


def model_of(stay: Stay) -> FunctionCallingLLM:
    """The framework's own client of the API that the style belongs to."""
    if stay.style == "anthropic":
        return Messages(
            model=MODEL,
            api_key="none",
            base_url=stay.url(version=""),
            max_tokens=4096,
            temperature=1.0,
            thinking_dict={"type": "enabled", "budget_tokens": 2048},
        )
    given = "think_tags" if stay.style == "think_tags" else None
    return OpenAILike(
        model=MODEL,
        api_key="none",
        api_base=stay.url(given),
        is_chat_model=True,
        is_function_calling_model=True,
        max_retries=0,
    )


def tool_of(definition: dict[str, Any], visit: Visit) -> FunctionTool:
    """A tool of the desk, or the one that hands in the answer and ends the run."""
    function = definition["function"]
    name: str = function["name"]

    def use(**arguments: Any) -> str:
        return (
            visit.submit(arguments["answer"]) if name == "submit" else visit.call(name, arguments)
        )

    properties = function["parameters"]["properties"].items()
    schema = create_model(name, **{key: (TYPES[kind["type"]], ...) for key, kind in properties})
    return FunctionTool.from_defaults(
        use,
        name=name,
        description=function["description"],
        fn_schema=schema,
        return_direct=name == "submit",
    )


async def ask(agent: FunctionAgent, stay: Stay) -> Played:
    """One run, and its events or its context."""
    context, serializer = Context(agent), JsonSerializer()
    running = agent.run(user_msg=stay.visit.task.text, ctx=context, max_iterations=CALL_LIMIT + 1)
    events = [serializer.serialize(event) async for event in running.stream_events()]
    ended = "done"
    try:
        await running
    except WorkflowRuntimeError as error:
        ended = "limit" if "Max iterations" in str(error) else type(error).__name__
    if (stay.style, stay.visit.task.id) in EVENTS:
        return Played("[\n" + ",\n".join(events) + "\n]\n", ended)
    return Played(json.dumps(context.to_dict(serializer), indent=1) + "\n", ended)


def play(stay: Stay) -> Played:
    """One run of the function agent, which tells the tools' errors to its model as plain text."""
    agent = FunctionAgent(
        name="clerk",
        system_prompt=SYSTEM,
        tools=[tool_of(definition, stay.visit) for definition in stay.visit.definitions()],
        llm=model_of(stay),
        streaming=False,
    )
    return LOOP.run_until_complete(ask(agent, stay))


if __name__ == "__main__":
    run_all("llama_index", version("llama-index-core"), RUNS, play, wire=WIRE)
