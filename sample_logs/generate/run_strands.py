# /// script
# requires-python = ">=3.11"
# dependencies = ["strands-agents[anthropic,openai]==1.62.0", "anthropic==0.125.0", "openai==2.54.0"]
# ///
"""A few runs of Strands Agents at the desk: session folders, snapshots and dumped messages.

Writes ``frameworks/strands/<style>/`` with ``session_<task>/``, ``<task>.snapshot.json`` or
``<task>.messages.json``, all that went over the wire in ``wire.har`` beside them, and
``truth_parts/strands.json``. Run it as ``uv run --script run_strands.py OUT``.
"""

from __future__ import annotations

import argparse
import inspect
import json
import os
import shutil
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import clean
from offline import CALL_LIMIT
from server import ModelServer, serving
from strands import Agent, tool
from strands.models import Model
from strands.models.anthropic import AnthropicModel
from strands.models.openai import OpenAIModel
from strands.session.file_session_manager import FileSessionManager
from visit import Visit, tasks_by_id, truth_of, write_part

MODEL = "planner-1"
TRIAL = 2
SYSTEM = (
    "You keep the books of a service desk. Call a single tool each time; once you know the answer, "
    "hand it in with submit and say so."
)
RUNS = {
    "reasoning_content": {"tables-medium-1": "session"},
    "think_tags": {"tables-medium-5": "messages"},
    "anthropic": {"orders-medium-2": "session", "orders-medium-8": "snapshot"},
}
"""Style to its tasks, and to the form in which each of these runs is saved."""
TYPES: dict[str, type] = {"string": str, "integer": int, "number": float, "boolean": bool}


def tool_of(definition: dict[str, Any], visit: Visit) -> Any:
    """A tool of the desk, or the one that hands in the answer, as the framework's decorator makes it."""
    function = definition["function"]
    name, properties = function["name"], function["parameters"]["properties"]

    def use(**arguments: Any) -> str:
        """Do the call; what a perturbation raises is left to the framework."""
        return (
            visit.submit(arguments["answer"]) if name == "submit" else visit.call(name, arguments)
        )

    kinds = {key: TYPES[given["type"]] for key, given in properties.items()}
    use.__annotations__ = {**kinds, "return": str}
    keyword = inspect.Parameter.KEYWORD_ONLY
    use.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter(key, keyword, annotation=kind) for key, kind in kinds.items()]
    )
    return tool(
        name=name, description=function["description"], inputSchema={"json": function["parameters"]}
    )(use)


def model_of(server: ModelServer, style: str, task_id: str) -> Model:
    """The framework's own client of the API that the style belongs to."""
    if style == "anthropic":
        url = server.base_url(style, task_id, TRIAL, version="")
        arguments = {"base_url": url, "api_key": "none", "max_retries": 0}
        return AnthropicModel(client_args=arguments, model_id=MODEL, max_tokens=4096)
    url = server.base_url(style, task_id, TRIAL, style)
    arguments = {"base_url": url, "api_key": "none", "max_retries": 0}
    return OpenAIModel(client_args=arguments, model_id=MODEL)


def run(model: Model, visit: Visit, form: str, folder: Path) -> bool:
    """One run, saved in a folder; whether it ended at the limit of calls."""
    manager = None
    if form == "session":
        manager = FileSessionManager(session_id=visit.task.id, storage_dir=str(folder))
    agent = Agent(
        model=model,
        agent_id="clerk",
        system_prompt=SYSTEM,
        tools=[tool_of(definition, visit) for definition in visit.definitions()],
        session_manager=manager,
        callback_handler=None,
        load_tools_from_directory=False,
    )
    result = agent(visit.task.text, limits={"turns": CALL_LIMIT + 1})
    if form == "snapshot":
        saved: Any = agent.take_snapshot(preset="session", include=["system_prompt"]).to_dict()
    else:
        saved = agent.messages
    if form != "session":
        text = json.dumps(saved, indent=1) + "\n"
        (folder / f"{visit.task.id}.{form}.json").write_text(text, encoding="utf-8")
    return str(result.stop_reason).startswith("limit")


def text_of(log: Path) -> str:
    """A file's text, or the text of all files in a folder."""
    files = sorted(log.rglob("*.json")) if log.is_dir() else [log]
    return "\n".join(file.read_text(encoding="utf-8") for file in files)


def main() -> None:
    """Run the tasks in each style and write logs and truth."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="folder to write frameworks/ and truth_parts/ into")
    parser.add_argument("--limit", type=int, help="the first N tasks of each style only")
    options = parser.parse_args()
    out: Path = options.out.resolve()
    logs = out / "frameworks" / "strands"
    shutil.rmtree(logs, ignore_errors=True)
    tasks = tasks_by_id()
    truth: list[dict[str, Any]] = []
    with serving() as server, tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for style, forms in RUNS.items():
            (logs / style).mkdir(parents=True, exist_ok=True)
            for task_id, form in list(forms.items())[: options.limit]:
                visit = Visit(tasks[task_id], TRIAL)
                is_limit = run(model_of(server, style, task_id), visit, form, logs / style)
                name = f"session_{task_id}" if form == "session" else f"{task_id}.{form}.json"
                log = text_of(logs / style / name)
                clean.check(log, name)
                columns = {"style": style, "log": f"frameworks/strands/{style}/{name}"}
                record = server.records[style, task_id, str(TRIAL)]
                truth.append(truth_of(visit, record, is_limit, log_text=log, **columns))
        server.write_har(logs / "wire.har")
    clean.check(text_of(logs / "wire.har"), "wire.har")
    write_part(out, "strands", version("strands-agents"), truth)


if __name__ == "__main__":
    main()
