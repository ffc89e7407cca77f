"""Tells the plain lines of a Claude Code session in a short way, as rows of only the columns they have.

Plain are lines of one content block, which is a text, thinking or a tool call of a reply, or the
result of a call, beside which nothing rare is set. ``Telling`` tells all others, and could tell these.
"""

from __future__ import annotations

import re
from collections import deque
from typing import TYPE_CHECKING, Final

from loaders.formats._claude_code_lines import Block, Line, Message, Outcome
from loaders.formats._claude_code_rows import PlainRows
from loaders.steps import Step
from loaders.values import as_time

if TYPE_CHECKING:
    from loaders.formats._claude_code_telling import Telling

NOTHING_NOTED: Final = Outcome()
"""Stands where the harness noted nothing of a result."""
_EXIT_CODE = re.compile(r"Exit code (\d{1,9})\b")
_NO_COUNTS: Final = (None, None, None, None)
_NO_MESSAGE: Final = Message()
_ROWS_IN_CACHE: Final = 256


class PlainLines:
    """Tells the plain lines of one run: as rows, but for the model calls."""

    def __init__(self, telling: Telling) -> None:
        self._telling, self._run = telling, telling.run
        self._calls, self._thinking_seqs = telling.run.calls, telling.run.thinking_seqs
        self._rows = telling.out.gathered(PlainRows)
        self._rows.begin(telling.run)
        self._turn_at = _ROWS_IN_CACHE
        ahead = telling.agent.ahead
        self._repeated = None if ahead is None else ahead.repeated
        """If known, hashes of the ids of several calls or results: others are done with an answer."""

    def tell(self, groups: deque[Line]) -> None:
        """Tell the calls and results at the head of ``groups`` that are plain, and take them out.

        While results or subagents wait for their calls, calls are left to ``Telling``.
        """
        telling, run = self._telling, self._run
        may_tell_calls = not (telling.early or telling.awaited)
        while groups and (block := groups[0].plain) is not None:
            if groups[0].type == "user":
                if not self._tell_result(groups[0], block):
                    break
            elif may_tell_calls:
                self._tell_call(groups[0])
            else:
                break
            groups.popleft()
        run.told_elsewhere()
        self._turn_if_many()

    def tell_other(self, line: Line, text: str | None, kind: str, pos: str) -> None:
        """Tell what the harness attached, and has no table of its own."""
        run = self._run
        at = as_time(line.timestamp)
        self._rows.others.append((run.seq, self._latest_step, text, kind, at, pos))
        run.seq += 1
        self._turn_if_many()

    def _turn_if_many(self) -> None:
        if self._run.seq >= self._turn_at:
            self._turn_at = self._run.seq + _ROWS_IN_CACHE
            self._rows.turn()
            self._telling.out.flush_if_many()

    @property
    def _latest_step(self) -> int | None:
        run = self._run
        return run.handed_over.count + len(run.steps) - 1 if run.steps else None

    def _tell_result(self, line: Line, block: Block) -> bool:
        """Tell a call's result, unless there is no such call yet, or several."""
        run, calls, call_id = self._run, self._calls, block.tool_use_id or ""
        known = calls.by_id.get(call_id)
        if type(known) is not tuple:
            return False
        call_seq, tool, _ = known
        calls.unanswered.pop(call_seq, None)
        if self._repeated is not None and hash(call_id) not in self._repeated:
            del calls.by_id[call_id]
        text = block.content if isinstance(block.content, str) else None
        is_error, noted = block.is_error, line.tool_use_result
        error_type = exit_code = truncated = seconds = None
        if is_error or type(noted) is Outcome:
            noted = noted if type(noted) is Outcome else NOTHING_NOTED
            is_error, error_type, exit_code = how_it_went(line, block, text, noted)
            truncated, seconds = noted.is_truncated, noted.seconds
            if call_id and (notes := noted.notes):
                self._telling.notes.results[call_id] = notes
        run.identify(tool, text, is_error)
        at = as_time(line.timestamp)
        self._rows.results.append((
            run.seq, self._latest_step, text, tool, call_id, call_seq, is_error, error_type, exit_code,
            truncated, seconds, at, line.number,
        ))  # fmt: skip
        run.seq += 1
        return True

    def _tell_call(self, first: Line) -> None:
        """Tell what the lines of a model call say."""
        telling, run, rows = self._telling, self._run, self._rows
        number, seq = run.handed_over.count + len(run.steps), run.seq
        available, state, chars = len(self._thinking_seqs), None, 0
        usage = end = at = None
        for line in (first, *first.more) if first.more else (first,):
            message, block = line.message or _NO_MESSAGE, line.plain
            usage = usage if message.usage is None else message.usage
            end = message.stop_reason or end
            at = as_time(line.timestamp)
            if block is None:
                continue
            kind, text = block.type, block.text
            if kind == "thinking":
                text, shown = block.thinking or None, "text"
                if text:
                    state, chars = shown, chars + len(text)
                else:
                    shown, state = "hidden", state or "hidden"
                rows.thoughts.append((seq, number, text, shown, block.signature, at, line.number))
                self._thinking_seqs.append(seq)
            elif kind == "tool_use":
                tool, call_id = block.name, block.id
                self._calls.add(seq, tool, call_id, number + 1)
                rows.calls.append((seq, number, tool, call_id, block.arguments, at, line.number))
            elif text:
                rows.texts.append((seq, number, text, at, line.number))
            else:
                continue
            seq += 1
        fresh, output, reasoning, cached = _NO_COUNTS if usage is None else usage.counts
        if usage is not None:
            telling.notes.note_usage(number, usage)
        if (request := first.request_id) is not None:
            telling.notes.note_request(number, request)
        model = first.message.model if first.message else None
        edit = telling.history_edit or (
            telling.edit_of.get(request or "") if telling.edit_of else None
        )
        run.steps.append(Step(
            run.index, number, run.seq, telling.name, model, None, at, fresh, output, reasoning,
            cached, end, None, state, chars, available, None, None, edit, None, None, run.offered,
            f"L{first.number}",
        ))  # fmt: skip
        run.seq = seq
        telling.end = end


def how_it_went(
    line: Line, block: Block, text: str | None, noted: Outcome
) -> tuple[bool | None, str | None, int | None]:
    """Whether a tool's run failed, with what kind of error and what exit code."""
    is_error = noted.is_error if block.is_error is None else block.is_error
    exit_code, error_type = noted.exit_code, line.tool_denial_kind
    if is_error and text:
        if exit_code is None and (found := _EXIT_CODE.match(text)):
            exit_code = int(found[1])
        if error_type is None and text.startswith("<tool_use_error>"):
            error_type = "tool_use_error"
    if noted.interrupted or noted.was_interrupted:
        error_type = error_type or "interrupted"
    return is_error, error_type, exit_code
