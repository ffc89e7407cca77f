"""Tells the messages of an Inspect sample: replies of model calls, and what is new in their inputs."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import Any

from msgspec import UNSET

from loaders.context import ThinkingWitness
from loaders.dialects.openai_chat import has_think_tag
from loaders.formats._inspect_context import Numbers, Register, Seen
from loaders.formats._inspect_facts import Compactions
from loaders.formats._inspect_parts import Scope, Thought, duration_of, pieces, response
from loaders.formats._inspect_records import NOTHING, Message, ToolCall, ToolEvent, opened
from loaders.formats._inspect_sample import Sample
from loaders.run import Run
from loaders.values import Object, as_json, as_name, as_object, as_text, as_time, is_array


class Messages:
    """Tells messages to a run, and keeps them so that they are known again.

    ``tool_events``: the tools that ran, by the id of their call; ``calls`` and ``results`` count
    what was told of each id. ``references``: by ``seq``, how thinking that is stored apart is
    referred to in JSON.
    """

    def __init__(self, run: Run, sample: Sample, compactions: Compactions) -> None:
        self.register, self.witness = Register(sample), ThinkingWitness()
        self.tool_events: dict[str, list[tuple[str, ToolEvent]]] = {}
        self.calls: Counter[str] = Counter()
        self.results: Counter[str] = Counter()
        self.references: dict[int, bytes] = {}
        self._run, self._sample, self._compactions = run, sample, compactions

    def ran(self, event: ToolEvent, pos: str) -> None:
        """A tool ran: its call and result are going to be told with these times."""
        self.tool_events.setdefault(as_name(event.id) or "", []).append((pos, event))

    def _run_of(self, call_id: str, number: int) -> ToolEvent | None:
        """How the ``number``-th call of this id ran."""
        events = self.tool_events.get(call_id, ())
        return events[number][1] if number < len(events) else None

    # ------------------------------------------------------------------ inputs

    def locate(self, key: int, seen: Seen, scope: Scope) -> Numbers:
        """The told messages that a message of an input repeats; tells it where it is new."""
        pool = self._sample.pool
        message = pool.items[key]
        found = self.register.find(message, seen)
        return found or (self.tell(message, pool.place(key), scope),)

    def tell(self, message: Message, pos: str, scope: Scope) -> int:
        """Tell a message that no model call put out; returns its number."""
        run = self._run
        start, role = run.seq, as_text(message.role) or "unknown"
        if role == "tool":
            self._tell_result(message, pos)
        elif role == "assistant":
            self._tell_words_of_no_call(message, pos, scope)
        else:
            text, media = self.text_of(message)
            where = pos if message.content is UNSET else f"{pos}/content"
            if message.metadata and as_object(message.metadata).get("summary") is True:
                self._compactions.summarized(scope.conversation)
                run.event("compaction", text, where, media=media)
            elif role == "system":
                run.system(text, where, media=media)
            elif role == "user":
                run.user(text, where, media=media)
            else:
                run.event("other", text, where, actor=role, media=media)
        return self.register.add(message, start, run.seq, role)

    def text_of(self, message: Message) -> tuple[str | None, list[str] | None]:
        """The text of a message, and the types of its other parts."""
        content = message.content
        return (None, None) if content is UNSET else self._sample.text_of(content)

    def _tell_result(self, message: Message, pos: str) -> None:
        """A tool's response; a later version of one already told is what an edit put in its place."""
        call_id = as_name(message.tool_call_id)
        name = call_id or ""
        text, media = self.text_of(message)
        told = self.results.get(name, 0)
        if call_id is not None and told >= max(1, self.calls.get(name, 0)):
            self._run.event("other", text, pos, call_id=call_id, media=media)
            return
        event = self._run_of(name, told)
        self.results[name] = told + 1
        key = None if message.content is UNSET else "content"
        text, where, is_error, error_type = response(
            self._sample.resolve(message.error),
            self._sample.resolve(message.tool_error),
            text,
            pos,
            key,
        )
        self._write_result(
            event, text, where, call_id, as_text(message.function), is_error, error_type, media
        )

    def _write_result(  # noqa: PLR0917 - as the run takes it
        self,
        event: ToolEvent | None,
        text: str | None,
        where: str,
        call_id: str | None,
        tool: str | None,
        is_error: bool,
        error_type: str | None,
        media: list[str] | None,
    ) -> None:
        at = None if event is None else as_time(event.timestamp)
        self._run.result(
            text,
            where,
            call_id=call_id,
            tool=tool,
            by_order=call_id is None,
            is_error=is_error,
            error_type=error_type,
            truncated=True if event is not None and is_array(event.truncated) else None,
            at=at,
            duration_s=None if event is None else duration_of(event, at),
            media=media,
        )

    def _tell_words_of_no_call(self, message: Message, pos: str, scope: Scope) -> None:
        """A reply that no call of the sample put out: an example, or a solver's own words."""
        run = self._run
        for part, where in self._parts(message, pos):
            for kind, columns, thought in pieces(self._sample.resolve(part)):
                if thought is not None:
                    text, state, sign, *_ = thought
                    run.event(kind, text, where, actor=scope.agent, state=state, signature=sign)
                    continue
                name = "other" if kind == "server_tool" else kind
                run.event(name, pos=where, actor=scope.agent, **columns)
        self._tell_calls(message, pos, scope.agent, None)

    # ------------------------------------------------------------------ replies

    def tell_reply(
        self, message: Message, pos: str, actor: str | None, at: datetime | None, is_kept: bool
    ) -> int | None:
        """What the model call just begun put out; its number, where it ``is_kept`` for later inputs."""
        run, resolve = self._run, self._sample.resolve
        start = run.seq
        thinking: list[int] = []
        for part, where in self._parts(message, pos):
            kind = part.get("type")
            if kind == "text" and part.get("refusal") is not True:
                text = resolve(part.get("text"))
                if _is_plain(text):  # as nearly always
                    run.message(text, where, actor=actor, at=at)
                    continue
            told = pieces(part, resolve) if kind == "reasoning" else pieces(resolve(part))
            for kind, columns, thought in told:
                if thought is not None:
                    thinking.append(self._tell_thinking(thought, where, actor, at))
                elif kind == "server_tool":
                    self._tell_server_tool(resolve(part), where, actor, at)
                else:
                    run.event(kind, pos=where, actor=actor, at=at, **columns)
        self._tell_calls(message, pos, actor, at)
        if not is_kept:
            return None
        return self.register.add(message, start, run.seq, "assistant", tuple(thinking))

    def _tell_thinking(
        self, thought: Thought, pos: str, actor: str | None, at: datetime | None
    ) -> int:
        state, signature = thought.state, thought.signature
        seq = self._run.thinking(
            thought.text, pos, state=state, signature=signature, actor=actor, at=at
        )
        self.witness.emitted(seq, *thought.contents)
        if thought.reference is not None:
            self.references[seq] = thought.reference
        return seq

    @staticmethod
    def _parts(message: Message, pos: str) -> list[tuple[Object, str]]:
        """The parts of a reply, each with its position."""
        content = message.content
        if not is_array(content):
            text = None if content is UNSET else content
            return [({"type": "text", "text": text}, f"{pos}/content")]
        return [
            (
                {"type": "text", "text": part} if isinstance(part, str) else as_object(part),
                f"{pos}/content/{index}",
            )
            for index, part in enumerate(content)
        ]

    def _tell_calls(
        self, message: Message, pos: str, actor: str | None, at: datetime | None
    ) -> None:
        for index, call in enumerate(message.tool_calls or ()):
            self._tell_call(call, f"{pos}/tool_calls/{index}", actor, at)

    def _tell_call(self, call: ToolCall, pos: str, actor: str | None, at: datetime | None) -> None:
        call_id = as_name(call.id)
        name = call_id or ""
        told = self.calls.get(name, 0)
        event = self._run_of(name, told)
        self.calls[name] = told + 1
        self._run.call(
            as_text(call.function),
            self._sample.resolve(opened(call.arguments)),
            pos,
            call_id=call_id,
            actor=actor,
            at=at if event is None else as_time(event.timestamp),
        )

    def _tell_server_tool(
        self, part: Object, pos: str, actor: str | None, at: datetime | None
    ) -> None:
        """A tool that ran at the provider: its call and its result are one part of the reply."""
        call_id, error = as_name(part.get("id")), as_text(part.get("error"))
        name, result = as_text(part.get("name")), as_text(part.get("result"))
        self._run.call(name, part.get("arguments"), pos, call_id=call_id, actor=actor, at=at)
        self._run.result(
            result or error, pos, call_id=call_id, by_order=call_id is None, is_error=bool(error)
        )

    # ------------------------------------------------------------------ what no message showed

    def tell_unseen_results(self, *, has_calls: bool) -> None:
        """What tools returned that ran, where no message shows it."""
        for call_id, events in self.tool_events.items():
            for pos, event in [] if has_calls else events[self.calls[call_id] :]:
                self.tell_tool_outside_of_calls(event, pos, None)
            for pos, event in events[self.results[call_id] : self.calls[call_id]]:
                self._tell_unseen_result(call_id, event, pos)

    def _tell_unseen_result(self, call_id: str, event: ToolEvent, pos: str) -> None:
        resolve = self._sample.resolve
        result, error = resolve(opened(event.result)), resolve(event.error)
        if not (event.completed or result or error):
            return  # still running when the log ends
        text, media = self._sample.text_of(result)
        self.results[call_id] += 1
        key = None if event.result is NOTHING else "result"
        text, where, is_error, error_type = response(
            error, resolve(event.tool_error), text, pos, key
        )
        tool = None if event.function is UNSET else as_text(event.function)
        self._write_result(event, text, where, call_id, tool, is_error, error_type, media)

    def tell_tool_outside_of_calls(self, event: ToolEvent, pos: str, actor: str | None) -> None:
        """A tool that ran without being called by the model, as a solver may do."""
        resolve = self._sample.resolve
        text, media = self._sample.text_of(opened(event.result))
        call: Object = {}
        if event.function is not UNSET:
            call["function"] = event.function
        if event.arguments is not NOTHING:
            call["arguments"] = opened(event.arguments)
        at = as_time(event.timestamp)
        self._run.event(
            "other",
            as_json({**resolve(call), "result": text}),
            pos,
            actor=actor,
            call_id=as_name(event.id),
            media=media,
            at=at,
            duration_s=duration_of(event, at),
        )


def _is_plain(text: Any) -> bool:
    """Whether a text of a reply is one message: neither blank nor with thinking in tags."""
    return isinstance(text, str) and not (not text or text.isspace() or has_think_tag(text))
