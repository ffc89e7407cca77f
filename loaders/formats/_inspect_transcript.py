"""Tells one sample of an Inspect log: its events in order, then what no event told."""

from __future__ import annotations

from collections import Counter, defaultdict
from datetime import datetime
from typing import Any

from loaders.context import ThinkingWitness
from loaders.dialects.openai_chat import text_and_media
from loaders.formats._inspect_context import (
    Conversation,
    Numbers,
    Register,
    Requests,
    Seen,
    Signature,
    Told,
)
from loaders.formats._inspect_events import as_logged, opened
from loaders.formats._inspect_parts import (
    Scope,
    duration_of,
    ended_at,
    in_scopes,
    merged_message,
    pieces,
    response,
    started_at,
    usage_columns,
)
from loaders.formats._inspect_sample import Sample
from loaders.run import Run
from loaders.values import (
    Object,
    as_array,
    as_float,
    as_int,
    as_json,
    as_name,
    as_object,
    as_text,
    is_array,
)

# Told elsewhere, or no part of what the model did: the docstring of ``inspect`` gives the reasons.
# fmt: off
_NOT_TOLD = frozenset({
    "anchor", "branch", "checkpoint", "sample_init", "sample_limit", "sandbox", "score_edit",
    "sentinel", "span_end", "state", "store", "subtask",
})
_NOTES = frozenset({"approval", "info", "input", "interrupt", "logger", "review"})
_OF_ANY_EVENT = frozenset({
    "event", "uuid", "span_id", "timestamp", "working_start", "pending",
})
# fmt: on
_COMPACTIONS = {"summary": "compacted", "edit": "compacted", "trim": "truncated"}


class Transcript:
    """Tells the events of a sample to a run.

    ``params`` are those of the first model call, ``costs`` those of each that reports them;
    ``counts`` says how many calls came out of Inspect's cache or were retried; ``facts`` what else
    is known from the events: models that served, choices of tools, compactions, early scores.
    """

    def __init__(self, run: Run, sample: Sample) -> None:
        self.params: Object = {}
        self.costs: list[float] = []
        self.counts: Counter[str] = Counter()
        self.facts: dict[str, list[Any]] = {}
        self._run, self._sample = run, sample
        self._register, self._witness = Register(sample), ThinkingWitness()
        self._conversations: dict[str, tuple[Conversation, Requests]] = {}
        self._compactions: dict[str, tuple[str, Object]] = {}
        self._tool_events: defaultdict[str, list[tuple[str, Object]]] = defaultdict(list)
        self._calls: Counter[str] = Counter()
        self._results: Counter[str] = Counter()
        self._errors: set[str] = set()
        self._tools: bytes | str | None = None
        self._has_calls = False
        self._unknown: set[str] = set()

    def tell(self) -> None:
        """Tell everything: events in order, then messages and tool results that no event showed."""
        events = in_scopes(self._sample.events)
        for pos, event, scope in events:
            if event.get("event") == "tool" and not scope.scorer:
                self._tool_events[as_name(event.get("id")) or ""].append((pos, event))
            self._has_calls |= event.get("event") == "model" and not scope.scorer
        for pos, event, scope in events:
            self._tell_event(event, pos, scope)
        for conversation in list(self._compactions):
            self._tell_compaction(conversation)
        if self._has_calls:
            self._tell_rest()
        else:
            self._tell_messages_alone()
        self._tell_unseen_results()
        error = as_object(self._sample.record.get("error"))
        self._tell_error(as_text(error.get("message")), f"{self._sample.pos}/error/message")
        missing = sorted(self._sample.missing)
        if missing:
            reason = f"{len(missing)} attachments are not in the log: {', '.join(missing[:3])}"
            self._run.problem(self._sample.pos, reason)

    # ------------------------------------------------------------------ events

    def _tell_event(self, event: Object, pos: str, scope: Scope) -> None:
        kind = as_text(event.get("event"))
        if kind == "model":
            if scope.scorer:
                self._tell_judgement(event, pos, scope)
            else:
                self._tell_model_call(event, pos, scope)
        elif kind == "tool":
            if self._has_calls and not scope.scorer and as_name(event.get("id")) not in self._calls:
                self._tell_tool_outside_of_calls(event, pos, scope.agent)
        elif kind == "compaction":
            self._tell_compaction(scope.conversation)
            self._compactions[scope.conversation] = (pos, event)
        elif kind == "error":
            message = self._sample.resolve(as_object(event.get("error")).get("message"))
            self._tell_error(as_text(message), f"{pos}/error/message")
        elif kind == "score":
            if event.get("intermediate") is True:
                score = self._sample.resolve(event.get("score"))
                self._note("intermediate_scores", score, is_new=True)
        elif kind in _NOTES:
            said = {key: value for key, value in event.items() if key not in _OF_ANY_EVENT}
            text, at = as_json(self._sample.resolve(said)), started_at(event)
            self._run.event("other", text, pos, actor=kind, at=at)
        elif kind not in _NOT_TOLD and str(kind) not in self._unknown:
            self._unknown.add(str(kind))
            self._run.problem(pos, f"events of type {kind} are unknown and not told")

    def _note(self, name: str, fact: Any, *, is_new: bool = False) -> None:
        known = self.facts.setdefault(name, [])
        if fact is not None and (is_new or fact not in known):
            known.append(fact)

    def _tell_error(self, message: str | None, pos: str, **more: Any) -> None:
        """An error; the sample's repeats that of the model call or event that ended it."""
        if message is None or (message in self._errors and not more):
            return
        self._errors.add(message)
        name = message.partition("(")[0]
        kind = name if name.isidentifier() else None
        self._run.event("error", message, pos, error_type=kind, **more)

    def _tell_judgement(self, event: Object, pos: str, scope: Scope) -> None:
        """A scorer's model call is no step of the agent; what the judge said is kept."""
        output = as_object(event.get("output"))
        message = as_object(
            as_object(next(iter(as_array(output.get("choices"))), None)).get("message")
        )
        text, media = text_and_media(self._sample.resolve(message.get("content")))
        self._run.event("other", text, pos, actor=scope.scorer, media=media, at=started_at(event))

    def _tell_tool_outside_of_calls(self, event: Object, pos: str, actor: str | None) -> None:
        """A tool that ran without being called by the model, as a solver may do."""
        text, media = text_and_media(self._sample.resolve(event.get("result")))
        call = {key: event[key] for key in ("function", "arguments") if key in event}
        self._run.event(
            "other",
            as_json({**self._sample.resolve(call), "result": text}),
            pos,
            actor=actor,
            call_id=as_name(event.get("id")),
            media=media,
            at=started_at(event),
            duration_s=duration_of(event),
        )

    # ------------------------------------------------------------------ model calls

    def _tell_model_call(self, event: Object, pos: str, scope: Scope) -> None:
        run, output = self._run, as_object(event.get("output"))
        conversation, requests = self._conversation(scope)
        compaction = self._compactions.get(scope.conversation)
        edit = _COMPACTIONS.get(str(compaction[1].get("type", "summary"))) if compaction else None
        keys = self._sample.input_of(event, pos)
        conversation.follow(keys, lambda key, seen: self._locate(key, seen, scope), edit)
        self._tell_compaction(scope.conversation)
        self._offer_tools(event.get("tools"))
        self.params = self.params or as_object(event.get("config"))
        self._note("served_models", output.get("model"))
        self._note("tool_choices", event.get("tool_choice"))
        self.counts["cache_reads"] += event.get("cache") == "read"
        self.counts["retries"] += as_int(event.get("retries")) or 0
        cost = as_float(as_object(output.get("usage")).get("total_cost"))
        self.costs += [] if cost is None else [cost]
        choices = [as_object(choice) for choice in as_array(output.get("choices"))]
        failed = bool(event.get("error") or event.get("pending")) and not output.get("usage")
        start = started_at(event)
        run.step(
            source_pos=pos,
            agent=scope.agent or as_text(event.get("role")),
            model=as_text(event.get("model")),
            started_at=start,
            ended_at=ended_at(event),
            stop_reason=as_text(choices[0].get("stop_reason")) if choices and not failed else None,
            error=as_text(self._sample.resolve(event.get("error") or output.get("error"))),
            **usage_columns(output.get("usage")),
        )
        for index, choice in enumerate(choices):
            where = f"{pos}/output/choices/{index}"
            message = as_object(self._sample.resolve(choice.get("message")))
            if index == 0:
                told = self._tell_reply(message, f"{where}/message", scope.agent, start)
                if not failed:
                    conversation.said(self._register.add(message, told))
            else:  # only the first choice goes into the conversation
                text, media = text_and_media(message.get("content"))
                run.event("other", text, where, actor="other choice", media=media)
        error = as_text(self._sample.resolve(event.get("error")))
        self._tell_error(error, f"{pos}/error", actor=scope.agent, at=start)
        self._say_what_it_saw(event, conversation, requests)

    def _say_what_it_saw(
        self, event: Object, conversation: Conversation, requests: Requests
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
                Requests(self._sample, self._register, self._witness),
            )
        return self._conversations[scope.conversation]

    def _offer_tools(self, tools: Any) -> None:
        """The definitions that this call was offered, where they differ from the latest ones."""
        logged = as_logged(tools)
        if logged == self._tools:
            return
        tools = opened(tools)
        if not is_array(tools):
            return
        self._tools = logged
        self._run.tools(
            (as_text(tool.get("name")), as_text(tool.get("description")), tool.get("parameters"))
            for tool in map(as_object, self._sample.resolve(tools))
        )

    def _tell_compaction(self, conversation: str) -> None:
        """Tell a compaction that brought no summary into the conversation."""
        if conversation in self._compactions:
            pos, event = self._compactions.pop(conversation)
            self._note_compaction(event)
            self._run.event("compaction", None, pos, at=started_at(event))

    def _note_compaction(self, event: Object) -> None:
        facts = {key: value for key, value in event.items() if key not in _OF_ANY_EVENT}
        if event:
            self._note("compactions", {"seq": self._run.seq, **self._sample.resolve(facts)})

    # ------------------------------------------------------------------ messages

    def _locate(self, key: int, seen: Seen, scope: Scope) -> Numbers:
        """The told messages that a message of an input repeats; tells it where it is new."""
        pos, message = self._sample.pool[key]
        message = as_object(message)
        signature = self._register.signature(message)
        found = self._register.find(message, signature, seen)
        return found or (self._tell_message(message, pos, signature, scope),)

    def _tell_message(self, message: Object, pos: str, signature: Signature, scope: Scope) -> int:
        run = self._run
        start, role = run.seq, as_text(message.get("role")) or "unknown"
        clean = as_object(self._sample.resolve(message))
        if role == "assistant":
            self._tell_words_of_no_call(clean, pos, scope)
        elif role == "tool":
            self._tell_result(clean, pos)
        else:
            text, media = text_and_media(clean.get("content"))
            where = f"{pos}/content" if "content" in clean else pos
            if as_object(clean.get("metadata")).get("summary") is True:
                _, event = self._compactions.pop(scope.conversation, ("", {}))
                self._note_compaction(event)
                run.event("compaction", text, where, media=media)
            elif role == "system":
                run.system(text, where, media=media)
            elif role == "user":
                run.user(text, where, media=media)
            else:
                run.event("other", text, where, actor=role, media=media)
        return self._register.add(message, Told(start, run.seq, role, signature))

    def _tell_result(self, message: Object, pos: str) -> None:
        """A tool's response; a later version of one already told is what an edit put in its place."""
        call_id = as_name(message.get("tool_call_id"))
        name = call_id or ""
        text, media = text_and_media(message.get("content"))
        tool = as_text(message.get("function"))
        if self._results[name] >= max(1, self._calls[name]) and call_id is not None:
            self._run.event("other", text, pos, call_id=call_id, media=media)
            return
        ran = self._tool_events.get(name, [])[self._results[name] : self._results[name] + 1]
        self._results[name] += 1
        event = ran[0][1] if ran else {}
        self._write_result(message, event, text, pos, media=media, call_id=call_id, tool=tool)

    def _write_result(
        self, record: Object, event: Object, text: str | None, pos: str, **more: Any
    ) -> None:
        """A tool's response, out of its message or event."""
        text, where, error = response(record, text, pos)
        self._run.result(
            text,
            where,
            by_order=more["call_id"] is None,
            truncated=True if is_array(event.get("truncated")) else None,
            at=started_at(event),
            duration_s=duration_of(event),
            **error,
            **more,
        )

    def _tell_reply(
        self, message: Object, pos: str, actor: str | None, at: datetime | None
    ) -> Told:
        """What the model call just begun put out."""
        run, start = self._run, self._run.seq
        thinking: list[int] = []
        content = message.get("content")
        parts = content if is_array(content) else [{"type": "text", "text": content}]
        for index, part in enumerate(parts):
            where = f"{pos}/content/{index}" if is_array(content) else f"{pos}/content"
            part = {"type": "text", "text": part} if isinstance(part, str) else as_object(part)
            for kind, columns, contents in pieces(part):
                if kind == "thinking":
                    thinking.append(run.thinking(pos=where, actor=actor, at=at, **columns))
                    self._witness.emitted(thinking[-1], *contents)
                elif kind == "server_tool":
                    self._tell_server_tool(part, where, actor, at)
                else:
                    run.event(kind, pos=where, actor=actor, at=at, **columns)
        self._tell_calls(message, pos, actor, at)
        signature = self._register.signature(message)
        return Told(start, run.seq, "assistant", signature, tuple(thinking))

    def _tell_words_of_no_call(self, message: Object, pos: str, scope: Scope) -> None:
        """A reply that no call of the sample put out: an example, or a solver's own words."""
        content = message.get("content")
        for index, part in enumerate(content if is_array(content) else [content]):
            where = f"{pos}/content/{index}" if is_array(content) else f"{pos}/content"
            part = {"type": "text", "text": part} if isinstance(part, str) else as_object(part)
            for kind, columns, _ in pieces(part):
                name = "other" if kind == "server_tool" else kind
                self._run.event(name, pos=where, actor=scope.agent, **columns)
        self._tell_calls(message, pos, scope.agent, None)

    def _tell_calls(
        self, message: Object, pos: str, actor: str | None, at: datetime | None
    ) -> None:
        for index, call in enumerate(as_array(message.get("tool_calls"))):
            call = as_object(call)
            call_id = as_name(call.get("id"))
            ran = self._tool_events.get(call_id or "", [])[self._calls[call_id or ""] :][:1]
            self._calls[call_id or ""] += 1
            self._run.call(
                as_text(call.get("function")),
                call.get("arguments"),
                f"{pos}/tool_calls/{index}",
                call_id=call_id,
                actor=actor,
                at=started_at(ran[0][1]) if ran else at,
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

    # ------------------------------------------------------------------ what no event showed

    def _tell_messages_alone(self) -> None:
        """A log without model events: the conversation as it was at the end, a call per reply."""
        for pos, message in self._sample.messages:
            message = as_object(message)
            if message.get("role") == "assistant" and message.get("source") != "input":
                self._run.step(source_pos=pos)
                self._tell_reply(as_object(self._sample.resolve(message)), pos, None, None)
            else:
                self._tell_message(message, pos, self._register.signature(message), Scope())

    def _tell_rest(self) -> None:
        """Messages of the conversation that stand in no call's input and are no call's output."""
        seen = Seen(self._register)
        shown: Counter[str | None] = Counter()
        waiting: list[tuple[str, Object]] = []
        for pos, message in self._sample.messages:
            message = as_object(message)
            found = self._register.find(message, self._register.signature(message), seen)
            seen.add(found)
            role = message.get("role")
            if waiting and (found or role != waiting[-1][1].get("role")):
                self._tell_unless_merged(waiting, seen)
                waiting = []
            call_id = as_name(message.get("tool_call_id")) if role == "tool" else None
            shown[call_id] += 1
            answered = call_id is not None and shown[call_id] <= self._results[call_id]
            if not found and not answered:  # else told as its call's input had it
                waiting.append((pos, message))
        self._tell_unless_merged(waiting, seen)

    def _tell_unless_merged(self, neighbours: list[tuple[str, Object]], seen: Seen) -> None:
        """Providers that want turns to alternate were sent neighbours as one message."""
        if len(neighbours) > 1 and self._register.knows(
            self._register.signature(merged_message([message for _, message in neighbours]))
        ):
            return
        for pos, message in neighbours:
            told = self._tell_message(message, pos, self._register.signature(message), Scope())
            seen.add((told,))

    def _tell_unseen_results(self) -> None:
        """Results of tools that ran, where no message shows them."""
        for call_id, events in self._tool_events.items():
            for pos, event in [] if self._has_calls else events[self._calls[call_id] :]:
                self._tell_tool_outside_of_calls(event, pos, None)
            for pos, event in events[self._results[call_id] : self._calls[call_id]]:
                clean = as_object(self._sample.resolve(event))
                if not (clean.get("completed") or clean.get("result") or clean.get("error")):
                    continue  # still running when the log ends
                text, media = text_and_media(clean.get("result"))
                self._results[call_id] += 1
                tool = as_text(clean.get("function"))
                self._write_result(clean, clean, text, pos, media=media, call_id=call_id, tool=tool)
