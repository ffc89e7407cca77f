# /// script
# requires-python = ">=3.11"
# dependencies = ["inspect-ai==0.3.285", "openai==3.54.0"]
# ///
"""The study, run by Inspect: its react agent against the model server, thinking kept or dropped.

Writes ``study/<arm>/<log>.eval`` and ``truth_parts/study.json``. Run it as
``uv run --script run_inspect.py OUT [--limit N] [--epochs N]``; ``make.py`` does.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from typing import Any

import clean
import inspect_ai
from agent import thinking_of
from inspect_ai.agent import AgentPrompt, AgentSubmit, as_solver, react
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.event import ModelEvent
from inspect_ai.log import read_eval_log
from inspect_ai.model import GenerateConfig, get_model
from inspect_ai.scorer import CORRECT, INCORRECT, Score, Scorer, Target, accuracy, scorer
from inspect_ai.solver import Generate, Solver, TaskState, solver
from inspect_ai.tool import ToolDef, ToolError, ToolParam, ToolParams
from offline import ARMS, CALL_LIMIT, SYSTEM
from server import ModelServer, serving
from visit import ToolRaised, Visit, tasks_by_id, truth_of, write_part
from world import Task, Tool, all_tasks

MODEL = "planner-1"
MODEL_NAME = f"openai-api/desk/{MODEL}"
EPOCHS = 2


TASKS = tasks_by_id()
VISITS: dict[tuple[str, str, int], Visit] = {}
"""Arm, task and trial to the run; outside of the solver, so that it does not get into the log."""


def tool_of(tool: Tool, visit: Visit) -> ToolDef:
    """The desk's tool as a tool of the framework."""

    async def use(**kwargs: Any) -> str:
        try:
            return visit.call(tool.name, kwargs)
        except ToolRaised as raised:
            raise ToolError(str(raised)) from None

    properties = {
        name: ToolParam(type=kind, description=text)
        for name, (kind, text) in tool.parameters.items()
    }
    parameters = ToolParams(properties=properties, required=list(properties))
    return ToolDef(use, tool.name, tool.description, parameters)


def submit_of(visit: Visit) -> ToolDef:
    """The tool that hands in the answer."""

    async def submit(**kwargs: Any) -> str:
        return visit.submit(kwargs.get("answer", ""))

    answer = ToolParam(type="string", description="The answer")
    parameters = ToolParams(properties={"answer": answer}, required=["answer"])
    return ToolDef(submit, "submit", "Hand in the answer and finish.", parameters)


@solver
def desk_agent(arm: str) -> Solver:
    """Inspect's react loop over the tools of the sample's own desk."""

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        task_id = str(state.sample_id)
        visit = VISITS[arm, task_id, state.epoch] = Visit(TASKS[task_id], state.epoch)
        agent = react(
            prompt=AgentPrompt(
                instructions=SYSTEM, handoff_prompt=None, assistant_prompt=None, submit_prompt=None
            ),
            tools=[tool_of(tool, visit) for tool in visit.desk.tools.values()],
            model=get_model(
                MODEL_NAME,
                base_url=f"{get_model().api.base_url}/{arm}/{task_id}/{state.epoch}/v1",
                api_key="none",
                # The option of the eval does not reach a model that is made here.
                config=GenerateConfig(reasoning_history=ARMS[arm]),
                memoize=False,
            ),
            submit=AgentSubmit(tool=submit_of(visit), keep_in_messages=True),
            on_continue="Call a tool, or submit your answer.",
        )
        return await as_solver(agent)(state, generate)

    return solve


@scorer(metrics=[accuracy()], name="solved")
def solved(arm: str) -> Scorer:
    """The world's own check of the final database and the answer."""

    async def score(state: TaskState, target: Target) -> Score:
        visit = VISITS[arm, str(state.sample_id), state.epoch]
        return Score(value=CORRECT if visit.success else INCORRECT, answer=visit.answer)

    return score


def run_arm(
    arm: str, server: ModelServer, tasks: list[Task], epochs: int, log_dir: Path
) -> list[dict[str, Any]]:
    """Run one arm and return the truth of each of its runs."""
    samples = [
        Sample(
            id=task.id,
            input=task.text,
            target=task.answer,
            metadata={"domain": task.domain, "difficulty": task.difficulty},
        )
        for task in tasks
    ]
    (log,) = inspect_ai.eval(
        inspect_ai.Task(
            name="service_desk",
            dataset=MemoryDataset(samples, name="service_desk"),
            solver=desk_agent(arm),
            scorer=solved(arm),
        ),
        model=get_model(
            MODEL_NAME, base_url=f"http://127.0.0.1:{server.server_port}", api_key="none"
        ),
        reasoning_history=ARMS[arm],
        epochs=epochs,
        turn_limit=CALL_LIMIT,
        log_dir=str(log_dir),
        log_format="eval",
        log_images=False,
        log_realtime=False,
        log_model_api=True,
        display="none",
        score_display=False,
        tags=["simulated"],
    )
    if log.status != "success" or not log.samples:
        raise SystemExit(f"the eval of arm {arm} ended as {log.status}: {log.error}")
    check_log(log.location, arm, server)
    by_run = {(sample.id, sample.epoch): sample for sample in log.samples}
    return [
        truth_of(
            visit,
            server.records[arm, task_id, str(epoch)],
            is_limit=by_run[task_id, epoch].limit is not None,
            columns={"arm": arm, "task_id": task_id, "trial": epoch},
        )
        for (ran, task_id, epoch), visit in sorted(VISITS.items())
        if ran == arm
    ]


def check_log(path: str, arm: str, server: ModelServer) -> None:
    """The written log's requests held just the thinking that the server saw, and nothing private."""
    log = read_eval_log(path, resolve_attachments="full")
    clean.check(log.model_dump_json(), path)
    for sample in log.samples or []:
        seen = server.records[arm, str(sample.id), str(sample.epoch)].thinking_sent
        calls = [event.call for event in sample.events if isinstance(event, ModelEvent)]
        logged = [
            sum(thinking_of(message) is not None for message in call.request["messages"])
            for call in calls
            if call is not None
        ]
        if logged != seen:
            raise SystemExit(f"{sample.id}: thinking sent {seen}, and in the log {logged}")


def main() -> None:
    """Run every arm and write its log and its truth."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="folder to write study/ and truth_parts/ into")
    parser.add_argument("--limit", type=int, help="the first N tasks only")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    options = parser.parse_args()
    out: Path = options.out.resolve()
    tasks = all_tasks()[: options.limit]
    runs: list[dict[str, Any]] = []
    with serving() as server, tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # so that no path of this machine and no git revision get into a log
        for arm in ARMS:
            runs += run_arm(arm, server, tasks, options.epochs, Path("logs") / arm)
        for arm in ARMS:
            target = out / "study" / arm
            target.mkdir(parents=True, exist_ok=True)
            for old in target.glob("*.eval"):
                old.unlink()
            (log,) = Path("logs", arm).glob("*.eval")
            (target / "service_desk.eval").write_bytes(log.read_bytes())
    write_part(out, "study", inspect_ai.__version__, runs, "inspect_ai")


if __name__ == "__main__":
    main()
