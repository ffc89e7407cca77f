"""The study without a framework: the same agent and world in one process, many times over.

This is how the truth of a planted effect is known better than the study's own runs can tell it, and
how the parameters were set. ``sent_back`` does here what the frameworks' options do there.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import perturb
from agent import MODELS, Parameters, respond
from design import CALL_LIMIT, SCAFFOLDS, SYSTEM, Arm, draw, strikes
from world import Task, open_desk


@dataclass
class Episode:
    """How one simulated run went."""

    success: bool
    outcome: str
    steps: int
    hits: list[tuple[int, str]] = field(default_factory=list)
    """(step, kind) of the perturbations that the run met."""
    slips: list[tuple[int, str]] = field(default_factory=list)


def play_arm(task: Task, trial: int, arm: Arm, kind: str) -> Episode:
    """One run of the study: the condition strikes where it does for that task and trial."""
    return play(
        task,
        draw(trial, arm.model, arm.scaffold),
        arm.policy,
        MODELS[arm.model],
        strikes(task, trial, kind),
        SCAFFOLDS[arm.scaffold],
    )


def play(
    task: Task,
    trial: int | str,
    history: str,
    params: Parameters,
    faults: dict[int, str],
    system: str = SYSTEM,
) -> Episode:
    """One run of a task under a policy of sending thinking back (all, last or none)."""
    desk = open_desk(task)
    tools = [tool.definition() for tool in desk.tools.values()]
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": system},
        {"role": "user", "content": task.text},
    ]
    episode = Episode(False, "limit", CALL_LIMIT + 1)
    for step in range(CALL_LIMIT + 1):
        reply = respond(sent_back(messages, history), tools, f"{task.id}/{trial}", params)
        episode.slips += [(step, slip) for slip in reply.slips]
        if step == CALL_LIMIT:
            break
        arguments = json.loads(reply.arguments)
        if reply.tool == "submit":
            episode.steps, episode.success = step + 1, desk.solved(arguments["answer"])
            episode.outcome = "success" if episode.success else "failure"
            return episode
        kind = faults.get(step)
        if kind:
            episode.hits.append((step, kind))
        try:
            response = perturb.perturbed(kind, partial(desk.call, reply.tool, arguments))
        except perturb.ToolRaised as raised:
            response = str(raised)
        function = {"name": reply.tool, "arguments": reply.arguments}
        messages += [
            {
                "role": "assistant",
                "content": reply.text,
                "reasoning_content": reply.thinking,
                "tool_calls": [{"id": f"call_{step}", "type": "function", "function": function}],
            },
            {"role": "tool", "tool_call_id": f"call_{step}", "content": response},
        ]
    return episode


def sent_back(messages: Iterable[dict[str, Any]], history: str) -> list[dict[str, Any]]:
    """The messages as that policy sends them back."""
    messages = list(messages)
    if history == "all":
        return messages
    last = max((i for i, m in enumerate(messages) if m["role"] == "assistant"), default=-1)
    return [
        m
        if history == "last" and i == last
        else {key: part for key, part in m.items() if key != "reasoning_content"}
        for i, m in enumerate(messages)
    ]
