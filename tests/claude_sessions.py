"""Made-up sessions of Claude Code in which ordinary lines and rare ones come in any order."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

Record = dict[str, Any]
ODD: tuple[Any, ...] = (None, True, 7, -1.5, "x", [], {}, [1], {"a": [None]}, 2**70, "")
IMAGE: Record = {
    "type": "image",
    "source": {"type": "base64", "media_type": "image/png", "data": "QQ=="},
}
WORDS = (
    "",
    "plain",
    'says "this"',
    "ä \\ \u2028 \U0001f600",
    "half \ud83d pair",
    "sk-ant-" + "a" * 40,
    "Exit code 3\nno such file",
    "<tool_use_error>bad</tool_use_error>",
)
TOOLS = ("Read", "Bash", "Task", "Agent")


class _Session:
    def __init__(self, rng: random.Random, rare: float) -> None:
        self.rng, self.rare = rng, rare
        self.lines: list[Record | str] = []
        self.number = self.message = self.calls = 0
        self.waiting: list[str] = []
        self.agents: list[str] = []
        self.requests: list[str] = []
        self.version = "2.1.0"

    def line(self, kind: str, side: Record, **more: Any) -> Record:
        self.number += 1
        minute, second = divmod(self.number, 60)
        zone = "Z" if self.rng.random() < 0.9 else self.rng.choice(["", "+02:00", " nonsense"])
        line = {
            "parentUuid": f"u{self.number - 1}" if self.rng.random() < 0.95 else None,
            "isSidechain": False,
            "cwd": f"/{self.rng.random() < 0.02}",
            "sessionId": "s1",
            "version": self.version,
            "gitBranch": "main",
            **side,
            "type": kind,
            "uuid": f"u{self.number}",
            "timestamp": f"2026-01-01T{minute // 60:02}:{minute % 60:02}:{second:02}.{self.number % 1000:03}{zone}",
            **more,
        }
        self.lines.append(line)
        return line

    def word(self) -> str:
        return self.rng.choice(WORDS) if self.rng.random() < self.rare else f"w{self.number}"

    def is_rare(self, share: float = 1.0) -> bool:
        return self.rng.random() < self.rare * share

    # ------------------------------------------------------------------ replies

    def block(self) -> Record:
        rng = self.rng
        kind = rng.choice(["thinking", "text", "tool_use", "tool_use"])
        if self.is_rare():
            return rng.choice(
                [
                    {"type": "redacted_thinking", "data": "blob"},
                    {"type": "server_tool_use", "id": self.call_id(), "name": "web", "input": {}},
                    {"type": "thinking", "thinking": "", "signature": "c2ln"},
                    {"type": "new", "value": 1},
                    dict(IMAGE),
                ]
            )
        if kind == "thinking":
            return {"type": kind, "thinking": self.word(), "signature": "c2ln"}
        if kind == "text":
            return {"type": kind, "text": self.word()}
        tool = rng.choice(TOOLS)
        given: Record = {"path": self.word(), "n": rng.choice([1, 0.5, None])}
        if tool in ("Task", "Agent"):
            given["prompt"] = f"do {rng.randrange(3)}"
        return {"type": kind, "id": self.call_id(), "name": tool, "input": given}

    def call_id(self) -> str:
        self.calls += 1
        if self.is_rare(0.5) and self.calls > 1:
            return f"t{self.rng.randrange(self.calls)}"
        self.waiting.append(f"t{self.calls}")
        return self.waiting[-1]

    def reply(self, side: Record) -> None:
        """The lines of a call, with results among them where it made several."""
        rng = self.rng
        self.message += 1
        message_id = None if self.is_rare(0.2) else f"m{self.message}"
        if self.is_rare(0.3) and self.message > 1:
            message_id = f"m{rng.randrange(self.message)}"
        request = None if rng.random() < 0.3 else f"r{rng.choice([self.message, self.message, 1])}"
        self.requests.append(request or "")
        for part in range(rng.randrange(1, 4)):
            blocks = [self.block() for _ in range(2 if self.is_rare(0.3) else 1)]
            usage: Record = {
                "input_tokens": 3,
                "cache_read_input_tokens": rng.choice([None, 5]),
                "output_tokens": part + 1,
            }
            if rng.random() < 0.5:
                usage["service_tier"] = rng.choice(["standard", "batch"])
                usage["cache_creation"] = {"ephemeral_5m_input_tokens": 4}
            if self.is_rare():
                usage |= rng.choice(
                    [
                        {"output_tokens": "9"},
                        {"output_tokens_details": {"thinking_tokens": 7}},
                        {"iterations": [{"type": "message"}, {"type": "message"}]},
                        {"cache_read_input_tokens": 3.0},
                        {"input_tokens": -4},
                        {"input_tokens": 2**70},
                    ]
                )
            told: Record = {
                "id": message_id,
                "role": "assistant",
                "model": "made-up"
                if not self.is_rare(0.2)
                else rng.choice(["<synthetic>", "b", None]),
                "content": blocks,
                "stop_reason": rng.choice([None, "tool_use", "end_turn"]),
                "usage": usage if rng.random() < 0.95 else None,
            }
            more: Record = {} if request is None else {"requestId": request}
            if self.is_rare():
                more |= rng.choice(
                    [
                        {"error": "rate_limit"},
                        {"error": {"status": 1}, "errorDetails": "why"},
                        {"isAbortedMidStream": True},
                        {"isApiErrorMessage": True},
                        {"attributionAgent": "Explore"},
                    ]
                )
            if self.is_rare():
                told |= rng.choice(
                    [
                        {"stop_details": {"type": "refusal"}},
                        {"diagnostics": [1]},
                        {"context_management": {"applied_edits": []}},
                        {"context_management": {"applied_edits": [{"type": "clear_thinking_x"}]}},
                        {"content": self.word()},
                        {"content": None},
                        {"content": []},
                    ]
                )
            self.line("assistant", side, message=told, **more)
            if self.waiting and rng.random() < 0.3:
                self.result(side)

    # ------------------------------------------------------------------ user lines

    def result(self, side: Record) -> None:
        rng = self.rng
        place = 0 if rng.random() < 0.9 else rng.randrange(len(self.waiting))
        call_id: str | None = self.waiting.pop(place)
        if self.is_rare(0.5):
            call_id = rng.choice([None, "nobody", f"t{self.calls + 1}", f"t{self.calls}"])
        content: Any = self.word()
        if self.is_rare():
            content = rng.choice(
                [
                    [{"type": "text", "text": "seen"}, dict(IMAGE)],
                    [dict(IMAGE)],
                    None,
                    [],
                    {"odd": 1},
                ]
            )
        block: Record = {"type": "tool_result", "tool_use_id": call_id, "content": content}
        if rng.random() < 0.3:
            block["is_error"] = rng.random() < 0.5
        more: Record = {}
        if rng.random() < 0.6:
            more["toolUseResult"] = rng.choice(
                [
                    {"stdout": "x", "interrupted": False, "durationMs": self.number},
                    {"stdout": "x", "interrupted": True, "exitCode": 1},
                    {"truncated": True, "durationSeconds": 2.5, "userModified": True},
                    {"persistedOutputPath": "/tmp/x", "is_error": True},
                    "Error: Exit code 3",
                    [{"type": "text", "text": "x"}],
                ]
            )
        if self.is_rare():
            agent = f"ag{rng.randrange(3)}"
            more["toolUseResult"] = rng.choice(
                [{"exitCode": 2**70}, {"agentId": agent, "totalTokens": 5}, {"durationMs": "long"}]
            )
        if self.is_rare(0.3):
            more["toolDenialKind"] = "user-rejected"
        content = [block]
        if self.is_rare(0.3):
            content.append({"type": "text", "text": self.word()})
        self.line("user", side, message={"role": "user", "content": content}, **more)

    def user(self, side: Record) -> None:
        rng = self.rng
        text = rng.choice(
            [
                f"do {rng.randrange(3)}",
                self.word(),
                "[Request interrupted by user]",
                "<command-name>/exit</command-name>",
            ]
        )
        content: Any = rng.choice([text, [{"type": "text", "text": text}]])
        more: Record = rng.choice(
            [{}, {}, {"isMeta": True}, {"isCompactSummary": True}, {"origin": {"kind": "task"}}]
        )
        self.line("user", side, message={"role": "user", "content": content}, **more)

    # ------------------------------------------------------------------ what is rare

    def other(self, side: Record) -> None:
        rng = self.rng
        request = rng.choice([*self.requests, f"r{self.message + 1}"])
        attachments: list[Record] = [
            {"type": "thinking_drop", "requestId": request, "newlyDropped": {"blockCount": 1}},
            {"type": "queued_command", "prompt": "also", "origin": {"kind": "human"}},
            {"type": "queued_command", "prompt": [{"type": "text", "text": "done"}]},
            {"type": "environment", "snapshot": {"platform": "linux"}},
            {"type": "prompt_snapshot", "systemPrompt": ["You"], "tools": [{"name": "Bash"}]},
            {"type": "hook_blocking_error", "stderr": "oops", "exitCode": 1},
            {"type": "task_reminder", "content": []},
            {"type": "nested_memory", "content": {"content": "Be brief."}},
        ]
        lines: list[Callable[[], object]] = [
            lambda: self.line("attachment", side, attachment=rng.choice(attachments)),
            lambda: self.line("system", side, subtype="compact_boundary", content="Compacted"),
            lambda: self.line("system", side, subtype="microcompact_boundary", content="micro"),
            lambda: self.line(
                "system", side, subtype="api_error", level="error", error={"status": 5}
            ),
            lambda: self.line("system", side, subtype="turn_duration", durationMs=5),
            lambda: self.line("system", side, subtype="stop_hook_summary", hookErrors=["boom"]),
            lambda: self.line("progress", side, data={"type": "agent_progress"}),
            lambda: self.line("ai-title", side, aiTitle=f"t{self.number}"),
            lambda: self.line("permission-mode", side, permissionMode="plan"),
            lambda: self.lines.append(rng.choice(['{"type": "user", "mess', "[1]", "", "7"])),
            lambda: self.user(side),
        ]
        rng.choice(lines)()

    def spoil(self) -> None:
        """Replace a few values, at any depth, by odd ones."""
        records = [line for line in self.lines[1:] if isinstance(line, dict)]
        for record in self.rng.sample(
            records, min(len(records), int(len(records) * self.rare / 4))
        ):
            holder: Any = record
            while True:
                keys = list(holder) if isinstance(holder, dict) else range(len(holder))
                if not keys:
                    break
                key = self.rng.choice(keys)
                if isinstance(holder[key], dict | list) and self.rng.random() < 0.8:
                    holder = holder[key]
                    continue
                holder[key] = self.rng.choice(ODD)
                break


def session(seed: int, lines: int, rare: float, subagents: float = 0.05) -> str:
    """The text of a session of about that many lines.

    ``rare``: how likely anything unusual is, wherever there may be something; ``subagents``: the share
    of turns that are a subagent's, inside the session.
    """
    rng = random.Random(seed)
    made = _Session(rng, rare)
    made.line("user", {}, message={"role": "user", "content": "go"})
    while len(made.lines) < lines:
        side: Record = {}
        if rng.random() < subagents:
            side = {"isSidechain": True}
            if rng.random() < 0.6:
                side["agentId"] = f"ag{rng.randrange(3)}"
            if rng.random() < 0.3:
                made.user(side)
        if made.is_rare(0.02):
            made.version = "2.2.0"
        kind = rng.random()
        if kind < 0.45:
            made.reply(side)
        elif kind < 0.9 and made.waiting:
            made.result(side)
        elif 0.9 <= kind < 0.92:
            made.user(side)
        elif made.is_rare():
            made.other(side)
    made.spoil()
    texts = [line if isinstance(line, str) else json.dumps(line) for line in made.lines]
    return "\n".join(texts) + "\n"
