"""Tells what the harness of Claude Code attached to a turn."""

from __future__ import annotations

from typing import TYPE_CHECKING

from loaders.dialects.anthropic import system_text, write_block
from loaders.formats._claude_code_agents import HOOK_FAILURES, THINKING_CUTS, kind_of
from loaders.formats._claude_code_lines import HARNESS, Line
from loaders.formats._claude_code_notes import may_hold_bytes, without_bytes
from loaders.run import Run
from loaders.values import (
    Object,
    as_float,
    as_int,
    as_json,
    as_object,
    as_text,
    is_array,
)

if TYPE_CHECKING:
    from loaders.formats._claude_code_telling import Telling


def tell_attachment(telling: Telling, line: Line) -> None:
    """Tell one line of this kind as what it was for the model: a turn, a prompt, an error, or else."""
    attachment = line.attached
    kind = line.attachment.type if line.attachment else ""
    if kind == "queued_command":
        _tell_queued(telling.run, line, attachment)
    elif kind == "prompt_snapshot":
        _tell_prompt(telling.run, line, attachment)
    elif kind == "environment":
        snapshot = as_object(attachment.get("snapshot"))
        names = ("platform", "shell", "osVersion", "isWorktree", "isGitRepo")
        telling.run.environment(**{name: snapshot.get(name) for name in names})
        if line.rendered:
            _tell_other(telling, line, attachment, kind)
    elif kind in HOOK_FAILURES:
        blocking = as_object(attachment.get("blockingError")).get("blockingError")
        words = (blocking, attachment.get("stderr"), attachment.get("content"))
        milliseconds = as_float(attachment.get("durationMs"))
        telling.tell_error(
            line,
            next((text for word in words if (text := as_text(word))), None),
            kind,
            actor=as_text(attachment.get("hookName")) or HARNESS,
            exit_code=as_int(attachment.get("exitCode")),
            duration_s=None if milliseconds is None else milliseconds / 1000,
        )
    else:
        _tell_other(telling, line, attachment, kind)


def _tell_queued(run: Run, line: Line, attachment: Object) -> None:
    """What reached the model in the middle of a turn."""
    prompt, pos = attachment.get("prompt"), f"{line.pos}/attachment/prompt"
    kind = as_text(as_object(attachment.get("origin")).get("kind"))
    actor = None if kind == "human" else kind
    if is_array(prompt):
        for index, block in enumerate(prompt):
            more = {"actor": actor, "at": line.at}
            write_block(run, block, f"{pos}/{index}", role="user", **more)
    else:
        run.event("user", as_text(prompt), pos, actor=actor, at=line.at)


def _tell_prompt(run: Run, line: Line, attachment: Object) -> None:
    """System prompt and tool definitions, which late versions write down."""
    if is_array(attachment.get("tools")):
        tools = [as_object(tool) for tool in attachment["tools"]]
        run.tools(
            (as_text(t.get("name")), as_text(t.get("description")), t.get("schema")) for t in tools
        )
    prompt = attachment.get("systemPrompt")
    if prompt is not None:
        blocks = [{"text": part} for part in prompt] if is_array(prompt) else prompt
        run.system(system_text(blocks), f"{line.pos}/attachment/systemPrompt", at=line.at)


def _tell_other(telling: Telling, line: Line, attachment: Object, kind: str) -> None:
    """What the harness put before the model, or says that it kept from it."""
    cuts_thinking, rendered = kind in THINKING_CUTS, line.rendered_text
    if not rendered and not any(value for key, value in attachment.items() if key != "type"):
        telling.left_out[kind_of(line)] += 1
        return
    is_rendered = bool(rendered) and not cuts_thinking
    if not is_rendered:
        whole = without_bytes(attachment) if may_hold_bytes(line) else attachment
        telling.plain.tell_other(line, as_json(whole), kind, f"{line.pos}/attachment")
    else:
        telling.plain.tell_other(line, rendered, kind, f"{line.pos}/rendered")
    request = as_text(attachment.get("requestId")) if cuts_thinking else None
    if request is not None:
        telling.edit_of[request] = "thinking_dropped"
        if (number := telling.notes.step_of.get(request)) is not None:
            telling.run.update_step(number, history_edit="thinking_dropped")
