# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "langgraph==1.2.22", "langchain==1.4.7", "langchain-core==1.7.2", "langchain-openai==1.7.3",
#   "langchain-deepseek==1.1.1", "langchain-anthropic==1.7.7", "openai==3.54.0", "anthropic==2.12.0",
# ]
# ///
"""A few runs of LangChain's agent, a graph of LangGraph: its states, and what it streams.

Writes ``frameworks/langgraph/<style>/`` with ``<task>.history.json`` (snapshots, as
``get_state_history`` gives them), ``<task>.updates.jsonl``, ``<task>.values.jsonl`` (streams) or
``<task>.events.jsonl``, a ``wire.har`` of one run of each style, and ``truth_parts/langgraph.json``.
Run it as ``uv run --script run_langgraph.py OUT``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ["LANGSMITH_TRACING"] = "false"  # nothing is reported to anyone

import clean
from langchain.agents import create_agent
from langchain_anthropic import ChatAnthropic
from langchain_core.language_models import BaseChatModel
from langchain_core.load import dumpd
from langchain_core.tools import StructuredTool
from langchain_deepseek import ChatDeepSeek
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.errors import GraphRecursionError
from offline import CALL_LIMIT
from server import ModelServer, serving
from visit import ToolRaised, Visit, tasks_by_id, truth_of, write_part

MODEL = "planner-1"
TRIAL = 1
SYSTEM = (
    "You are the clerk of a service desk. Make one tool call after the other; the one that hands in "
    "your answer is submit, and it is final."
)
RUNS = {
    "openai": {"tables-easy-1": "updates", "orders-medium-7": "updates"},
    "deepseek": {"orders-easy-3": "history", "tables-easy-4": "updates"},
    "responses": {"tables-easy-7": "updates", "orders-easy-3": "values"},
    "anthropic": {"tables-easy-6": "updates", "orders-easy-3": "events"},
}
"""Style to its tasks, and to the form in which each of these runs is written down."""
ON_THE_WIRE = {"openai": "tables-easy-1", "anthropic": "orders-easy-3"}


def model_of(server: ModelServer, style: str, task_id: str) -> BaseChatModel:
    """LangChain's own class for the API that the style belongs to."""
    url = server.base_url(style, task_id, TRIAL)
    common: dict[str, Any] = {"model": MODEL, "max_retries": 0, "disable_streaming": True}
    if style == "anthropic":
        bare = server.base_url(style, task_id, TRIAL, version="")
        thinking = {"type": "enabled", "budget_tokens": 1024}
        return ChatAnthropic(
            **common, base_url=bare, api_key="none", thinking=thinking, max_tokens=4096
        )
    if style == "deepseek":
        return ChatDeepSeek(**common, api_base=url, api_key="none")
    if style == "responses":
        reasoning = {"effort": "medium", "summary": "auto"}
        return ChatOpenAI(
            **common, base_url=url, api_key="none", use_responses_api=True, reasoning=reasoning
        )
    return ChatOpenAI(**common, base_url=url, api_key="none")


def tool_of(definition: dict[str, Any], visit: Visit) -> StructuredTool:
    """A tool of the desk, or the one that hands in the answer and ends the run."""
    function = definition["function"]
    name = function["name"]

    def use(**arguments: Any) -> str:
        return (
            visit.submit(arguments["answer"]) if name == "submit" else visit.call(name, arguments)
        )

    return StructuredTool.from_function(
        use,
        name=name,
        description=function["description"],
        args_schema=function["parameters"],
        return_direct=name == "submit",
    )


def written(value: Any) -> Any:
    """What is no JSON yet: messages as LangChain dumps them, anything else by its name."""
    return dumpd(value) if hasattr(value, "lc_id") else repr(value)


def parts_of(agent: Any, form: str, given: Any, config: Any) -> Iterator[Any]:
    """What a run gives while it goes on."""
    if form != "events":
        yield from agent.stream(given, config, stream_mode=form)
        return
    kinds = ("chat_model", "tool")
    loop = asyncio.new_event_loop()
    events = agent.astream_events(given, config, version="v2", include_types=kinds)
    while (event := loop.run_until_complete(anext(events, None))) is not None:
        yield event


def run(model: BaseChatModel, visit: Visit, form: str, path: Path) -> str:
    """One run and its log; how it ended. What a tool raises ends it: the framework lets it through."""
    tools = [tool_of(definition, visit) for definition in visit.definitions()]
    agent = create_agent(model, tools, system_prompt=SYSTEM, checkpointer=InMemorySaver())
    given = {"messages": [{"role": "user", "content": visit.task.text}]}
    config = {"configurable": {"thread_id": visit.task.id}, "recursion_limit": 2 * CALL_LIMIT + 1}
    lines: list[Any] = []
    ended = "done"
    try:
        lines.extend(parts_of(agent, "updates" if form == "history" else form, given, config))
    except ToolRaised as raised:
        ended = type(raised).__name__
    except GraphRecursionError:
        ended = "limit"
    if form == "history":
        lines = [[state._asdict() for state in agent.get_state_history(config)]]
    log = "".join(json.dumps(line, default=written) + "\n" for line in lines)
    clean.check(log, path.name)
    path.write_text(log, encoding="utf-8")
    return ended


def main() -> None:
    """Run the tasks in each style and write logs and truth."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="folder to write frameworks/ and truth_parts/ into")
    parser.add_argument("--limit", type=int, help="the first N tasks of each style only")
    options = parser.parse_args()
    out: Path = options.out.resolve()
    logs = out / "frameworks" / "langgraph"
    shutil.rmtree(logs, ignore_errors=True)
    tasks = tasks_by_id()
    truth: list[dict[str, Any]] = []
    with serving() as server, tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for style, forms in RUNS.items():
            (logs / style).mkdir(parents=True, exist_ok=True)
            for task_id, form in list(forms.items())[: options.limit]:
                visit = Visit(tasks[task_id], TRIAL)
                ending = "history.json" if form == "history" else f"{form}.jsonl"
                path = logs / style / f"{task_id}.{ending}"
                ended = run(model_of(server, style, task_id), visit, form, path)
                truth.append(
                    truth_of(
                        visit,
                        server.records[style, task_id, str(TRIAL)],
                        ended == "limit",
                        style=style,
                        log=str(path.relative_to(out)),
                        wire=ON_THE_WIRE.get(style) == task_id,
                        ended=ended,
                    )
                )
                if ON_THE_WIRE.get(style) == task_id:
                    server.write_har(logs / style / "wire.har", [(style, task_id, str(TRIAL))])
        for wire in logs.rglob("wire.har"):
            clean.check(wire.read_text(encoding="utf-8"), wire.name)
    write_part(out, "langgraph", version("langgraph"), truth)


if __name__ == "__main__":
    main()
