"""Tells an ordinary sample of an Inspect log: one conversation that only grows, in one pass.

Ordinary is a sample of one agent, each of whose calls was given what the call before it was given,
the replies since then, and new prompts and results of tools; replies with or without their thinking.
No call failed. All that ``Transcript`` keeps to find edited, merged and repeated messages again is not
needed then. A sample that turns out to be of another kind is left to it; for ordinary ones both ways
tell the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from msgspec import UNSET

from loaders.context import Range
from loaders.dialects.openai_chat import has_think_tag
from loaders.errors import UnreadableRecord
from loaders.formats._inspect_context import common_prefix, extend
from loaders.formats._inspect_facts import NOT_TOLD, NOTES, Facts, said_in
from loaders.formats._inspect_parts import (
    Scope,
    duration_of,
    ended_at,
    in_scopes,
    response,
    thinking_of,
    tokens_of,
)
from loaders.formats._inspect_plain_sent import Emitted, Growing, Otherwise, Replies, Reply
from loaders.formats._inspect_records import (
    Choice,
    Message,
    ModelEvent,
    OtherEvent,
    ScoreEvent,
    ToolEvent,
    opened,
)
from loaders.formats._inspect_rows import PlainRows, RowsOfRun
from loaders.formats._inspect_sample import Sample, may_refer
from loaders.formats._inspect_tools import Offers
from loaders.run import Run
from loaders.steps import Step
from loaders.values import as_json, as_object, as_text, as_time, is_array

_MOST_EVENTS: Final = 8_192
"""A longer sample is told event by event, so that its rows can be put away on the way."""
_NOT_TOLD_HERE = (RecursionError, OverflowError, UnreadableRecord)


class PlainTranscript:
    """Tells a sample to a run if it is ordinary; ``facts`` are what it gathers on the way."""

    def __init__(
        self, run: Run, rows: PlainRows, sample: Sample, toolsets: dict[bytes, str]
    ) -> None:
        self.facts = Facts()
        self._run, self._rows, self._sample = run, rows, sample
        self._offers = Offers(run, sample, toolsets)
        self._told = RowsOfRun(run.index)
        self._calls: dict[str, tuple[int, str | None]] = {}
        self._answered: set[str] = set()
        self._ran: dict[str, ToolEvent] = {}
        self._prompts: set[tuple[str, str]] = set()
        self._inputs: dict[str, Message] = {}
        """Messages told out of inputs, by id."""
        self._replies = Replies(sample)
        self._keys: Sequence[int] = range(0)
        self._ranges: list[Range] = []
        self._growing = Growing(sample)

    def tell(self) -> bool:
        """Tell everything; or nothing, where the sample is not ordinary."""
        try:
            self._tell_all()
        except (Otherwise, *_NOT_TOLD_HERE):
            self._run.offered = None
            return False
        self._run.tell_whole(self._told)
        self._rows.take(self._told.run, *self._told.rows)
        return True

    def _tell_all(self) -> None:
        sample, record = self._sample, self._sample.record
        if record.get("error") or len(sample.events.items) > _MOST_EVENTS:
            raise Otherwise
        if None in (self._run.columns["started_at"], self._run.columns["ended_at"]):
            raise Otherwise
        events = in_scopes(sample)
        for _, event, scope in events:
            if type(event) is ToolEvent and not scope.scorer:
                if type(event.id) is not str or event.id in self._ran:
                    raise Otherwise
                self._ran[event.id] = event
        conversation = None
        for pos, event, scope in events:
            if type(event) is ModelEvent:
                if scope.scorer:
                    self._tell_judgement(event, pos, scope)
                    continue
                if scope.conversation != conversation:
                    if conversation is not None:
                        raise Otherwise
                    conversation = scope.conversation
                self._tell_model_call(event, pos, scope)
            elif type(event) is ToolEvent:
                if not scope.scorer and event.id not in self._calls:
                    raise Otherwise
            elif type(event) is OtherEvent:
                self._tell_note(event, pos)
            elif type(event) is not ScoreEvent or event.intermediate is True:
                raise Otherwise
        if conversation is None:
            raise Otherwise
        self._tell_rest()
        if not self._ran.keys() <= self._answered or sample.missing:
            raise Otherwise
        self._told.unanswered = len(self._calls) - len(self._answered)

    # ------------------------------------------------------------------ messages

    def _tell_message(self, message: Message, pos: str) -> None:
        """Tell a new message that is no reply."""
        role, content = message.role, message.content
        if message.tool_calls or message.metadata or content is UNSET:
            raise Otherwise
        message_id = message.id
        if message_id is not None:
            if type(message_id) is not str or not message_id or self._knows(message_id):
                raise Otherwise
            self._inputs[message_id] = message
        if role == "tool":
            self._tell_result(message, pos)
            return
        text = self._sample.resolve(content)
        if type(text) is not str or role not in ("system", "user"):
            raise Otherwise
        if message.tool_call_id is not None or message.error is not None:
            raise Otherwise
        prompt = (role, text.strip())
        if prompt in self._prompts:
            raise Otherwise
        self._prompts.add(prompt)
        if role == "system":
            self._told.system = self._told.system or text
        else:
            self._told.user = self._told.user or text
        self._told.tell_other(role, None, text, None, None, f"{pos}/content")

    def _knows(self, message_id: str) -> bool:
        return message_id in self._inputs or message_id in self._replies.by_id

    def _tell_result(self, message: Message, pos: str) -> None:
        call_id = message.tool_call_id
        if type(call_id) is not str or call_id in self._answered or call_id not in self._calls:
            raise Otherwise
        self._answered.add(call_id)
        text, media = self._sample.text_of(message.content)
        call_seq, called = self._calls[call_id]
        tool = as_text(message.function) or called
        event = self._ran.get(call_id)
        at = seconds = truncated = None
        if event is not None:
            at = as_time(event.timestamp)
            seconds = duration_of(event, at)
            truncated = True if is_array(event.truncated) else None
        if message.error is None and message.tool_error is None:
            where, is_error, error_type = f"{pos}/content", False, None
        else:
            resolve = self._sample.resolve
            error, tool_error = resolve(message.error), resolve(message.tool_error)
            text, where, is_error, error_type = response(error, tool_error, text, pos, "content")
        self._told.tell_result(
            text,
            tool,
            call_id,
            call_seq,
            is_error,
            error_type,
            truncated,
            at,
            seconds,
            media,
            where,
        )

    def _tell_note(self, event: OtherEvent, pos: str) -> None:
        kind = event.kind
        if kind in NOTES:
            text = as_json(self._sample.resolve(said_in(event)))
            self._told.tell_other("other", kind, text, as_time(event.timestamp), None, pos)
        elif kind not in NOT_TOLD:
            raise Otherwise

    def _tell_judgement(self, event: ModelEvent, pos: str, scope: Scope) -> None:
        choices = None if event.output is None else event.output.choices
        message = choices[0].message if choices else None
        if message is None or message.content is UNSET:
            raise Otherwise
        text, media = self._sample.text_of(message.content)
        at = as_time(event.timestamp)
        self._told.tell_other("other", scope.scorer, text, at, media, pos)

    # ------------------------------------------------------------------ model calls

    def _tell_model_call(self, event: ModelEvent, pos: str, scope: Scope) -> None:
        output = event.output
        if event.error or event.pending or output is None or output.error:
            raise Otherwise
        choices = output.choices
        if not choices or len(choices) != 1:
            raise Otherwise
        self._follow(self._sample.input_of(event, pos))
        self._offers.tell(event.tools)
        self.facts.gather(event, output)
        start = as_time(event.timestamp)
        first, available = self._told.count, len(self._told.thinking)
        number = self._told.step = len(self._told.steps)
        state, chars = self._tell_reply(choices[0], pos, scope.agent, start)
        sent = self._growing.sent(event, self._told.thinking, available)
        fresh, out, reasoning, cached = tokens_of(output.usage)
        self._told.steps.append(
            Step(
                self._told.run,
                number,
                first,
                scope.agent or as_text(event.role),
                as_text(event.model),
                start,
                ended_at(event, start),
                fresh,
                out,
                reasoning,
                cached,
                as_text(choices[0].stop_reason),
                None,
                state,
                chars,
                available,
                sent.thinking,
                sent.evidence,
                sent.edit,
                _as_objects(self._ranges),
                None if sent.ranges is None else _as_objects(sent.ranges),
                self._run.offered,
                pos,
            )
        )

    def _follow(self, keys: Sequence[int]) -> None:
        """Tell what is new in the next call's input."""
        pool, known = self._sample.pool, len(self._keys)
        kept = common_prefix(self._keys, keys)
        if len(keys) < known:
            raise Otherwise
        for index in range(kept, known):
            if keys[index] != self._keys[index]:
                self._replies.show_again(index, self._no_input(pool.items[keys[index]]))
        for key in keys[known:]:
            message = pool.items[key]
            if message.role == "assistant":
                reply = self._replies.show(self._no_input(message))
                extend(self._ranges, reply.start, reply.stop)
                self._growing.shows_reply(reply.thoughts)
                continue
            start = self._told.count
            self._tell_message(message, pool.place(key))
            extend(self._ranges, start, self._told.count)
            self._growing.shows_other()
            self._replies.show_other()
        self._keys = keys

    def _no_input(self, message: Message) -> Message:
        """The message, which has not the id of one that was told out of an input."""
        if type(message.id) is str and message.id in self._inputs:
            raise Otherwise
        return message

    # ------------------------------------------------------------------ replies

    def _tell_reply(
        self, choice: Choice, pos: str, actor: str | None, at: datetime | None
    ) -> tuple[str | None, int]:
        """Tell what a call put out; returns the state and the length of its thinking."""
        message = choice.message
        if message is None or message.role != "assistant":
            raise Otherwise
        pos = f"{pos}/output/choices/0/message"
        start, content = self._told.count, message.content
        thoughts: list[Emitted] = []
        chars = 0
        if is_array(content):
            for index, part in enumerate(content):
                part = as_object(part)
                kind = part.get("type")
                if kind == "reasoning":
                    chars += self._tell_thinking(
                        part, f"{pos}/content/{index}", actor, at, thoughts
                    )
                elif kind == "text" and part.get("refusal") is not True:
                    self._tell_text(part.get("text"), f"{pos}/content/{index}", actor, at)
                else:
                    raise Otherwise
        elif content is not UNSET and content is not None:
            self._tell_text(content, f"{pos}/content", actor, at)
        for index, call in enumerate(message.tool_calls or ()):
            call_id = call.id
            if type(call_id) is not str or call_id in self._calls:
                raise Otherwise
            tool = as_text(call.function)
            self._calls[call_id] = (self._told.count, tool)
            event = self._ran.get(call_id)
            arguments = opened(call.arguments)
            if arguments is call.arguments or may_refer(bytes(call.arguments)):
                arguments = self._sample.resolve(arguments)
            began = at if event is None else as_time(event.timestamp)
            where = f"{pos}/tool_calls/{index}"
            self._told.tell_call(actor, tool, call_id, as_json(arguments), began, where)
        message_id = message.id
        if type(message_id) is str:
            if not message_id or self._knows(message_id):
                raise Otherwise
            self._replies.keep(message_id, Reply(message, start, self._told.count, thoughts))
        states = {emitted.thought.state for emitted in thoughts}
        if len(states) > 1:
            raise Otherwise
        return states.pop() if states else None, chars

    def _tell_text(self, text: Any, pos: str, actor: str | None, at: datetime | None) -> None:
        text = self._sample.resolve(text)
        if type(text) is not str or has_think_tag(text):
            raise Otherwise
        if text and not text.isspace():
            self._told.tell_message(actor, text, at, pos)

    def _tell_thinking(
        self,
        part: dict[str, Any],
        pos: str,
        actor: str | None,
        at: datetime | None,
        thoughts: list[Emitted],
    ) -> int:
        thought = thinking_of(part, self._sample.resolve)
        if thought is None:
            return 0
        text, state, signature, *_ = thought
        logged = part["reasoning"] if state == "text" else None
        if logged is not None and (text is None or text.isspace()):
            raise Otherwise
        thoughts.append(Emitted(self._told.count, thought, logged))
        self._told.tell_thinking(actor, text, state, signature, at, pos)
        return len(text or "")

    # ------------------------------------------------------------------ the end

    def _tell_rest(self) -> None:
        """Results of tools that stand at the end of the conversation and in no call's input."""
        messages, seen = self._sample.messages, set[str]()
        for index, message in enumerate(messages.items):
            message_id = message.id
            if type(message_id) is not str or message_id in seen:
                raise Otherwise
            seen.add(message_id)
            if message.role == "assistant":
                if message_id not in self._replies.by_id:
                    raise Otherwise
            elif message_id in self._inputs:
                if not self._same(message, self._inputs[message_id]):
                    raise Otherwise
            elif message.role == "tool":
                self._tell_message(message, messages.place(index))
            else:
                raise Otherwise

    def _same(self, one: Message, other: Message) -> bool:
        resolve = self._sample.resolve
        return (
            one.role == other.role
            and one.tool_call_id == other.tool_call_id
            and resolve(one.content) == resolve(other.content)
            and one.error == other.error
            and not one.tool_calls
        )


def _as_objects(ranges: list[Range]) -> list[dict[str, int]]:
    return [{"start": start, "stop": stop} for start, stop in ranges]
