"""Runs with usage, as tables, whose requests follow a planted policy: what token counts must find out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from small import Rows, runs_of

from loaders import Trajectories


@dataclass(frozen=True)
class Chat:
    """What a simulated run does; sizes are medians of log-normal ones, in tokens."""

    policy: str
    calls: int = 14
    thinking: float = 120
    visible: float = 40
    response: float = 200
    unevenness: float = 0.12
    """Spread of bytes per token from text to text, as a share."""
    bytes_per_token: tuple[float, float, float] = (3.2, 2.6, 4.4)
    """Of what the model says, tool responses, and users."""
    tells_reasoning: bool = True
    turn_every: int = 5
    thinks: float = 0.9
    """Share of the calls that think."""
    compacts_at: int | None = None
    requests_known: bool = False


def chats(*planted: Chat, seed: int = 0, **columns: Any) -> Trajectories:
    """A run for each."""
    rng = np.random.default_rng(seed)
    trajectories: Rows = []
    steps: Rows = []
    events: Rows = []
    for number, chat in enumerate(planted):
        more_steps, more_events = _chat(number, chat, rng)
        steps += more_steps
        events += more_events
        trajectories.append(
            {
                "run": number,
                "arm": chat.policy,
                "framework": "simulated",
                "model": "m",
                "task_id": f"t{number % 7}",
                "steps": chat.calls,
                **{name: values[number] for name, values in columns.items()},
            }
        )
    return runs_of(trajectories, steps, events)


def _chat(run: int, chat: Chat, rng: np.random.Generator) -> tuple[Rows, Rows]:
    def size(median: float) -> int:
        return int(median * np.exp(0.6 * rng.normal())) + 1

    def text(tokens: int, kind: int) -> str:
        uneven = np.exp(chat.unevenness * rng.normal())
        return "x" * max(1, round(tokens * chat.bytes_per_token[kind] * uneven))

    steps: Rows = []
    events: Rows = []
    blocks: list[tuple[int, int]] = []  # (turn, tokens)
    turn, said = 0, 900
    for step in range(chat.calls):
        if chat.compacts_at == step:
            said, blocks = 300, []
            events.append({"kind": "compaction", "step": step - 1, "text": "..."})
        sent = {
            "all": blocks,
            "none": [],
            "last": blocks[-1:],
            "turn_boundary": [block for block in blocks if block[0] == turn],
        }[chat.policy]
        thinking = size(chat.thinking) if rng.random() < chat.thinks else 0
        visible = size(chat.visible)
        begin = len(events)
        if thinking:
            events.append({"kind": "thinking", "step": step, "text": "?", "thinking_state": "text"})
        events.append(
            {"kind": "tool_call", "step": step, "tool": "t", "arguments": text(visible, 0)}
        )
        steps.append(
            {
                "step": step,
                "seq": begin,
                "model": "m",
                "thinking": "text" if thinking else "absent",
                "thinking_chars": 4 * thinking,
                "input_tokens": said + sum(tokens for _, tokens in sent),
                "output_tokens": visible + thinking,
                "reasoning_tokens": thinking if chat.tells_reasoning else None,
                "thinking_available": len(blocks),
                "thinking_sent": len(sent) if chat.requests_known else None,
                "evidence": "request" if chat.requests_known else "unknown",
                "history_edit": None
                if not chat.requests_known
                else ("none" if len(sent) == len(blocks) else "thinking_dropped"),
            }
        )
        if thinking:
            blocks.append((turn, thinking))
        answer = size(chat.response)
        events.append({"kind": "tool_result", "step": step, "text": text(answer, 1)})
        said += visible + answer + 2 * 6
        if (step + 1) % chat.turn_every == 0:
            asked = size(30)
            events.append({"kind": "user", "step": step, "text": text(asked, 2)})
            said += asked + 6
            turn += 1
    for rows in (steps, events):
        for row in rows:
            row["run"] = run
    for seq, event in enumerate(events):
        event["seq"] = seq
    return steps, events
