# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "mlflow==3.17.2", "openai==3.54.0", "anthropic==2.12.0", "langchain==1.4.7",
#   "langchain-core==1.7.2", "langgraph==1.2.22", "langchain-openai==1.7.3",
#   "langchain-deepseek==1.1.1",
# ]
# ///
"""MLflow traces of a few runs: clients of OpenAI and Anthropic in plain loops, and LangChain's agent.

Each style traces what its client does by MLflow's own ``autolog``, into a store of this run alone.
Writes ``frameworks/mlflow/<style>/<task>.json`` as ``Trace.to_json`` gives it, and for the style
``openai_dropped``, whose loop leaves thinking out of what it sends, ``search.json``: rows as
``search_traces`` gives them. A ``wire.har`` holds one run of that style. Also writes
``truth_parts/mlflow.json``. Run it as ``uv run --script run_mlflow.py OUT``.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.update(
    MLFLOW_DISABLE_TELEMETRY="true", DO_NOT_TRACK="true", LANGSMITH_TRACING="false"
)  # nothing is reported to anyone

import clean
import mlflow
from anthropic import Anthropic
from langchain.agents import create_agent
from langchain_core.tools import StructuredTool
from langchain_deepseek import ChatDeepSeek
from langgraph.errors import GraphRecursionError
from mlflow.entities import SpanType
from offline import CALL_LIMIT
from openai import OpenAI
from server import ModelServer, serving
from visit import ToolRaised, Visit, tasks_by_id, truth_of, write_part

MODEL = "planner-1"
TRIAL = 5
SYSTEM = (
    "You answer the requests that reach a service desk. Call its tools singly, and give your answer "
    "through submit as soon as you have it."
)
RUNS = {
    "openai": ["tables-easy-2"],
    "openai_dropped": ["tables-easy-5"],
    "responses": ["tables-easy-2"],
    "anthropic": ["tables-easy-2"],
    "langchain": ["orders-easy-5"],
}
ON_THE_WIRE = {"openai_dropped": "tables-easy-5"}


def use(visit: Visit, name: str, arguments: dict[str, Any]) -> str:
    """A call of a tool, traced under the name that the model calls it by."""
    with mlflow.start_span(name, span_type=SpanType.TOOL) as span:
        span.set_inputs(arguments)
        response = (
            visit.submit(arguments["answer"]) if name == "submit" else visit.call(name, arguments)
        )
        span.set_outputs(response)
        return response


def chat(client: OpenAI, visit: Visit, keeps: bool) -> None:
    """A loop over Chat Completions, which sends thinking back or does not."""
    messages: list[Any] = [
        {"role": "system", "content": SYSTEM},
        {"role": "user", "content": visit.task.text},
    ]
    while len(messages) < 2 * CALL_LIMIT:
        reply = client.chat.completions.create(
            model=MODEL, messages=messages, tools=visit.definitions(), temperature=0.5
        )
        message = reply.choices[0].message
        calls = [call.model_dump() for call in message.tool_calls or []]
        dropped = {"role": "assistant", "content": message.content, "tool_calls": calls}
        messages.append(message if keeps else dropped)
        for call in calls:
            function = call["function"]
            response = use(visit, function["name"], json.loads(function["arguments"]))
            if visit.answer is not None:
                return
            messages.append({"role": "tool", "tool_call_id": call["id"], "content": response})


def respond(client: OpenAI, visit: Visit, _keeps: bool) -> None:
    """A loop over the Responses API: reasoning items go back sealed, and nothing is kept elsewhere."""
    items: list[Any] = [{"role": "user", "content": visit.task.text}]
    tools = [{"type": "function", **tool["function"]} for tool in visit.definitions()]
    for _ in range(CALL_LIMIT):
        reply = client.responses.create(
            model=MODEL,
            instructions=SYSTEM,
            input=items,
            tools=tools,
            store=False,
            include=["reasoning.encrypted_content"],
            reasoning={"summary": "auto"},
        )
        items += [item.model_dump(exclude_none=True) for item in reply.output]
        for call in [item for item in reply.output if item.type == "function_call"]:
            response = use(visit, call.name, json.loads(call.arguments))
            if visit.answer is not None:
                return
            items.append(
                {"type": "function_call_output", "call_id": call.call_id, "output": response}
            )


def talk(client: Anthropic, visit: Visit, _keeps: bool) -> None:
    """A loop over Anthropic's Messages, whose thinking blocks go back with their signatures."""
    messages: list[Any] = [{"role": "user", "content": visit.task.text}]
    tools = [
        {
            "name": tool["function"]["name"],
            "description": tool["function"]["description"],
            "input_schema": tool["function"]["parameters"],
        }
        for tool in visit.definitions()
    ]
    while len(messages) < 2 * CALL_LIMIT:
        reply = client.messages.create(
            model=MODEL,
            system=SYSTEM,
            messages=messages,
            tools=tools,
            max_tokens=4096,
            thinking={"type": "enabled", "budget_tokens": 1024},
        )
        content = [block.model_dump(exclude_none=True) for block in reply.content]
        messages.append({"role": "assistant", "content": content})
        results: list[Any] = []
        for block in [block for block in content if block["type"] == "tool_use"]:
            response = use(visit, block["name"], block["input"])
            if visit.answer is not None:
                return
            results.append({"type": "tool_result", "tool_use_id": block["id"], "content": response})
        messages.append({"role": "user", "content": results})


def graph(model: ChatDeepSeek, visit: Visit, _keeps: bool) -> None:
    """LangChain's agent, whose class of model leaves thinking out of what it sends."""
    tools: list[StructuredTool] = []
    for definition in visit.definitions():
        function = definition["function"]

        def call(name: str = function["name"], **arguments: Any) -> str:
            is_last = name == "submit"
            return visit.submit(arguments["answer"]) if is_last else visit.call(name, arguments)

        tools.append(
            StructuredTool.from_function(
                call,
                name=function["name"],
                description=function["description"],
                args_schema=function["parameters"],
                return_direct=function["name"] == "submit",
            )
        )
    agent = create_agent(model, tools, system_prompt=SYSTEM)
    given: Any = {"messages": [{"role": "user", "content": visit.task.text}]}
    agent.invoke(given, {"recursion_limit": 2 * CALL_LIMIT + 1})


def play(server: ModelServer, style: str, visit: Visit) -> str:
    """One run, traced; how it ended. What a tool raises ends it."""
    url = server.base_url(style, visit.task.id, TRIAL)
    bare = server.base_url(style, visit.task.id, TRIAL, version="")
    loop: Callable[..., None] = {"responses": respond, "anthropic": talk}.get(style, chat)
    client: Any = OpenAI(base_url=url, api_key="none", max_retries=0)
    if style == "anthropic":
        client = Anthropic(base_url=bare, api_key="none", max_retries=0)
    try:
        if style == "langchain":
            graph(ChatDeepSeek(model=MODEL, api_base=url, api_key="none"), visit, True)
        else:
            with mlflow.start_span("clerk", span_type=SpanType.AGENT) as span:
                span.set_inputs({"task": visit.task.text})
                loop(client, visit, style != "openai_dropped")
                span.set_outputs(visit.answer)
    except ToolRaised as raised:
        return type(raised).__name__
    except GraphRecursionError:
        return "limit"
    return "done" if visit.answer is not None else "limit"


def neutral(text: str) -> str:
    """A trace without the folders of this machine, which tracebacks and the store's names hold."""
    text = re.sub(r'(File \\*")[^"\\]*/', r"\1", text)
    text = re.sub(r'(mlflow\.(?:user|source\.name)\\*": ?\\*")[^"\\]*', r"\1clerk", text)
    return re.sub(r'(mlflow\.artifactLocation\\*": ?\\*")[^"\\]*/mlruns/', r"\1mlruns/", text)


def main() -> None:
    """Run the tasks in each style and write traces and truth."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="folder to write frameworks/ and truth_parts/ into")
    parser.add_argument("--limit", type=int, help="the first N tasks of each style only")
    options = parser.parse_args()
    out: Path = options.out.resolve()
    logs = out / "frameworks" / "mlflow"
    shutil.rmtree(logs, ignore_errors=True)
    tasks = tasks_by_id()
    truth: list[dict[str, Any]] = []
    with serving() as server, tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        mlflow.set_tracking_uri("sqlite:///mlflow.db")
        mlflow.openai.autolog()
        mlflow.anthropic.autolog()
        for style, task_ids in RUNS.items():
            mlflow.set_experiment(style)
            if style == "langchain":  # else its own client would be traced as well
                mlflow.openai.autolog(disable=True)
                mlflow.langchain.autolog()
            traces: dict[str, Any] = {}
            for task_id in task_ids[: options.limit]:
                visit = Visit(tasks[task_id], TRIAL)
                ended = play(server, style, visit)
                mlflow.flush_trace_async_logging()
                traces[task_id] = mlflow.get_trace(mlflow.get_last_active_trace_id())
                run = (style, task_id, str(TRIAL))
                is_table = style == "openai_dropped"
                path = logs / style / ("search.json" if is_table else f"{task_id}.json")
                path.parent.mkdir(parents=True, exist_ok=True)
                if not is_table:
                    path.write_text(neutral(traces[task_id].to_json() + "\n"), encoding="utf-8")
                if ON_THE_WIRE.get(style) == task_id:
                    server.write_har(logs / style / "wire.har", [run])
                truth.append(
                    truth_of(
                        visit,
                        server.records[run],
                        ended == "limit",
                        style=style,
                        log=str(path.relative_to(out)),
                        native_id=traces[task_id].info.trace_id,
                        wire=ON_THE_WIRE.get(style) == task_id,
                        ended=ended,
                    )
                )
            if style == "openai_dropped":
                rows = mlflow.search_traces().drop(columns=["spans"]).to_json(orient="records")
                table = json.dumps(json.loads(rows)) + "\n"
                (logs / style / "search.json").write_text(neutral(table), encoding="utf-8")
        for written in logs.rglob("*.*"):
            clean.check(written.read_text(encoding="utf-8"), written.name)
    write_part(out, "mlflow", mlflow.__version__, truth)


if __name__ == "__main__":
    main()
