"""Tells one sample of an Inspect log: its events in order, then what no event told."""

from __future__ import annotations

from collections import Counter
from typing import Any

from loaders.formats._inspect_context import Conversation, Seen
from loaders.formats._inspect_facts import NOT_TOLD, NOTES, Compactions, Facts, said_in
from loaders.formats._inspect_messages import Messages
from loaders.formats._inspect_parts import (
    Scope,
    ended_at,
    in_scopes,
    merged_message,
    usage_columns,
)
from loaders.formats._inspect_records import (
    Event,
    Message,
    ModelEvent,
    OtherEvent,
    Output,
    ScoreEvent,
    ToolEvent,
    opened,
)
from loaders.formats._inspect_requests import Requests
from loaders.formats._inspect_sample import Sample
from loaders.formats._inspect_tools import Offers
from loaders.run import Run
from loaders.values import (
    as_json,
    as_name,
    as_object,
    as_text,
    as_time,
)

_NO_OUTPUT, _NO_MESSAGE = Output(), Message()


class Transcript:
    """Tells the events of a sample to a run; ``facts`` are what it gathers on the way.

    ``toolsets``: fingerprints of tool definitions, by their text, as far as the log was read.
    """

    def __init__(self, run: Run, sample: Sample, toolsets: dict[bytes, str] | None = None) -> None:
        self.facts = Facts()
        self._run, self._sample = run, sample
        self._offers = Offers(run, sample, {} if toolsets is None else toolsets)
        self._compactions = Compactions(run, sample, self.facts)
        self._messages = Messages(run, sample, self._compactions)
        self._register = self._messages.register
        self._conversations: dict[str, tuple[Conversation, Requests]] = {}
        self._errors: set[str] = set()
        self._has_calls = False
        self._unknown: set[str] = set()

    def tell(self) -> None:
        """Tell everything: events in order, then messages and tool results that no event showed."""
        events = in_scopes(self._sample)
        for pos, event, scope in events:
            if isinstance(event, ToolEvent) and not scope.scorer:
                self._messages.ran(event, pos)
            self._has_calls |= isinstance(event, ModelEvent) and not scope.scorer
        for pos, event, scope in events:
            self._tell_event(event, pos, scope)
        self._compactions.tell_all()
        if self._has_calls:
            self._tell_rest()
        else:
            self._tell_messages_alone()
        self._messages.tell_unseen_results(has_calls=self._has_calls)
        error = as_object(self._sample.record.get("error"))
        self._tell_error(as_text(error.get("message")), f"{self._sample.pos}/error/message")
        missing = sorted(self._sample.missing)
        if missing:
            reason = f"{len(missing)} attachments are not in the log: {', '.join(missing[:3])}"
            self._run.problem(self._sample.pos, reason)

    # ------------------------------------------------------------------ events

    def _tell_event(self, event: Event, pos: str, scope: Scope) -> None:
        if isinstance(event, ModelEvent):
            if scope.scorer:
                self._tell_judgement(event, pos, scope)
            else:
                self._tell_model_call(event, pos, scope)
        elif isinstance(event, ToolEvent):
            messages = self._messages
            if self._has_calls and not scope.scorer and as_name(event.id) not in messages.calls:
                messages.tell_tool_outside_of_calls(event, pos, scope.agent)
        elif isinstance(event, ScoreEvent):
            if event.intermediate is True:
                score = self._sample.resolve(opened(event.score))
                self.facts.note("intermediate_scores", score, is_new=True)
        elif isinstance(event, OtherEvent):
            self._tell_other(event, pos, scope)

    def _tell_other(self, event: OtherEvent, pos: str, scope: Scope) -> None:
        kind = event.kind
        if kind == "compaction":
            self._compactions.announce(scope.conversation, pos, event)
        elif kind == "error":
            message = self._sample.resolve(as_object(event.fields.get("error")).get("message"))
            self._tell_error(as_text(message), f"{pos}/error/message")
        elif kind in NOTES:
            text = as_json(self._sample.resolve(said_in(event)))
            self._run.event("other", text, pos, actor=kind, at=as_time(event.timestamp))
        elif kind not in NOT_TOLD and str(kind) not in self._unknown:
            self._unknown.add(str(kind))
            self._run.problem(pos, f"events of type {kind} are unknown and not told")

    def _tell_error(self, message: str | None, pos: str, **more: Any) -> None:
        """An error; the sample's repeats that of the model call or event that ended it."""
        if message is None or (message in self._errors and not more):
            return
        self._errors.add(message)
        name = message.partition("(")[0]
        kind = name if name.isidentifier() else None
        self._run.event("error", message, pos, error_type=kind, **more)

    def _tell_judgement(self, event: ModelEvent, pos: str, scope: Scope) -> None:
        """A scorer's model call is no step of the agent; what the judge said is kept."""
        choices = (event.output or _NO_OUTPUT).choices
        message = (choices[0].message if choices else None) or _NO_MESSAGE
        text, media = self._messages.text_of(message)
        at = as_time(event.timestamp)
        self._run.event("other", text, pos, actor=scope.scorer, media=media, at=at)

    # ------------------------------------------------------------------ model calls

    def _tell_model_call(self, event: ModelEvent, pos: str, scope: Scope) -> None:
        run, messages, resolve = self._run, self._messages, self._sample.resolve
        conversation, requests = self._conversation(scope)
        conversation.follow(
            self._sample.input_of(event, pos),
            lambda key, seen: messages.locate(key, seen, scope),
            self._compactions.edit(scope.conversation),
        )
        self._compactions.tell(scope.conversation)
        self._offers.tell(event.tools)
        output = event.output or _NO_OUTPUT
        self.facts.gather(event, output)
        choices = output.choices or ()
        error = None if event.error is None else as_text(resolve(event.error))
        failed = bool(event.error or event.pending) and not output.usage
        start = as_time(event.timestamp)
        run.step(
            source_pos=pos,
            agent=scope.agent or as_text(event.role),
            model=as_text(event.model),
            started_at=start,
            ended_at=ended_at(event, start),
            stop_reason=as_text(choices[0].stop_reason) if choices and not failed else None,
            error=as_text(resolve(event.error or output.error)),
            **usage_columns(output.usage),
        )
        for index, choice in enumerate(choices):
            where = f"{pos}/output/choices/{index}"
            message = choice.message or _NO_MESSAGE
            if index:  # only the first choice goes into the conversation
                text, media = messages.text_of(message)
                run.event("other", text, where, actor="other choice", media=media)
                continue
            told = messages.tell_reply(message, f"{where}/message", scope.agent, start, not failed)
            if told is not None:
                conversation.said(told)
        if error is not None:
            self._tell_error(error, f"{pos}/error", actor=scope.agent, at=start)
        self._say_what_it_saw(event, conversation, requests)

    def _say_what_it_saw(
        self, event: ModelEvent, conversation: Conversation, requests: Requests
    ) -> None:
        request = self._sample.request_of(event)
        if request is None:
            self._run.saw(conversation.ranges, None, "unknown", conversation.edit)
            return
        found, lost_thinking = requests.follow(request, conversation)
        edit = conversation.edit or ("thinking_dropped" if lost_thinking else "none")
        self._run.saw(conversation.ranges, found, "request", edit)

    def _conversation(self, scope: Scope) -> tuple[Conversation, Requests]:
        if scope.conversation not in self._conversations:
            self._conversations[scope.conversation] = (
                Conversation(self._register),
                Requests(self._sample, self._messages),
            )
        return self._conversations[scope.conversation]

    # ------------------------------------------------------------------ what no event showed

    def _tell_messages_alone(self) -> None:
        """A log without model events: the conversation as it was at the end, a call per reply."""
        messages = self._sample.messages
        for index, message in enumerate(messages.items):
            pos = messages.place(index)
            if message.role == "assistant" and message.source != "input":
                self._run.step(source_pos=pos)
                self._messages.tell_reply(message, pos, None, None, is_kept=False)
            else:
                self._messages.tell(message, pos, Scope())

    def _tell_rest(self) -> None:
        """Messages of the conversation that stand in no call's input and are no call's output."""
        seen = Seen(self._register)
        shown: Counter[str] = Counter()
        waiting: list[tuple[str, Message]] = []
        messages = self._sample.messages
        for index, message in enumerate(messages.items):
            found = self._register.find(message, seen)
            seen.add(found)
            if waiting and (found or message.role != waiting[-1][1].role):
                self._tell_unless_merged(waiting, seen)
                waiting = []
            call_id = as_name(message.tool_call_id) if message.role == "tool" else None
            answered = False
            if call_id is not None:  # then told as its call's input had it
                shown[call_id] += 1
                answered = shown[call_id] <= self._messages.results[call_id]
            if not found and not answered:
                waiting.append((messages.place(index), message))
        self._tell_unless_merged(waiting, seen)

    def _tell_unless_merged(self, neighbours: list[tuple[str, Message]], seen: Seen) -> None:
        """Providers that want turns to alternate were sent neighbours as one message."""
        if len(neighbours) > 1:
            merged = merged_message([message for _, message in neighbours])
            if self._register.knows(self._register.content_anew(merged)):
                return
        for pos, message in neighbours:
            seen.add((self._messages.tell(message, pos, Scope()),))
