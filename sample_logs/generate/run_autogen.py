# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "autogen-agentchat==0.7.5",
#     "autogen-ext[anthropic,openai]==0.7.5",
#     "anthropic==0.79.0",
#     "openai==2.54.0",
# ]
# ///
"""A few runs of AutoGen AgentChat at the desk, saved in the forms in which people save them.

Writes ``frameworks/autogen/<style>/<task>.<form>.json`` (``.jsonl`` for a stream), all that went over
the wire in ``wire.har`` beside them, and ``truth_parts/autogen.json``. Run it as
``uv run --script run_autogen.py OUT``. Anthropic's client is older than it could be: this version of
AutoGen does not work with newer ones.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import autogen_agentchat
import clean
from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.base import TaskResult
from autogen_agentchat.teams import RoundRobinGroupChat
from autogen_core import CancellationToken
from autogen_core.models import ChatCompletionClient, ModelFamily, ModelInfo
from autogen_core.tools import BaseTool
from autogen_ext.models.anthropic import AnthropicChatCompletionClient
from autogen_ext.models.openai import OpenAIChatCompletionClient
from offline import CALL_LIMIT
from pydantic import BaseModel, create_model
from server import ModelServer, serving
from visit import Visit, tasks_by_id, truth_of, write_part

MODEL = "planner-1"
TRIAL = 1
SYSTEM = (
    "You are the clerk of a service desk. Work with one tool at a time, hand in your answer with "
    "submit, and then say that you are done."
)
RUNS = {
    "reasoning_content": {"orders-easy-3": "team_state", "orders-medium-7": "agent_state"},
    "think_tags": {"tables-easy-8": "result"},
    "anthropic": {"tables-medium-2": "team_state", "tables-easy-8": "stream"},
}
"""Style to its tasks, and to the form in which each of these runs is saved."""
TYPES: dict[str, type] = {"string": str, "integer": int, "number": float, "boolean": bool}


class DeskTool(BaseTool[BaseModel, str]):
    """A tool of the desk, or the one that hands in the answer."""

    def __init__(self, definition: dict[str, Any], visit: Visit) -> None:
        function = definition["function"]
        properties = function["parameters"]["properties"]
        fields: dict[str, Any] = {
            name: (TYPES[given["type"]], ...) for name, given in properties.items()
        }
        model = create_model(f"{function['name']}_arguments", **fields)
        super().__init__(model, str, function["name"], function["description"])
        self._visit = visit

    async def run(self, args: BaseModel, cancellation_token: CancellationToken) -> str:
        """Do the call; what a perturbation raises is left to the framework."""
        if self.name == "submit":
            return self._visit.submit(args.model_dump()["answer"])
        return self._visit.call(self.name, args.model_dump())


def client_of(server: ModelServer, style: str, task_id: str) -> ChatCompletionClient:
    """The framework's own client of the API that the style belongs to."""
    is_anthropic = style == "anthropic"
    info = ModelInfo(
        vision=False,
        function_calling=True,
        json_output=False,
        structured_output=False,
        family=ModelFamily.R1 if style == "think_tags" else ModelFamily.UNKNOWN,
    )
    if is_anthropic:
        url = server.base_url(style, task_id, TRIAL, version="")
        return AnthropicChatCompletionClient(
            model=MODEL, base_url=url, api_key="none", model_info=info, max_retries=0
        )
    url = server.base_url(style, task_id, TRIAL, style)
    return OpenAIChatCompletionClient(
        model=MODEL, base_url=url, api_key="none", model_info=info, max_retries=0
    )


async def run(client: ChatCompletionClient, visit: Visit, form: str) -> str:
    """One run, and the text of its log."""
    agent = AssistantAgent(
        "clerk",
        client,
        tools=[DeskTool(definition, visit) for definition in visit.definitions()],
        system_message=SYSTEM,
        max_tool_iterations=CALL_LIMIT + 1,
        model_client_stream=form == "stream",
    )
    if form == "team_state":
        team = RoundRobinGroupChat([agent], max_turns=1)
        await team.run(task=visit.task.text)
        return json.dumps(await team.save_state(), indent=1) + "\n"
    if form == "stream":
        lines = [
            message.model_dump_json()
            async for message in agent.run_stream(task=visit.task.text)
            if not isinstance(message, TaskResult)
        ]
        return "\n".join(lines) + "\n"
    result = await agent.run(task=visit.task.text)
    if form == "agent_state":
        return json.dumps(await agent.save_state(), indent=1) + "\n"
    return result.model_dump_json(indent=1) + "\n"


def main() -> None:
    """Run the tasks in each style and write logs and truth."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="folder to write frameworks/ and truth_parts/ into")
    parser.add_argument("--limit", type=int, help="the first N tasks of each style only")
    options = parser.parse_args()
    out: Path = options.out.resolve()
    logs = out / "frameworks" / "autogen"
    shutil.rmtree(logs, ignore_errors=True)
    tasks = tasks_by_id()
    truth: list[dict[str, Any]] = []
    with serving() as server, tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for style, forms in RUNS.items():
            for task_id, form in list(forms.items())[: options.limit]:
                visit = Visit(tasks[task_id], TRIAL)
                log = asyncio.run(run(client_of(server, style, task_id), visit, form))
                clean.check(log, task_id)
                name = f"{task_id}.{form}.json" + ("l" if form == "stream" else "")
                (logs / style).mkdir(parents=True, exist_ok=True)
                (logs / style / name).write_text(log, encoding="utf-8")
                path = f"frameworks/autogen/{style}/{name}"
                record = server.records[style, task_id, str(TRIAL)]
                truth.append(truth_of(visit, record, log_text=log, style=style, log=path))
        server.write_har(logs / "wire.har")
    clean.check((logs / "wire.har").read_text(encoding="utf-8"), "wire.har")
    write_part(out, "autogen", autogen_agentchat.__version__, truth)


if __name__ == "__main__":
    main()
