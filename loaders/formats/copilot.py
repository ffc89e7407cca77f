"""GitHub Copilot CLI sessions: ``events.jsonl``, one event with ``type`` and ``data`` on each line.

Each ``assistant.message`` is a model call; pieces of one share an ``apiCallId``. Its thinking stands in
it, or in an ``assistant.reasoning`` before or behind it, or in both and is told once. Of OpenAI's
models it is a summary, of others the text; encrypted thinking alone is hidden. A tool call stands in
the message and in ``tool.execution_start``, in any order: the message counts, the start tells calls
that no message asked for.

A subagent's events stand among the others, with its ``agentId`` or the ``parentToolCallId``: they are a
run of their own. A user's turn as it was sent (``transformedContent``) is told behind the turn where the
two differ. Going back takes events out of the history, truncation and compaction too: from then on
calls have a ``history_edit``, and a ``context`` where the log says what was left. Calls log output
tokens alone; a session's other sums come with its end, over all its models and agents.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from loaders.builder import Builder
from loaders.context import Range, merge
from loaders.errors import UnreadableRecord
from loaders.formats._copilot_agents import Agents, model_of, sums_of
from loaders.formats._copilot_thoughts import Thoughts
from loaders.heads import Head
from loaders.run import Run
from loaders.sources import Source
from loaders.values import (
    Object,
    as_array,
    as_bool,
    as_int,
    as_json,
    as_object,
    as_text,
    as_time,
    is_object,
)

TITLE = "GitHub Copilot CLI session"
GIVES = ("thinking", "tokens")
IGNORED = {
    "/id": "names an event for others that refer to it; events stand in their order",
    "/parentId": "the event before, which stands before",
    "/data/interactionId": "turns stand in their order",
    "/data/turnId": "turns stand in their order",
    "/data/messageId": "the reply's name, which nothing refers to",
    "/data/apiCallId": "tells which messages are one call, which are one step",
    "/data/clientRequestId": "the provider's number of a request",
    "/data/requestId": "the provider's number of a request",
    "/data/serviceRequestId": "the provider's number of a request",
    "/data/providerCallId": "the provider's number of a request",
    "/data/chunkIndex": "pieces of a message stand in their order",
    "/data/chunkCount": "pieces of a message stand in their order",
    "/data/rte": "a switch inside the client, which changes nothing in the log",
    "/data/toolRequests/*/type": "every request is a call of a function",
    "/data/toolRequests/*/intentionSummary": "a line for the interface; the arguments are told",
    "/data/toolRequests/*/toolTitle": "a line for the interface; the name of the tool is told",
    "type=user.message /data/attachments/**": (
        "what they gave the model stands in the turn as it was sent; their types are kept"
    ),
    "type=user.message /data/delivery": "how the turn reached the client",
    "type=user.message /data/supportedNativeDocumentMimeTypes/**": "what the client can attach",
    "type=tool.execution_start /data/**": "repeats the call of the message, which is told",
    "type=tool.execution_start /timestamp": "begins the duration of the result",
    "type=tool.execution_complete /data/model": "the model that made the call, known from its step",
    "type=tool.execution_complete /data/toolTelemetry/**": "measures of the client itself",
    "type=tool.execution_complete /data/result/detailedContent": (
        "what the interface showed; the model was given the other text"
    ),
    "type=assistant.turn_start /**": "marks that stand around replies, which are told",
    "type=assistant.turn_end /**": "marks that stand around replies, which are told",
    "type=session.error /data/stack": "where in the client's code it failed",
    "type=session.start /timestamp": "the session's own time of its start is kept",
    "type=session.start /data/alreadyInUse": "whether another client had the session open",
    "type=session.start /data/remoteSteerable": "whether another client may take part",
    "type=session.start /data/producer": "the client's name, always the same",
}

_PREFIXES = ("session.", "assistant.", "user.", "tool.", "system.", "subagent.", "hook.", "abort")
_MOST_RANGES = 64  # a history in more pieces than that is not told
_MARKS = ("assistant.turn_start", "assistant.turn_end")
_PLACE = ("cwd", "gitRoot", "repository", "branch", "headCommit", "baseCommit", "hostType")
_SETTINGS = ("reasoningEffort", "reasoningSummary", "contextTier", "verbosity")


def sniff(head: Head) -> bool:
    """An event with its data, its time and the event before it."""
    return _is_event(head.first) or any(map(_is_event, head.records))


def _is_event(record: Any) -> bool:
    record = as_object(record)
    kind = as_text(record.get("type")) or ""
    has_all = {"data", "id", "timestamp", "parentId"} <= record.keys()
    return has_all and is_object(record["data"]) and kind.startswith(_PREFIXES)


def read(source: Source, out: Builder) -> None:
    """One run per session, then one for each of its subagents."""
    sessions: list[_Session] = []
    for pos, record in source.records():
        with out.record(pos):
            if not is_object(record) or not is_object(record.get("data")):
                raise UnreadableRecord("no event of a session", pos)
            if not sessions or (record.get("type") == "session.start" and sessions[-1].has_started):
                if sessions:
                    sessions[-1].finish(out)
                sessions.append(_Session(_begin(out, pos)))
            sessions[-1].tell(record, pos)
    if sessions:
        sessions[-1].finish(out)


def _begin(out: Builder, pos: str, **columns: Any) -> Run:
    return out.trajectory(pos=pos, framework="copilot-cli", **columns)


class _Session:
    """Tells the events of a session, or of one subagent in it, as they come."""

    def __init__(self, run: Run, agents: Agents | None = None, model: str | None = None) -> None:
        self.run = run
        self.has_started = False
        self._agents = agents
        self._own_agents = Agents()
        self._model = model
        self._api_call: str | None = None
        self.calls: dict[str, int] = {}
        self._starts: dict[str, tuple[Object, str, datetime | None]] = {}
        self._thoughts = Thoughts(run)
        self._start_of: dict[str, int] = {}
        self._kept: list[Range] | None = []
        self._kept_until = 0
        self._edit: str | None = None
        self._ends: list[Object] = []
        self._end: tuple[str | None, str | None] = (None, None)
        self._metadata: dict[str, Any] = {}

    def tell(self, event: Object, pos: str) -> None:
        """One event, told now or, if it is a subagent's, with its run."""
        if self._agents is None and self._own_agents.take(event, pos):
            return
        kind, at = as_text(event.get("type")) or "", as_time(event.get("timestamp"))
        data, place = as_object(event.get("data")), f"{pos}/data"
        self._start_of[as_text(event.get("id")) or ""] = self.run.seq
        if kind == "assistant.reasoning":
            self._thoughts.take(data, place, at)
            return
        if kind == "assistant.message":
            self._tell_reply(data, place, at)
            return
        if kind not in _MARKS:
            self._thoughts.flush(self._model)
        if kind.startswith("tool.execution_"):
            self._tell_execution(kind, data, place, at)
        elif kind in ("session.compaction_complete", "session.snapshot_rewind"):
            self._tell_history(kind, data, place, at)
        elif kind.startswith(("session.", "subagent.", "abort")):
            self._tell_of_session(kind, data, place, at)
        elif kind == "assistant.usage":
            self._tell_usage(data)
        else:
            self._tell_turn(kind, data, place, at)

    # ------------------------------------------------------------------ turns

    def _tell_turn(self, kind: str, data: Object, pos: str, at: datetime | None) -> None:
        text, place = as_text(data.get("content")), f"{pos}/content"
        if kind == "user.message":
            source = as_text(data.get("source"))
            attached = [as_object(item) for item in as_array(data.get("attachments"))]
            media = [as_text(item.get("type")) or "unknown" for item in attached] or None
            if source in (None, "user"):
                self.run.user(text, place, media=media, at=at)
            else:
                self.run.event("user", text, place, actor=source, media=media, at=at)
            sent = as_text(data.get("transformedContent"))
            if sent is not None and sent != text:
                self.run.event("user", sent, f"{pos}/transformedContent", actor="harness", at=at)
        elif kind == "system.message":
            self.run.system(text, place, actor=as_text(data.get("role")), at=at)
        elif kind == "system.notification":
            self.run.event("user", text, place, actor="harness", at=at)
            self._tell_other("notification", as_object(data.get("kind")), f"{pos}/kind", at)
        elif kind == "skill.invoked":
            self.run.event("user", text, place, actor="skill", at=at)
            rest = {k: v for k, v in data.items() if k != "content"}
            self._tell_other(kind, rest, pos, at)
        elif kind == "model.call_failure":
            self._tell_error(data, "errorMessage", pos, at)
        elif kind in _MARKS:
            self._model = as_text(data.get("model")) or self._model
        else:
            self._tell_other(kind, data, pos, at)

    def _tell_other(self, kind: str, data: Object, pos: str, at: datetime | None) -> None:
        self.run.event("other", as_json(data or None), pos, actor=kind, at=at)

    def _tell_error(self, data: Object, key: str, pos: str, at: datetime | None) -> None:
        code = as_int(data.get("statusCode"))
        words = (as_text(data.get("errorType")), str(code) if code is not None else None)
        kind = " ".join(word for word in words if word) or None
        self.run.event("error", as_text(data.get(key)), f"{pos}/{key}", error_type=kind, at=at)

    # ------------------------------------------------------------------ replies

    def _tell_reply(self, data: Object, pos: str, at: datetime | None) -> None:
        call = as_text(data.get("apiCallId"))
        model = as_text(data.get("model")) or self._model
        if call is None or call != self._api_call:
            self.run.step(source_pos=pos, model=model, ended_at=at)
            self._tell_context()
        columns: dict[str, Any] = {
            "ended_at": at,
            "output_tokens": as_int(data.get("outputTokens")),
        }
        self.run.update_step(**{k: v for k, v in columns.items() if v is not None})
        self._api_call = call
        self._thoughts.tell(data, model, pos, at)
        text = as_text(data.get("content"))
        if text:
            self.run.message(text, f"{pos}/content", at=at)
        for index, request in enumerate(map(as_object, as_array(data.get("toolRequests")))):
            name, place = as_text(request.get("toolCallId")), f"{pos}/toolRequests/{index}"
            tool, arguments = as_text(request.get("name")), request.get("arguments")
            self.calls[name or ""] = self.run.call(tool, arguments, place, call_id=name, at=at)

    def _tell_context(self) -> None:
        if self._edit is not None:
            kept = self._kept
            ranges = None if kept is None else merge([*kept, (self._kept_until, self.run.seq)])
            self.run.saw(ranges, None, "unknown", history_edit=self._edit)

    def _tell_usage(self, data: Object) -> None:
        if self.run.steps:
            columns: dict[str, Any] = {
                "model": as_text(data.get("model")),
                "stop_reason": as_text(data.get("finishReason")),
                "input_tokens": as_int(data.get("inputTokens")),
                "output_tokens": as_int(data.get("outputTokens")),
                "cached_tokens": as_int(data.get("cacheReadTokens")),
                "reasoning_tokens": as_int(data.get("reasoningTokens")),
            }
            self.run.update_step(**{k: v for k, v in columns.items() if v is not None})

    # ------------------------------------------------------------------ tools

    def _tell_execution(self, kind: str, data: Object, pos: str, at: datetime | None) -> None:
        name = as_text(data.get("toolCallId")) or ""
        if kind.endswith("_start"):
            self._starts[name] = data, pos, at
        elif kind.endswith("_complete"):
            started = self._starts.pop(name, None)
            if started is not None and name not in self.calls:
                self._tell_started(name, *started)
            self._tell_result(name, data, pos, at, started[2] if started else None)
        else:
            self._tell_other(kind, data, pos, at)

    def _tell_started(self, name: str, data: Object, pos: str, at: datetime | None) -> None:
        """A call that no message asked for."""
        tool, arguments = as_text(data.get("toolName")), data.get("arguments")
        self.calls[name] = self.run.call(tool, arguments, pos, call_id=name, at=at)

    def _tell_result(
        self, name: str, data: Object, pos: str, at: datetime | None, start: datetime | None
    ) -> None:
        result, error = as_object(data.get("result")), as_object(data.get("error"))
        success = as_bool(data.get("success"))
        text, place = as_text(result.get("content")), f"{pos}/result/content"
        if text is None and error:
            text, place = as_text(error.get("message")), f"{pos}/error/message"
        lasted = (at - start).total_seconds() if at and start else None
        binaries = [as_object(b) for b in as_array(result.get("binaryResultsForLlm"))]
        self.run.result(
            text,
            place if text is not None else pos,
            call_id=name or None,
            is_error=None if success is None else not success,
            error_type=as_text(error.get("code")),
            duration_s=lasted if lasted is not None and lasted >= 0 else None,
            media=[as_text(b.get("mimeType")) or "unknown" for b in binaries] or None,
            at=at,
        )

    # ------------------------------------------------------------------ the session

    def _tell_of_session(self, kind: str, data: Object, pos: str, at: datetime | None) -> None:
        if kind == "session.start":
            self._start(data)
            return
        if kind == "session.error":
            self._tell_error(data, "message", pos, at)
            return
        if kind == "subagent.failed":
            error = as_text(data.get("error"))
            self.run.event("error", error, f"{pos}/error", actor="harness", at=at)
            self._end = "error", error
        elif kind == "subagent.completed":
            cancelled = data.get("cancelled") is True
            self._end = ("cancelled", "cancelled") if cancelled else (None, "completed")
        elif kind == "session.model_change":
            self._model = as_text(data.get("newModel"))
        elif kind == "session.truncation":
            self._cut(None, "truncated")
        elif kind == "session.context_cleared":
            self._cut([], "truncated")
        elif kind == "session.shutdown":
            self._ends.append(data)
            failed = data.get("shutdownType") == "error"
            self._end = "error" if failed else self._end[0], as_text(data.get("shutdownType"))
        elif kind == "abort":
            self._end = "cancelled", as_text(data.get("reason"))
        elif kind == "session.resume":
            self._end = None, None
        self._tell_other(kind, data, pos, at)

    def _start(self, data: Object) -> None:
        self.has_started = True
        place = as_object(data.get("context"))
        self._model = as_text(data.get("selectedModel")) or self._model
        version = as_int(data.get("version"))
        self.run.set(
            native_id=as_text(data.get("sessionId")),
            format_version=None if version is None else str(version),
            framework_version=as_text(data.get("copilotVersion")),
            started_at=as_time(data.get("startTime")),
            params={k: data[k] for k in _SETTINGS if as_text(data.get(k)) is not None} or None,
        )
        self.run.environment(cwd=as_text(place.get("cwd")))
        self._metadata.update({k: v for k, v in place.items() if v is not None})
        if parent := as_text(data.get("detachedFromSpawningParentSessionId")):
            self._metadata["parent_session"] = parent

    def _tell_history(self, kind: str, data: Object, pos: str, at: datetime | None) -> None:
        if kind == "session.snapshot_rewind":
            start = self._start_of.get(as_text(data.get("upToEventId")) or "")
            self._cut(None if start is None else self._before(start), "truncated")
            self._tell_other(kind, data, pos, at)
            return
        used = as_object(data.get("compactionTokensUsed"))
        counts = {name: as_int(used.get(name)) for name in ("inputTokens", "outputTokens")}
        if any(count is not None for count in counts.values()):
            self.run.step(
                source_pos=pos,
                model=as_text(used.get("model")) or self._model,
                ended_at=at,
                input_tokens=counts["inputTokens"],
                output_tokens=counts["outputTokens"],
                cached_tokens=as_int(used.get("cacheReadTokens")),
                error=as_text(data.get("error")),
            )
        if data.get("success") is not False:
            summary = as_text(data.get("summaryContent"))
            self.run.event("compaction", summary, f"{pos}/summaryContent", actor="harness", at=at)
            self._cut(None, "compacted")
        rest = {
            k: v for k, v in data.items() if k not in ("summaryContent", "compactionTokensUsed")
        }
        self._tell_other(kind, rest, pos, at)

    def _before(self, seq: int) -> list[Range] | None:
        if self._kept is None:
            return None
        held = merge([*self._kept, (self._kept_until, self.run.seq)])
        if len(held) > _MOST_RANGES:
            return None
        return [(start, min(stop, seq)) for start, stop in held if start < seq]

    def _cut(self, kept: list[Range] | None, edit: str) -> None:
        self._kept, self._kept_until, self._edit = kept, self.run.seq, edit

    # ------------------------------------------------------------------ the end

    def conclude(self) -> None:
        """What is left to tell, and how the session ended."""
        self._thoughts.flush(self._model)
        for name, started in self._starts.items():
            if name not in self.calls:
                self._tell_started(name, *started)
        if len(self._ends) == 1 and not self._own_agents.events:
            sums: dict[str, Any] = {**sums_of(self._ends[0])}
            self.run.set(**sums)
        self.run.outcome(self._end[0], end_reason=self._end[1])
        self.run.set(metadata=self._metadata)

    def finish(self, out: Builder) -> None:
        """The end of the session, then its subagents."""
        self.conclude()
        agents = self._own_agents
        owners = {call: (self.run, seq) for call, seq in self.calls.items()}
        for name, events in agents.events.items():
            parent, seq = owners.get(agents.calls.get(name, ""), (self.run, None))
            run = _begin(
                out,
                events[0][0],
                native_id=name,
                framework_version=self.run.columns["framework_version"],
                parent_id=parent.columns["trajectory_id"],
                parent_seq=seq,
            )
            agent = _Session(run, agents, model_of(events))
            for pos, event in events:
                with out.record(pos):
                    agent.tell(event, pos)
            agent.conclude()
            owners.update((call, (run, seq)) for call, seq in agent.calls.items())
