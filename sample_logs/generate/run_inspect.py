# /// script
# requires-python = ">=3.11,<3.14"
# dependencies = ["inspect-ai==0.3.285", "openai==3.54.0"]
# ///
"""The study's first scaffold: Inspect's react agent against the model server.

Writes ``study/<policy>/<model>/inspect/<perturbation>.eval`` and ``truth_parts/study_inspect.json``.
Inspect's own option sends thinking back, or only the last, or none. Run it as
``uv run --script run_inspect.py OUT [--limit N]``; ``make.py`` does.
"""

from __future__ import annotations

import os
import tempfile
import zipfile
from itertools import groupby
from pathlib import Path
from typing import Any

import clean
import inspect_ai
import study
import zipfile_zstd  # noqa: F401 - lets zipfile write what Inspect writes
from agent import thinking_of
from design import CALL_LIMIT, SCAFFOLDS, Arm, draw
from inspect_ai.agent import AgentPrompt, AgentSubmit, as_solver, react
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.event import ModelEvent
from inspect_ai.log import EvalLog, read_eval_log
from inspect_ai.model import GenerateConfig, get_model
from inspect_ai.scorer import CORRECT, INCORRECT, Score, Scorer, Target, accuracy, scorer
from inspect_ai.solver import Generate, Solver, TaskState, solver
from inspect_ai.tool import ToolDef, ToolError, ToolParam, ToolParams
from server import ModelServer, serving
from study import Run
from visit import ToolRaised, Visit
from world import Tool

SCAFFOLD = "inspect"
TIGHTEST, QUICK = 19, 3
"""Levels of packing. The tightest clears many megabytes of tables for each member, however small,
which for a check of a few tasks takes as long as to run them."""
PLANS: dict[tuple[Arm, str, int], Run] = {}
VISITS: dict[tuple[Arm, str, int], Visit] = {}
"""Arm, task and trial to the run; outside of the solver, so that they do not get into the log."""


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


def key_of(policy: str, model: str, state: TaskState) -> tuple[Arm, str, int]:
    """Which run a sample is."""
    return Arm(policy, model, SCAFFOLD), str(state.sample_id), int(state.metadata["trial"])


@solver
def desk_agent(policy: str, model: str) -> Solver:
    """Inspect's react loop over the tools of the sample's own desk."""

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        key = key_of(policy, model, state)
        visit = VISITS[key] = PLANS[key].visit()
        _, task_id, trial = key
        agent = react(
            prompt=AgentPrompt(
                instructions=SCAFFOLDS[SCAFFOLD],
                handoff_prompt=None,
                assistant_prompt=None,
                submit_prompt=None,
            ),
            tools=[tool_of(tool, visit) for tool in visit.desk.tools.values()],
            model=get_model(
                f"openai-api/desk/{model}",
                base_url=f"{get_model().api.base_url}/{policy}/{task_id}/{draw(trial, model, SCAFFOLD)}/v1",
                api_key="none",
                # The option of the eval does not reach a model that is made here.
                config=GenerateConfig(reasoning_history=policy),
                memoize=False,
            ),
            submit=AgentSubmit(tool=submit_of(visit), keep_in_messages=True),
            on_continue="Call a tool, or submit your answer.",
        )
        return await as_solver(agent)(state, generate)

    return solve


@scorer(metrics=[accuracy()], name="solved")
def solved(policy: str, model: str) -> Scorer:
    """The world's own check of the final database and the answer."""

    async def score(state: TaskState, target: Target) -> Score:
        visit = VISITS[key_of(policy, model, state)]
        return Score(value=CORRECT if visit.success else INCORRECT, answer=visit.answer)

    return score


def task_of(arm: Arm, kind: str, runs: list[Run]) -> inspect_ai.Task:
    """The runs of an arm that meet one condition."""
    samples = [
        Sample(
            id=run.task.id,
            input=run.task.text,
            target=run.task.answer,
            metadata={
                "domain": run.task.domain,
                "difficulty": run.task.difficulty,
                "trial": run.trial,
            },
        )
        for run in runs
    ]
    return inspect_ai.Task(
        name="service_desk",
        dataset=MemoryDataset(samples, name="service_desk"),
        solver=desk_agent(arm.policy, arm.model),
        scorer=solved(arm.policy, arm.model),
        metadata={**study.MARK, "perturbation": kind},
    )


def run_arm(
    arm: Arm, runs: list[Run], server: ModelServer, out: Path, level: int
) -> list[dict[str, Any]]:
    """Run one arm, write a log for each condition, and return the truth of its runs."""
    by_kind = {kind: [run for run in runs if run.kind == kind] for kind in {r.kind for r in runs}}
    PLANS.update({(arm, run.task.id, run.trial): run for run in runs})
    told: list[dict[str, Any]] = []
    for kind, alike in sorted(by_kind.items()):
        logs = inspect_ai.eval(
            task_of(arm, kind, alike),
            model=get_model(
                f"openai-api/desk/{arm.model}",
                base_url=f"http://127.0.0.1:{server.server_port}",
                api_key="none",
            ),
            reasoning_history=arm.policy,
            turn_limit=CALL_LIMIT,
            log_dir="logs",
            log_format="eval",
            log_images=False,
            log_realtime=False,
            log_model_api=True,
            display="none",
            score_display=False,
            tags=["simulated"],
        )
        log = read_eval_log(logs[0].location, resolve_attachments="full")
        told += [check(arm, run, log, server) for run in alike]
        repack(Path(logs[0].location), study.log_path(out, arm, kind, ".eval"), level)
    return told


def check(arm: Arm, run: Run, log: EvalLog, server: ModelServer) -> dict[str, Any]:
    """The truth of a run. Its requests must have held just the thinking that the server saw.

    That must be what its policy says, and nothing private may stand in the log.
    """
    (sample,) = (s for s in log.samples or [] if s.id == run.task.id)
    where = f"{arm.policy} {run.task.id} {run.trial}"
    clean.check(sample.model_dump_json(), where)
    name = (arm.policy, run.task.id, draw(run.trial, arm.model, SCAFFOLD))
    seen = server.records[name].thinking_sent
    calls = [event.call for event in sample.events if isinstance(event, ModelEvent)]
    logged = [
        sum(thinking_of(message) is not None for message in call.request["messages"])
        for call in calls
        if call is not None
    ]
    due = study.thinking_due(arm.policy, len(seen))
    if not logged == seen == due:
        raise SystemExit(f"{where}: thinking sent {seen}, in the log {logged}, due {due}")
    visit = VISITS[arm, run.task.id, run.trial]
    return study.truth_of(run, visit, len(seen), sample.limit is not None)


def repack(log: Path, target: Path, level: int) -> None:
    """The same archive, packed by its own kind of packing at another level."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with (
        zipfile.ZipFile(log) as old,
        zipfile.ZipFile(target, "w", zipfile.ZIP_ZSTANDARD, compresslevel=level) as new,
    ):
        for member in old.infolist():
            new.writestr(member.filename, old.read(member), zipfile.ZIP_ZSTANDARD, level)
    log.unlink()


def main() -> None:
    """Run every arm of the scaffold and write its logs and its truth."""
    asked = study.options(__doc__)
    out: Path = asked.out.resolve()
    level = QUICK if asked.limit else TIGHTEST
    told: list[dict[str, Any]] = []
    study.clear(out, SCAFFOLD, asked)
    with serving() as server, tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # so that no path of this machine and no git revision get into a log
        for arm, runs in groupby(study.runs_of(SCAFFOLD, asked), lambda run: run.arm):
            told += run_arm(arm, list(runs), server, out, level)
            print(*arm, flush=True)
    study.write_part(out, SCAFFOLD, inspect_ai.__version__, told)


if __name__ == "__main__":
    main()
