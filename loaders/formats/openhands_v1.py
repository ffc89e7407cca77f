"""OpenHands V1 (software-agent-sdk): ``events.jsonl``, or a conversation folder.

A folder holds ``base_state.json`` and ``events/event-NNNNN-<uuid>.json``: one run. ``kind`` is the
last key of an event, so that a long one hides it from detection, which then looks at the other
keys. Actions that share an ``llm_response_id`` are one model call. ``<think>`` inside ``thought``
repeats ``reasoning_content`` and is told once; ``think`` and ``finish`` are tools, their calls tool
calls. State updates are no events of a run: the last statistics and the last status count.

Tokens of each call come from ``base_state.json``, by response; without it the run has the sums
alone. Counts of reasoning tokens and costs of 0 are defaults of the framework: unknown. The log
records no verdict, so ``finished`` is no success. A condensation names the events that it takes
out of the history: from then on calls have a ``context``; whether thinking was sent back is not
recorded. Tool definitions name the class of their parameters, not the schema.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any

from loaders.builder import Builder
from loaders.dialects.openai_chat import Thought, split_think_tags, text_and_media, thoughts_of
from loaders.errors import UnreadableRecord
from loaders.formats import _openhands_v1_ignored
from loaders.formats._openhands_v1_state import History, State
from loaders.heads import Head
from loaders.run import Run
from loaders.sources import Source
from loaders.values import (
    Object,
    as_array,
    as_bool,
    as_float,
    as_int,
    as_json,
    as_object,
    as_text,
    as_time,
    is_array,
    is_object,
    place_of,
)

TITLE = "OpenHands V1 events"
GIVES = ("thinking", "tools", "tokens")
IGNORED = _openhands_v1_ignored.IGNORED

_BASE_STATE = "base_state.json"
_EVENT_FILE = re.compile(r"event-(\d{5,18})-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\.json")
_KINDS = re.compile(
    r"(?:SystemPrompt|SystemPromptUpdate|Message|Action|Observation|AgentError|ConversationError"
    r"|ConversationStateUpdate|ConversationIterationLimit|Pause|Interrupt|Token|HookExecution"
    r"|CondensationSummary|LLMCompletionLog|ACPToolCall)Event"
    r"|UserRejectObservation|Condensation|CondensationRequest"
)
_OF_ANY_EVENT = ("id", "timestamp", "source")
_KIND_OF_KEY = {  # where the end of an event, and with it its kind, is missing
    "system_prompt": "SystemPromptEvent",
    "llm_message": "MessageEvent",
    "observation": "ObservationEvent",
    "action": "ActionEvent",
    "tool_call": "ActionEvent",
}


def sniff(head: Head) -> bool:
    """A state with its agent's model; events of a known kind, or with keys or the name of one."""
    if head.filename == _BASE_STATE:
        return {"id", "agent"} <= head.keys and "llm" in as_object(head.first["agent"])
    if _EVENT_FILE.fullmatch(head.filename):
        return head.data.lstrip()[:1] == b"{"
    return any(_is_event(record) for record in head.records) or _is_event(head.first)


def _is_event(record: Any) -> bool:
    record = as_object(record)
    if not isinstance(record.get("id"), str) or "source" not in record:
        return False
    return _KINDS.fullmatch(_kind_of(record)) is not None


def _kind_of(event: Object) -> str:
    kind = as_text(event.get("kind"))
    if kind is None and {"key", "value", "timestamp"} <= event.keys():
        return "ConversationStateUpdateEvent"
    guessed = (of for key, of in _KIND_OF_KEY.items() if is_object(event.get(key)))
    return next(guessed, "") if kind is None else kind


def bundle(source: Source) -> str:
    """The conversation's folder; for events in one file, that file if no state lies beside it."""
    folder = PurePosixPath(source.name).parent
    if _EVENT_FILE.fullmatch(source.filename):
        return (folder.parent if folder.name == "events" else folder).as_posix()
    is_part = source.filename == _BASE_STATE or source.beside(_BASE_STATE) is not None
    return folder.as_posix() if is_part else source.name


def read(source: Source, out: Builder) -> None:
    """One run from all parts."""
    logs = sorted((p for p in source.parts if p.filename != _BASE_STATE), key=_place_in_order)
    state_file = next((p for p in source.parts if p.filename == _BASE_STATE), None)
    if not logs:
        source.problem(None, "the state of a conversation without its events", "warning")
        return
    if state_file is None:
        state_file = source.beside(_BASE_STATE) or source.beside(f"../{_BASE_STATE}")
    state: Object = {}
    if state_file is not None:
        with out.record(_BASE_STATE):
            state = as_object(state_file.json())
    run = out.trajectory(pos="", framework="openhands")
    _count_missing(run, logs)
    conversation = _Conversation(run, State(state))
    for log in logs:
        prefix = "" if log is source else f"{_relative(log, source)}#"
        with out.record(prefix):
            for pos, record in log.records():
                with out.record(prefix + pos):
                    conversation.tell(record, prefix + pos)
    conversation.finish()


def _place_in_order(part: Source) -> tuple[int, str]:
    numbered = _EVENT_FILE.fullmatch(part.filename)
    return int(numbered[1]) if numbered else -1, part.name


def _count_missing(run: Run, logs: list[Source]) -> None:
    numbers = {_place_in_order(log)[0] for log in logs} - {-1}
    missing = max(numbers, default=-1) + 1 - len(numbers)
    if missing:
        run.problem(None, f"{missing} of {max(numbers) + 1} numbered events are missing")


def _relative(part: Source, source: Source) -> str:
    return posixpath.relpath(part.name, posixpath.dirname(source.name))


class _Conversation:
    """Tells a run event by event and keeps what later events refer to."""

    def __init__(self, run: Run, state: State) -> None:
        self.run = run
        self.state = state
        self.responses: list[tuple[int, str | None, datetime | None]] = []  # by step
        self.said: dict[str, set[str]] = {}  # thinking already told, by response
        self.calls: dict[str, int] = {}  # seq of the call, by the action's id
        self.history = History()
        self.times: list[datetime] = []
        self.last_stop: tuple[str, str] | None = None
        self.critic: float | None = None
        self.facts: dict[str, Any] = {}  # what events say of the whole run

    def tell(self, event: Any, pos: str) -> None:
        kind = _kind_of(as_object(event))
        if not kind:
            raise UnreadableRecord("no event: it has no kind, and no key that tells it", pos)
        at, start = as_time(event.get("timestamp")), self.run.seq
        if at is not None:
            self.times.append(at)
        self._tell_kind(kind, event, pos, at)
        identity = as_text(event.get("id"))
        if identity is not None:
            self.history.add(identity, start, self.run.seq)

    def _tell_kind(self, kind: str, event: Object, pos: str, at: datetime | None) -> None:
        run = self.run
        if kind in ("SystemPromptEvent", "SystemPromptUpdateEvent"):
            self._tell_system(event, pos, at)
        elif kind == "MessageEvent":
            self._tell_message(event, pos, at)
        elif kind == "ActionEvent":
            self._tell_action(event, pos, at)
        elif kind == "ObservationEvent":
            self._tell_observation(event, pos, at)
        elif kind == "AgentErrorEvent":
            classification = as_object(event.get("classification"))
            if classification:
                self.facts.setdefault("errors", {})[str(run.seq)] = classification
            self._tell_result(
                event,
                as_text(event.get("error")),
                place_of(event, "error", pos),
                at,
                actor="harness",
                is_error=True,
                error_type=as_text(classification.get("cause")) or kind,
            )
        elif kind == "UserRejectObservation":
            reason, actor = event.get("rejection_reason"), event.get("rejection_source", "user")
            place = place_of(event, "rejection_reason", pos)
            self._tell_result(
                event, as_text(reason), place, at, actor=as_text(actor), error_type="rejected"
            )
        elif kind == "Condensation":
            self._tell_condensation(event, pos, at)
        elif kind == "CondensationSummaryEvent":
            place = place_of(event, "summary", pos)
            run.event("compaction", as_text(event.get("summary")), place, at=at)
        elif kind == "ConversationStateUpdateEvent":
            self.state.update(as_text(event.get("key")), event.get("value"))
        elif kind == "ConversationErrorEvent":
            code, detail = as_text(event.get("code")), as_text(event.get("detail"))
            place = place_of(event, "detail", pos)
            run.event("error", detail, place, actor="harness", error_type=code, at=at)
            self.last_stop = ("limit" if code == "MaxIterationsReached" else "error", code or kind)
        elif kind == "ConversationIterationLimitEvent":
            run.event("error", as_text(event.get("detail")), pos, actor="harness", at=at)
            self.last_stop = ("limit", kind)
            self.facts["max_iterations"] = event.get("max_iterations")
        elif kind == "ACPToolCallEvent":
            self._tell_foreign_call(event, pos, at)
        else:  # pauses, interruptions, hooks, tokens, and whatever later versions add
            said = {key: value for key, value in event.items() if key not in _OF_ANY_EVENT}
            text = as_json(said) if said.keys() - {"kind"} else kind
            run.event("other", text, pos, actor=as_text(event.get("source")), at=at)

    # ------------------------------------------------------------------ prompts and messages

    def _tell_system(self, event: Object, pos: str, at: datetime | None) -> None:
        if is_array(event.get("tools")):
            self.run.tools(_definition(tool) for tool in map(as_object, event["tools"]))
        for key in ("system_prompt", "dynamic_context"):
            text, _ = text_and_media(event.get(key))
            if text:
                self.run.system(text, f"{pos}/{key}", at=at)

    def _tell_message(self, event: Object, pos: str, at: datetime | None) -> None:
        message, place = as_object(event.get("llm_message")), place_of(event, "llm_message", pos)
        source = as_text(event.get("source"))
        if source == "agent" or message.get("role") == "assistant":
            self._begin_call(event, pos, at)
            self._tell_reply(event, message, "content", place, at)
        else:
            text, media = text_and_media(message.get("content"))
            actor = as_text(event.get("sender")) or (None if source == "user" else source)
            place = place_of(message, "content", place)
            self.run.user(text, place, actor=actor, media=media, at=at)
        self._tell_additions(event, pos, at)

    def _tell_additions(self, event: Object, pos: str, at: datetime | None) -> None:
        """What the framework appends to a message or a result before the model sees it."""
        text, _ = text_and_media(event.get("extended_content"))
        if text:
            self.run.user(text, f"{pos}/extended_content", actor="harness", at=at)

    # ------------------------------------------------------------------ model calls

    def _begin_call(self, event: Object, pos: str, at: datetime | None) -> None:
        """A model call begins, unless it has told an action before."""
        response = as_text(event.get("llm_response_id"))
        if response and response in self.said:
            return
        self.said[response or ""] = set()
        self._begin_step(response, pos, at)

    def _begin_step(self, response: str | None, pos: str, at: datetime | None) -> None:
        number = self.run.step(source_pos=pos)
        self.responses.append((number, response, at))
        context, edit = self.history.before_call(self.run.seq)
        if edit is not None or context is not None:
            self.run.saw(context, None, "unknown", history_edit=edit)

    def _tell_reply(
        self, event: Object, holder: Object, key: str, pos: str, at: datetime | None
    ) -> None:
        """Tell thinking and text of a call; ``key`` names the text inside ``holder``."""
        said = self.said[as_text(event.get("llm_response_id")) or ""]
        for text, state, signature, pointer in (*_reasoning_item(holder), *thoughts_of(holder)):
            if _is_new(text or signature, said):
                self.run.thinking(text, pos + pointer, state=state, signature=signature, at=at)
        place = f"{pos}/{key}"
        text, media = text_and_media(holder.get(key))
        for is_thinking, piece in split_think_tags(text or ""):
            if not is_thinking:
                self.run.message(piece, place, media=media, at=at)
                media = None
            elif _is_new(piece, said):
                self.run.thinking(piece, place, state="tagged_in_text", at=at)
        if media:
            self.run.message(None, place, media=media, at=at)
        if is_object(event.get("critic_result")):
            self.facts["critic"] = event["critic_result"]
        score = as_float(as_object(event.get("critic_result")).get("score"))
        self.critic = self.critic if score is None else score

    def _tell_action(self, event: Object, pos: str, at: datetime | None) -> None:
        self._begin_call(event, pos, at)
        self._tell_reply(event, event, "thought", pos, at)
        call, action = as_object(event.get("tool_call")), as_object(event.get("action"))
        if (origin := as_text(call.get("origin"))) is not None:
            self.facts.setdefault("apis", {})[origin] = True
        arguments = call.get("arguments")
        if arguments is None and action:
            arguments = {name: value for name, value in action.items() if name != "kind"}
        seq = self.run.call(
            as_text(event.get("tool_name")) or as_text(call.get("name")),
            arguments,
            pos,
            call_id=as_text(event.get("tool_call_id")) or as_text(call.get("id")),
            at=at,
        )
        if (risk := as_text(event.get("security_risk"))) is not None:
            self.facts.setdefault("security_risks", {})[str(seq)] = risk
        identity = as_text(event.get("id"))
        if identity is not None:
            self.calls[identity] = seq

    # ------------------------------------------------------------------ results

    def _tell_observation(self, event: Object, pos: str, at: datetime | None) -> None:
        observation = as_object(event.get("observation"))
        error = observation.get("error")  # text or a flag, in the first versions
        is_error = as_bool(observation.get("is_error"))
        if is_error is None and "error" in observation:
            is_error = error if isinstance(error, bool) else error is not None
        key = next((k for k in ("content", "output", "error") if observation.get(k)), None)
        text, media = text_and_media(observation.get(key)) if key else (None, None)
        if key is None and "content" not in observation:
            text = as_json({name: part for name, part in observation.items() if name != "kind"})
        facts = as_object(observation.get("metadata"))
        exit_code = as_int(observation.get("exit_code"))
        if exit_code is None:
            exit_code = as_int(facts.get("exit_code"))
            exit_code = None if exit_code == -1 else exit_code  # -1 stands for unknown there
        self.facts.setdefault("cwd", as_text(facts.get("working_dir")))
        place = place_of(event, "observation", pos)
        before, after = (as_text(facts.get(name)) or "" for name in ("prefix", "suffix"))
        if key == "output" and isinstance(error, str) and error:
            after = f"{after}\n{error}"
        if text is not None and (before or after):
            text = f"{before}{text}{after}"
        elif key:
            place = f"{place}/{key}"
        self._tell_result(
            event,
            text,
            place,
            at,
            is_error=is_error,
            error_type="timeout" if observation.get("timeout") is True else None,
            exit_code=exit_code,
            media=media,
        )
        self._tell_additions(event, pos, at)

    def _tell_result(
        self, event: Object, text: str | None, pos: str, at: datetime | None, **more: Any
    ) -> None:
        self.run.result(
            text,
            pos,
            call_id=as_text(event.get("tool_call_id")),
            tool=as_text(event.get("tool_name")),
            answers=self.calls.get(as_text(event.get("action_id")) or ""),
            at=at,
            **more,
        )

    def _tell_foreign_call(self, event: Object, pos: str, at: datetime | None) -> None:
        """A call of an agent behind the Agent Client Protocol, told again as it proceeds."""
        call_id = as_text(event.get("tool_call_id")) or pos
        if call_id not in self.calls:
            name, given = as_text(event.get("title")), event.get("raw_input")
            self.calls[call_id] = self.run.call(name, given, pos, call_id=call_id, at=at)
        if event.get("status") in ("completed", "failed"):
            self.run.result(
                as_json(event.get("raw_output")),
                place_of(event, "raw_output", pos),
                call_id=call_id,
                is_error=as_bool(event.get("is_error")),
                at=at,
            )

    # ------------------------------------------------------------------ history and state

    def _tell_condensation(self, event: Object, pos: str, at: datetime | None) -> None:
        response = as_text(event.get("llm_response_id"))
        if response:  # a model call of its own, whose request is not recorded
            number = self.run.step(
                source_pos=pos, agent="condenser", thinking="not_logged", toolset=None
            )
            self.responses.append((number, response, at))
        place = place_of(event, "summary", pos)
        seq = self.run.event("compaction", as_text(event.get("summary")), place, at=at)
        names = map(as_text, as_array(event.get("forgotten_event_ids")))
        self.history.condense(seq, filter(None, names))

    def finish(self) -> None:
        """Set what is known of the whole run."""
        run = self.run
        self.state.describe(run, self.facts)
        for number, response, at in self.responses:
            run.update_step(number, **self.state.step_columns(response, at))
        run.set(started_at=min(self.times, default=None), ended_at=max(self.times, default=None))
        outcome, reason = self.state.end(self.last_stop)
        critic = [] if self.critic is None else [("critic", self.critic, str(self.critic))]
        run.outcome(outcome, end_reason=reason, scores=critic)


# ---------------------------------------------------------------------- values inside events


def _definition(tool: Object) -> tuple[str | None, str | None, Any]:
    function = as_object(tool.get("function"))  # the first versions keep what the model is sent
    served = as_object(tool.get("mcp_tool"))
    annotated = as_object(tool.get("annotations")).get("title")
    names = (
        tool.get("title"),
        tool.get("name"),
        function.get("name"),
        served.get("name"),
        annotated,
    )
    parameters = function.get("parameters", served.get("inputSchema"))
    if parameters is None and as_text(tool.get("action_type")):
        parameters = {"action_type": tool["action_type"]}
    description = as_text(tool.get("description")) or as_text(function.get("description"))
    return next(filter(None, map(as_text, names)), None), description, parameters


def _reasoning_item(holder: Object) -> Iterator[Thought]:
    """The reasoning item of OpenAI's Responses API: open text, a summary, or encrypted alone."""
    item, pointer = as_object(holder.get("responses_reasoning_item")), "/responses_reasoning_item"
    encrypted = as_text(item.get("encrypted_content"))
    for key, state in (("content", "text"), ("summary", "summary")):
        text, _ = text_and_media(item.get(key))
        if text:
            yield Thought(text, state, encrypted, f"{pointer}/{key}")
            return
    if encrypted:
        yield Thought(None, "hidden", encrypted, f"{pointer}/encrypted_content")


def _is_new(text: str | None, said: set[str]) -> bool:
    squeezed = "".join((text or "").split())
    is_new = squeezed not in said
    said.add(squeezed)
    return is_new
