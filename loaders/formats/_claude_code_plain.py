"""Tells the plain lines of a Claude Code session: one loop, and rows of only the columns they have.

Plain are lines of one content block, which is a text, thinking or a tool call of a reply, or the
result of a call, beside which nothing rare is set. ``Telling`` tells all others, and could tell these.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Container, Sized
from typing import Any, Final

import polars as pl

from loaders.columns import frame_of_columns
from loaders.formats._claude_code_lines import Block, Line, Outcome
from loaders.formats._claude_code_notes import Notes
from loaders.run import PIECES_AT_ONCE, Run
from loaders.schema import EVENTS
from loaders.steps import Step
from loaders.values import as_time

SPAWNERS: Final = frozenset({"Task", "Agent"})
"""Tools that start a subagent."""
NOTHING_NOTED: Final = Outcome()
"""Stands where the harness noted nothing of a result."""
_EXIT_CODE = re.compile(r"Exit code (\d{1,9})\b")
_NO_COUNTS: Final = (None, None, None, None)
_ROWS_AT_ONCE: Final = 4_096
_ROWS_IN_CACHE: Final = 256
_COLUMNS: Final = {
    "thinking": ("seq", "step", "text", "thinking_state", "signature", "started_at", "line"),
    "message": ("seq", "step", "text", "started_at", "line"),
    "tool_call": ("seq", "step", "tool", "call_id", "arguments", "started_at", "line"),
    "tool_result": (
        *("seq", "step", "text", "tool", "call_id", "call_seq", "is_error", "error_type"),
        *("exit_code", "truncated", "duration_s", "started_at", "line"),
    ),
}
_TYPES: Final = pl.Schema({**EVENTS, "line": pl.Int64})


class PlainLines:
    """Tells the plain lines of one run.

    ``edit_of``: how the history of a request was edited, as far as it is known; ``watched``: results
    and subagents that wait for their calls. While any does, calls are told one by one.
    """

    def __init__(
        self,
        run: Run,
        agent: str | None,
        notes: Notes,
        edit_of: dict[str, str],
        watched: tuple[Sized, Sized],
    ) -> None:
        self._run, self._agent, self._notes = run, agent, notes
        self._edit_of, self._watched = edit_of, watched
        self.repeated: Container[int] | None = None
        """If known, hashes of the ids of several calls or results: others are done with an answer."""
        self._rows: dict[str, list[tuple[Any, ...]]] = {kind: [] for kind in _COLUMNS}
        self._columns: dict[str, list[list[Any]]] = {
            kind: [[] for _ in names] for kind, names in _COLUMNS.items()
        }
        self._until, self._turn_at = _ROWS_AT_ONCE, _ROWS_IN_CACHE
        run.hand_in = self.hand_in

    def hand_in(self) -> None:
        """Put the rows told so far into a frame of the run."""
        self._turn()
        frames = [
            frame_of_columns(columns, _COLUMNS[kind], _TYPES).with_columns(
                kind=pl.lit(kind, EVENTS["kind"])
            )
            for kind, columns in self._columns.items()
            if columns[0]
        ]
        if frames:
            for columns in self._columns.values():
                for values in columns:
                    values.clear()
            place = pl.format("L{}/message/content/0", "line").alias("source_pos")
            told = pl.concat(frames, how="diagonal").with_columns(place).drop("line")
            self._run.rows_told(told.sort("seq"))

    def _turn(self) -> None:
        """Rows into columns, while they are few and in the processor's cache."""
        for rows, columns in zip(self._rows.values(), self._columns.values(), strict=True):
            for values, more in zip(columns, zip(*rows, strict=True), strict=False):
                values += more
            rows.clear()

    def tell(  # noqa: PLR0915
        self, groups: deque[Line], history_edit: str | None, end: str | None
    ) -> str | None:
        """Tell the calls and results at the head of ``groups`` that are plain, and take them out.

        ``history_edit`` of the calls, ``end`` how the latest one ended; returns how it did then.
        """
        run, steps, responses = self._run, self._run.steps, self._run.responses
        add_call, by_id, unanswered = run.calls.add, run.calls.by_id, run.calls.unanswered
        thought_at, agent, offered = run.thinking_seqs, self._agent, run.offered
        is_watched, edit_of, notes = any(self._watched), self._edit_of, self._notes
        thoughts, texts, calls, results = self._rows.values()
        repeated = self.repeated
        seq, until = run.seq, self._until
        step = run.handed_over.count + len(steps) - 1
        first: Any  # all that is read of a plain line it is known to have
        block: Any
        while groups and (block := (first := groups[0]).plain) is not None:
            if first.type == "user":
                call_id = block.tool_use_id
                known = by_id.get(call_id)
                if type(known) is not tuple:  # no such call yet, or several of them
                    break
                call_seq, tool, _ = known
                unanswered.pop(call_seq, None)
                if repeated is not None and hash(call_id) not in repeated:
                    del by_id[call_id]
                text, is_error, noted = block.content, block.is_error, first.tool_use_result
                error_type = exit_code = truncated = seconds = None
                if is_error or type(noted) is Outcome:
                    noted = noted if type(noted) is Outcome else NOTHING_NOTED
                    is_error, error_type, exit_code = how_it_went(first, block, text, noted)
                    truncated, seconds = noted.is_truncated, noted.seconds
                    if call_id and (more := noted.notes):
                        notes.results[call_id] = more
                responses += (str(tool), "\0", text, "\0", str(is_error))
                if len(responses) > PIECES_AT_ONCE:
                    run.take_in_responses()
                results.append(
                    (
                        seq,
                        step if steps else None,
                        text,
                        tool,
                        call_id,
                        call_seq,
                        is_error,
                        error_type,
                        exit_code,
                        truncated,
                        seconds,
                        as_time(first.timestamp),
                        first.number,
                    )
                )
                seq += 1
                groups.popleft()
                continue
            if is_watched:
                break
            step += 1
            begun, available, state, chars = seq, len(thought_at), None, 0
            usage = end = at = None
            for line in (first, *first.more) if first.more else (first,):
                message = line.message
                block = line.plain
                usage = usage if message.usage is None else message.usage
                end = message.stop_reason or end
                at = as_time(line.timestamp)
                kind = block.type
                if kind == "thinking":
                    text, shown = block.thinking, "text"
                    if text:
                        state, chars = shown, chars + len(text)
                    else:
                        text, shown, state = None, "hidden", state or "hidden"
                    thoughts.append((seq, step, text, shown, block.signature, at, line.number))
                    thought_at.append(seq)
                elif kind == "tool_use":
                    name, call_id = block.name, block.id
                    add_call(seq, name, call_id, step + 1)
                    calls.append((seq, step, name, call_id, block.arguments, at, line.number))
                elif block.text:
                    texts.append((seq, step, block.text, at, line.number))
                else:
                    continue
                seq += 1
            fresh, output, reasoning, cached = _NO_COUNTS if usage is None else usage.counts
            if usage is not None:
                notes.note_usage(step, usage)
            request = first.request_id
            if request is not None:
                notes.note_request(step, request)
            steps.append(
                Step(
                    run.index,
                    step,
                    begun,
                    agent,
                    first.message.model,
                    None,
                    at,
                    fresh,
                    output,
                    reasoning,
                    cached,
                    end,
                    None,
                    state,
                    chars,
                    available,
                    None,
                    None,
                    history_edit or (edit_of.get(request or "") if edit_of else None),
                    None,
                    None,
                    offered,
                    f"L{first.number}",
                )
            )
            groups.popleft()
            if seq >= until:
                self.hand_in()
                until = self._until = seq + _ROWS_AT_ONCE
        if seq >= self._turn_at:
            self._turn()
            self._turn_at = seq + _ROWS_IN_CACHE
        run.told_elsewhere(seq)
        return end


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
