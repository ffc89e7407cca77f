# /// script
# requires-python = ">=3.12"
# dependencies = [
#     "openhands-sdk==1.58.0",
#     "openhands-tools==1.58.0",
#     "litellm==1.105.3",
#     "openai==2.54.0",
# ]
# ///
"""A few runs of OpenHands: the tables as CSV files, its terminal tool, the same model server.

Writes ``frameworks/openhands/<style>/<task>/``, the conversation as it is persisted; ``wire.har``
beside the styles, and ``truth_parts/openhands.json``. Styles are model names: the framework sends
thinking back under the names on a list of its own. Run it as ``uv run --script run_openhands.py OUT``.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # no list of prices is fetched
os.environ["OPENHANDS_SUPPRESS_BANNER"] = "1"

import perturb
from offline import CALL_LIMIT
from openhands.sdk import LLM, Agent, Conversation, Tool, register_tool
from openhands.sdk.tool import ToolExecutor
from openhands.tools.terminal import TerminalAction, TerminalObservation, TerminalTool
from openhands.tools.terminal.impl import TerminalExecutor
from openhands.tools.terminal.metadata import CmdOutputMetadata
from pydantic import SecretStr
from running import MODEL, Played, Stay, descriptions, run_all
from sheets import read_tables, write_tables
from visit import Visit

MODELS = {
    "openai": f"openai/{MODEL}",
    "deepseek": f"deepseek/{MODEL}",
    "deepseek_reasoner": f"deepseek/deepseek-reasoner-{MODEL}",
}
"""Style to the model's name; only the last is on the framework's list of those that reason."""
RUNS = {
    "openai": ["tables-medium-2", "tables-easy-6"],
    "deepseek": ["tables-easy-3"],
    "deepseek_reasoner": ["tables-easy-8"],
}
WIRE = {"openai": ["tables-easy-6"], "deepseek_reasoner": ["tables-easy-8"]}
SYSTEM = (
    "You work on tables in CSV files, one command at a time. Every table is a file <table>.csv in the "
    "working folder. Hand in your answer as the message of finish."
)
WORDS: dict[str, str] = {}
"""What the framework says of its tools."""
FOLDER = "/desk"
"""The working folder's name in the logs."""
_MODE_SWITCH = re.compile(r"\x1b\[\?2004[hl]")
FAILING = "(echo 'the service failed' >&2; false)"


class PerturbedTerminal(ToolExecutor[TerminalAction, TerminalObservation]):
    """The terminal, with responses that are perturbed at known commands."""

    def __init__(self, terminal: TerminalExecutor, visit: Visit) -> None:
        self.terminal, self.visit = terminal, visit

    def __call__(self, action: TerminalAction, conversation: Any = None) -> TerminalObservation:
        visit = self.visit
        number, kind = visit.calls, visit.faults.get(visit.calls)
        visit.calls += 1
        if kind:
            visit.hits.append({"step": number, "tool": "terminal", "kind": kind})
        if kind == "raised_error":
            raise perturb.ToolRaised("ServiceError: the connection to the service was lost")
        if kind == "returned_error":
            done = self.terminal(action.model_copy(update={"command": FAILING}))
            return self._plain(done, action, _MODE_SWITCH.sub("", done.text).rstrip())
        if kind == "timeout":
            text = perturb.perturbed(kind, lambda: "")
            lost = TerminalObservation.from_text(text, command=action.command, timeout=True)
            return self._plain(lost, action, text)
        done = self.terminal(action)
        text = _MODE_SWITCH.sub("", done.text).rstrip()
        return self._plain(done, action, perturb.perturbed(kind, lambda: text))

    def _plain(
        self, done: TerminalObservation, action: TerminalAction, text: str
    ) -> TerminalObservation:
        """The response with that text, and without the names of this machine."""
        code = done.metadata.exit_code
        about = CmdOutputMetadata(exit_code=code, working_dir=FOLDER)
        return TerminalObservation.from_text(
            text,
            is_error=done.is_error,
            command=action.command,
            exit_code=done.exit_code,
            timeout=done.timeout,
            metadata=about,
        )

    def close(self) -> None:
        """Close the terminal."""
        self.terminal.close()


def tool_for(visit: Visit) -> str:
    """Register the terminal of one run, and return its name."""

    class DeskTerminal(TerminalTool):
        name = "terminal"

        @classmethod
        def create(cls, conv_state: Any, **params: Any) -> Sequence[TerminalTool]:
            folder = conv_state.workspace.working_dir
            terminal = TerminalExecutor(working_dir=folder, terminal_type="subprocess")
            return TerminalTool.create(conv_state, executor=PerturbedTerminal(terminal, visit))

    register_tool("terminal", DeskTerminal)
    return "terminal"


def take_over(visit: Visit, folder: Path) -> None:
    """Bring the files' state into the world, whose checker decides."""
    for name, lines in read_tables(list(visit.desk.state), folder).items():
        visit.desk.state[name]["rows"] = [
            [int(cell) if cell.lstrip("-").isdigit() else cell for cell in line.split(",")]
            for line in lines[1:]
        ]


def play(stay: Stay) -> Played:
    """One run, and the conversation's files."""
    visit = stay.visit
    with tempfile.TemporaryDirectory() as name, tempfile.TemporaryDirectory() as kept:
        folder = Path(name)
        write_tables(visit.task.state, folder)
        llm = LLM(
            model=MODELS[stay.style],
            base_url=stay.url(),
            api_key=SecretStr("none"),
            num_retries=0,
            usage_id="clerk",
        )
        agent = Agent(
            llm=llm,
            tools=[Tool(name=tool_for(visit))],
            system_prompt=SYSTEM,
            include_default_tools=["FinishTool"],
        )
        conversation = Conversation(
            agent=agent,
            workspace=name,
            persistence_dir=kept,
            visualizer=None,
            max_iteration_per_run=CALL_LIMIT + 1,
            delete_on_close=False,
        )
        conversation.send_message(visit.task.text)
        conversation.run()
        conversation.close()
        WORDS.update(descriptions(stay))
        take_over(visit, folder)
        (state,) = Path(kept).rglob("base_state.json")
        texts = {
            f"/{path.relative_to(state.parent)}": path.read_text(encoding="utf-8")
            for path in sorted(state.parent.rglob("*.json"))
        }
        texts = {place: _without_place(text, name, kept) for place, text in texts.items()}
    finished = [json.loads(text) for place, text in texts.items() if "/events/" in place]
    answers = [e["action"]["message"] for e in finished if (e.get("action") or {}).get("message")]
    if answers:
        visit.submit(answers[-1])
    return Played(texts.pop("/base_state.json"), "done" if answers else "limit", texts)


def _without_place(text: str, folder: str, kept: str) -> str:
    return text.replace(folder, FOLDER).replace(kept, f"{FOLDER}_kept")


if __name__ == "__main__":
    run_all(
        "openhands",
        version("openhands-sdk"),
        RUNS,
        play,
        ending="/base_state.json",
        wire=WIRE,
        words=WORDS,
    )
