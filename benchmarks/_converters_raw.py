"""Thinking as it stands in raw logs, counted without the loaders; and a session with every state of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from loaders.sources import Source

Value = Any  # what a log holds: nothing is known of it


class Block(NamedTuple):
    """A block of thinking: its state, its text where it shows one, else what stands in its place."""

    state: str
    text: str
    mark: str


def blocks_of(kind: str, path: Path) -> Iterator[Block]:
    """All blocks in the files of a format."""
    yield from {
        "claude_code": _of_claude_code,
        "codex": _of_codex,
        "gemini_cli": _of_gemini_cli,
        "opencode": _of_opencode,
        "pi": _of_pi,
        "inspect": _of_inspect,
    }[kind](path)


def _block(shown: str, text: str | None, mark: str | None) -> Block:
    """``shown`` is the state of a text that is there; without one the block is hidden.

    Signatures and ciphers hold no space: what does is a word that somebody has put in their place.
    """
    words = (text or "").strip()
    return Block(shown if words else "hidden", words, mark if mark and " " not in mark else "")


def _lines(path: Path) -> Iterator[tuple[Path, Value]]:
    for file in sorted(path.rglob("*.jsonl")):
        for line in file.read_text().splitlines():
            try:
                yield file, json.loads(line)
            except ValueError:
                continue


def _objects(value: Value) -> Iterator[dict[str, Value]]:
    """All objects in a value, the outer ones first."""
    if isinstance(value, dict):
        yield value
        for item in value.values():
            yield from _objects(item)
    elif isinstance(value, list):
        for item in value:
            yield from _objects(item)


def _of_claude_code(path: Path) -> Iterator[Block]:
    for _, line in _lines(path):
        content = line["message"].get("content") if line.get("type") == "assistant" else None
        for part in _objects(content):
            if part.get("type") == "thinking":
                yield _block("text", part["thinking"], part.get("signature"))
            elif part.get("type") == "redacted_thinking":
                yield Block("redacted", "", part["data"])


def _of_codex(path: Path) -> Iterator[Block]:
    """Each summary of a reasoning item, or the item where it has none; events repeat them."""
    for _, line in _lines(path):
        item = line.get("payload") or line.get("item") or line
        if item.get("type") != "reasoning":
            continue
        texts = [part["text"] for part in item.get("summary") or []] or [item.get("text")]
        for text in texts:
            yield _block("summary", text, item.get("encrypted_content"))


def _of_gemini_cli(path: Path) -> Iterator[Block]:
    sessions = [json.loads(file.read_text()) for file in sorted(path.rglob("*.json"))]
    lines = [line for _, line in _lines(path)]
    for value in _objects([*sessions, *lines]):
        thoughts = value.get("thoughts")
        for thought in thoughts if isinstance(thoughts, list) else []:
            yield _block("summary", thought.get("description"), None)


def _of_opencode(path: Path) -> Iterator[Block]:
    """Reasoning of OpenAI's models comes as a summary beside what is encrypted."""
    for file in sorted(path.rglob("*.json")):
        for part in _objects(json.loads(file.read_text())):
            if part.get("type") == "reasoning":
                metadata: Value = part.get("metadata") or {}
                of_openai: Value = metadata.get("openai") or {}
                mark = of_openai.get("reasoningEncryptedContent")
                yield _block("summary" if of_openai else "text", part.get("text"), mark)


def _of_pi(path: Path) -> Iterator[Block]:
    for _, line in _lines(path):
        for part in _objects(line.get("message")):
            if part.get("type") == "thinking":
                yield _block("text", part["thinking"], part.get("thinkingSignature"))


def _of_inspect(path: Path) -> Iterator[Block]:
    """Each text of a sample once: messages, events and their pools repeat it."""
    for file in sorted(path.glob("*.eval")):
        source = Source(file)  # unpacks only: Python's own archives lack zstd before 3.14
        for name in source.archive.names:
            if name.startswith("samples/"):
                yield from _of_sample(json.loads(source.inside(name).read_bytes()))
    for file in sorted(path.glob("*.json")):
        for sample in json.loads(file.read_text()).get("samples") or []:
            yield from _of_sample(sample)


def _of_sample(sample: Value) -> Iterator[Block]:
    parts = [part for part in _objects(sample) if part.get("type") == "reasoning"]
    for text in dict.fromkeys(part.get("reasoning") or "" for part in parts):
        yield _block("text", text, None)


# ---------------------------------------------------------------------- a session written here

_SESSION = "5f0c7c1e-0000-4000-8000-000000000001"
_THOUGHTS: tuple[dict[str, str], ...] = (
    {"type": "thinking", "thinking": "The list comes first.", "signature": "signed-0-0123456789"},
    {"type": "thinking", "thinking": "", "signature": "signed-1-0123456789"},
    {"type": "redacted_thinking", "data": "sealed-2-0123456789"},
    {"type": "thinking", "thinking": "", "signature": "signed-3-0123456789"},
    {"type": "redacted_thinking", "data": "sealed-4-0123456789"},
    {"type": "thinking", "thinking": "Nothing is left to do.", "signature": "signed-5-0123456789"},
)


def write_claude_session(folder: Path) -> None:
    """A session of Claude Code: a reply per block of thinking, each calls a tool but the last."""
    lines: list[dict[str, Value]] = []

    def add(kind: str, content: Value, **message: Value) -> None:
        number = len(lines)
        lines.append(
            {
                "type": kind,
                "uuid": f"00000000-0000-4000-8000-{number:012}",
                "parentUuid": lines[-1]["uuid"] if lines else None,
                "sessionId": _SESSION,
                "timestamp": f"2026-01-31T10:00:{number:02}.000Z",
                "version": "2.1.0",
                "cwd": "/work",
                "gitBranch": "main",
                "userType": "external",
                "isSidechain": False,
                "message": {"role": kind, "content": content, **message},
            }
        )

    add("user", "List the files.")
    for number, thought in enumerate(_THOUGHTS):
        usage = {"input_tokens": 10, "output_tokens": 20}
        reply = {"id": f"msg_{number}", "type": "message", "model": "claude-test", "usage": usage}
        add("assistant", [thought], stop_reason=None, **reply)
        if number == len(_THOUGHTS) - 1:
            add("assistant", [{"type": "text", "text": "Done."}], stop_reason="end_turn", **reply)
            break
        call = {"type": "tool_use", "id": f"toolu_{number}", "name": "Bash"}
        add("assistant", [{**call, "input": {"command": "ls"}}], stop_reason="tool_use", **reply)
        add("user", [{"type": "tool_result", "tool_use_id": f"toolu_{number}", "content": "a.txt"}])
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / f"{_SESSION}.jsonl").write_text(text)
