# /// script
# requires-python = ">=3.11"
# dependencies = ["mini-swe-agent==2.4.6", "litellm==1.106.2", "openai==2.54.0", "mcp==2.3.0"]
# ///
"""A few runs of mini-swe-agent: the tables as CSV files, its bash tool, the same model server.

Writes ``frameworks/mini_swe_agent/<style>/<task>.traj.json``, all that went over the wire in
``wire.har`` beside them, and ``truth_parts/mini_swe_agent.json``. Run it as ``uv run --script run_mini_swe.py OUT``.
"""

from __future__ import annotations

# ruff: noqa: E402  (mini-swe-agent reads its settings when it is imported)
import argparse
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

HOME = tempfile.mkdtemp()
os.environ["MSWEA_GLOBAL_CONFIG_DIR"] = HOME  # no settings of this machine are read or written
os.environ["MSWEA_SILENT_STARTUP"] = "1"
os.environ["MSWEA_MODEL_RETRY_STOP_AFTER_ATTEMPT"] = "1"
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # no list of prices is fetched

import clean
import minisweagent
import perturb
import tables
from minisweagent.agents.default import DefaultAgent
from minisweagent.environments.local import LocalEnvironment
from minisweagent.models.litellm_model import LitellmModel
from offline import CALL_LIMIT
from server import Record, serving
from sheets import read_tables, write_tables
from visit import truth_of_record, write_part
from world import Task, same_answer

MODEL = "planner-1"
TRIAL = 1
TASKS = {
    "openai": ["easy-1", "easy-4", "medium-2", "hard-3"],
    "deepseek": ["easy-5", "medium-1"],
}
"""Provider name in the model's name to the tasks that are run under it."""
SYSTEM = "You work on tables in CSV files with the bash tool, one command at a time."
INSTANCE = (
    "{{task}}\nEvery table is a file <table>.csv in the working folder. To hand in your answer, "
    "let the first line of a command's output be COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT and the "
    "second one the answer."
)
OBSERVATION = "exit code: {{output.returncode}}\n{{output.exception_info}}{{output.output}}"


class PerturbedEnvironment(LocalEnvironment):
    """A local shell whose responses are perturbed at known commands."""

    def __init__(self, faults: dict[int, str], **settings: Any) -> None:
        super().__init__(**settings)
        self.faults = faults
        self.calls = 0
        self.hits: list[dict[str, Any]] = []

    def execute(self, action: dict[str, Any], *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Run the command, or what the perturbation makes of it."""
        number, kind = self.calls, self.faults.get(self.calls)
        self.calls += 1
        if kind is None or "COMPLETE_TASK" in action.get("command", ""):
            return super().execute(action, *args, **kwargs)
        self.hits.append({"step": number, "tool": "bash", "kind": kind})
        if kind in perturb.INSTEAD:
            return self._failed(kind, action["command"])
        done = super().execute(action, *args, **kwargs)
        return {**done, "output": perturb.perturbed(kind, lambda: done["output"])}

    def _failed(self, kind: str, command: str) -> dict[str, Any]:
        """What the environment itself tells of a command that fails, is killed, or hangs."""
        before = {"timeout": "sleep 5", "raised_error": "kill -9 $$"}
        failing = before.get(kind, "echo 'the service failed' >&2; exit 1")
        return super().execute({"command": f"{failing}; {command}"}, timeout=1)


def run(task: Task, style: str, out: Path) -> tuple[bool, str, PerturbedEnvironment]:
    """One run in a folder of its own: success, how it ended, and the environment."""
    with tempfile.TemporaryDirectory() as name, tempfile.TemporaryDirectory() as wanted:
        folder = Path(name)
        write_tables(task.state, folder)
        write_tables(task.final_state, Path(wanted))
        os.chdir(folder)  # the working folder, without its name in the log
        environment = PerturbedEnvironment(perturb.schedule(task.id, TRIAL))
        agent = DefaultAgent(
            LitellmModel(
                model_name=f"{style}/{MODEL}",
                cost_tracking="ignore_errors",
                observation_template=OBSERVATION,
            ),
            environment,
            system_template=SYSTEM,
            instance_template=INSTANCE,
            step_limit=CALL_LIMIT,
            cost_limit=0,
        )
        ended = agent.run(task.text)
        log = json.dumps(agent.save(None), indent=1)
        clean.check(log, task.id)
        (out / style).mkdir(parents=True, exist_ok=True)
        (out / style / f"{task.id}.traj.json").write_text(log + "\n", encoding="utf-8")
        tables_now = read_tables(list(task.state), folder)
        is_right = same_answer(ended.get("submission", ""), task.answer)
        success = is_right and tables_now == read_tables(list(task.state), Path(wanted))
        os.chdir(HOME)
        return success, str(ended.get("exit_status")), environment


def truth_of(
    task: Task, style: str, success: bool, status: str, hits: list[Any], record: Record, out: Path
) -> dict[str, Any]:
    """What is true of a run, whatever its log shows."""
    log = f"frameworks/mini_swe_agent/{style}/{task.id}.traj.json"
    return {
        "style": style,
        "log": log,
        "task_id": task.id,
        "trial": TRIAL,
        "exit_status": status,
        "success": success,
        "perturbations": hits,
        **truth_of_record(record, (out / log).read_text(encoding="utf-8")),
    }


def main() -> None:
    """Run the tasks in each style and write logs and truth."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="folder to write frameworks/ and truth_parts/ into")
    parser.add_argument("--limit", type=int, help="the first N tasks only")
    options = parser.parse_args()
    out: Path = options.out.resolve()
    logs = out / "frameworks" / "mini_swe_agent"
    shutil.rmtree(logs, ignore_errors=True)
    by_id = {task.id: task for task in tables.tasks()}
    runs: list[dict[str, Any]] = []
    with serving() as server:
        for style, names in TASKS.items():
            for task in [by_id[f"tables-{name}"] for name in names][: options.limit]:
                os.environ[f"{style.upper()}_API_KEY"] = "none"
                os.environ[f"{style.upper()}_API_BASE"] = server.base_url(style, task.id, TRIAL)
                success, status, environment = run(task, style, logs)
                record = server.records[style, task.id, str(TRIAL)]
                runs.append(truth_of(task, style, success, status, environment.hits, record, out))
        server.write_har(logs / "wire.har")
    clean.check((logs / "wire.har").read_text(encoding="utf-8"), "wire.har")
    write_part(out, "mini_swe_agent", minisweagent.__version__, runs)
    shutil.rmtree(HOME)


if __name__ == "__main__":
    main()
