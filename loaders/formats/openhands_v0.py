"""OpenHands V0: rows of ``output.jsonl``, exported lists of events, and session folders.

A row has an ``instance_id`` and its ``history``; a session is a folder ``events/<n>.json`` with a
``metadata.json``. Events are actions and observations; an observation names its action as ``cause``.
Both repeat the whole response of the model: it is told with the action, and actions with the same
response are one call. Ids like ``toolu_01`` restart in each run. ``thought`` is visible text, as it
stands in the response; ``think`` and ``finish`` are tools.

The result of a command is what the model saw of it, with the notes that stand around its output.
State changes are metadata. Tokens come from the response, else from the row's metrics. An exit code of -1 stands for unknown, a
cost of 0 for a model without a price. What a condensation left of the history is not told; requests
are not recorded, except in the logs that ``openhands_completions`` reads.
"""

from __future__ import annotations

import posixpath
import re
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any

from loaders.builder import Builder
from loaders.dialects.openai_chat import tool_definitions, usage_columns, write_reply_parts
from loaders.errors import UnreadableRecord
from loaders.formats import _openhands_v0_ignored
from loaders.formats._openhands_v0_parts import (
    arguments_in,
    by_response,
    earlier,
    error_type_of,
    exit_code_in,
    other_than_user,
    recalled,
    without_texts,
)
from loaders.heads import Head
from loaders.rows import metadata_of
from loaders.run import Run
from loaders.sources import Source
from loaders.values import (
    Object,
    as_array,
    as_bool,
    as_float,
    as_int,
    as_name,
    as_object,
    as_text,
    as_time,
    is_array,
    is_object,
)

TITLE = "OpenHands V0 events"
GIVES = ("thinking", "tools", "tokens", "outcome")
IGNORED = _openhands_v0_ignored.IGNORED

_EVENT_FILE = re.compile(r"(\d{1,18})\.json")
_STATE_FILE = "metadata.json"
_LIMIT = re.compile(r"maximum (?:iteration|budget)|max_iterations|StuckInLoop", re.IGNORECASE)
_PARAMS = (
    *("temperature", "top_p", "top_k", "seed", "max_input_tokens", "max_output_tokens"),
    *("reasoning_effort", "native_tool_calling", "caching_prompt", "modify_params"),
)
_TOLD_OF_A_ROW = (
    *("instance_id", "history", "error", "resolved", "metadata", "instance", "metrics"),
    *("test_result", "instruction"),
)
_TOLD_OF_INSTANCE = ("instance_id", "repo", "base_commit", "version")
_TOLD_OF_METRICS = (
    *("accumulated_cost", "accumulated_token_usage", "token_usages", "response_latencies"),
)
_TOLD_OF_SESSION = ("conversation_id", "llm_model", "accumulated_cost", "created_at")
_STATES = ("change_agent_state", "pause", "resume", "stop")
_NO_TURNS = (*_STATES, "recall", "null")
_NO_ARGUMENTS = ("thought", "confirmation_state", "security_risk", "hidden")


def sniff(head: Head) -> bool:
    """A row with an instance, an event with its source, or what is known of a session."""
    first = head.first
    if {"conversation_id", "trigger"} <= head.keys and head.filename == _STATE_FILE:
        return True
    if "instance_id" in first and head.keys & {"history", "test_result"}:
        return not head.keys & {"messages", "trajectory"}
    events = as_array(first.get("trajectory"))
    return _is_event(first) or bool(events and _is_event(events[0]))


def _is_event(record: Any) -> bool:
    record = as_object(record)
    if "timestamp" not in record or as_text(record.get("source")) is None:
        return False
    is_action = isinstance(record.get("action"), str) and is_object(record.get("args"))
    is_observation = isinstance(record.get("observation"), str) and "content" in record
    return is_action or is_observation


def bundle(source: Source) -> str:
    """The session's folder; a file of another kind stands for itself."""
    folder = PurePosixPath(source.name).parent
    if folder.name == "events" and _EVENT_FILE.fullmatch(source.filename):
        return folder.parent.as_posix()
    return folder.as_posix() if source.filename == _STATE_FILE else source.name


def read(source: Source, out: Builder) -> None:
    """One run per row, per list of events, and per session."""
    if any(part.filename == _STATE_FILE for part in source.parts) or len(source.parts) > 1:
        _read_session(source, out)
        return
    history: _History | None = None
    for pos, record in source.records():
        with out.record(pos):
            record = as_object(record)
            if "instance_id" in record or is_array(record.get("history")):
                history = None
                _read_row(record, pos, out)
            elif is_array(record.get("trajectory")):
                _read_list(record["trajectory"], f"{pos}/trajectory", _begin(out, pos), out)
            else:
                if history is None:
                    history = _begin(out, "")
                history.tell(record, pos)
    if history is not None:
        history.conclude()


def _begin(out: Builder, pos: str, metrics: Object | None = None, **columns: Any) -> _History:
    return _History(out.trajectory(pos=pos, framework="openhands", **columns), metrics or {})


def _read_list(events: list[Any], pos: str, history: _History, out: Builder) -> None:
    """Tell events; the first versions kept pairs of action and observation."""
    for index, event in enumerate(events):
        place = f"{pos}/{index}"
        pair = enumerate(event) if is_array(event) else [(None, event)]
        for number, one in pair:
            here = place if number is None else f"{place}/{number}"
            with out.record(here):
                history.tell(one, here)
    history.conclude()


# ---------------------------------------------------------------------- rows and sessions


def _read_row(row: Object, pos: str, out: Builder) -> None:
    metadata, instance = as_object(row.get("metadata")), as_object(row.get("instance"))
    llm, metrics = as_object(metadata.get("llm_config")), as_object(row.get("metrics"))
    result = as_object(row.get("test_result"))
    name = as_name(row.get("instance_id"))
    history = _begin(
        out,
        pos,
        metrics,
        native_id=name,
        task_id=name,
        benchmark=as_text(metadata.get("dataset")),
        model=as_text(llm.get("model")),
        cost_usd=as_float(metrics.get("accumulated_cost")) or None,
        params={key: llm[key] for key in _PARAMS if llm.get(key) is not None},
        metadata={
            **metadata_of(row, _TOLD_OF_A_ROW),
            **metadata_of(metadata, ("llm_config", "dataset")),
            **metadata_of(result, ("git_patch",)),
            "llm_config": metadata_of(llm, ("model", "api_key", *_PARAMS)),
            "instance": metadata_of(instance, _TOLD_OF_INSTANCE),
            "metrics": metadata_of(metrics, _TOLD_OF_METRICS),
            "usage": metrics.get("accumulated_token_usage"),
            "patch": as_text(result.get("git_patch")),
        },
    )
    history.run.environment(
        repo=as_text(instance.get("repo")),
        base_commit=as_text(instance.get("base_commit")),
        version=as_name(instance.get("version")),
    )
    _read_list(as_array(row.get("history")), f"{pos}/history", history, out)
    error = as_text(row.get("error"))
    report = as_object(result.get("report")) or as_object(row.get("report"))
    success = as_bool(report.get("resolved", row.get("resolved")))
    limit = "limit" if error and _LIMIT.search(error) else "error" if error else None
    history.run.outcome(
        None if success is not None else limit or history.outcome,
        success=success,
        score=None if success is None else float(success),
        end_reason=error or history.state,
    )


def _read_session(source: Source, out: Builder) -> None:
    parts = sorted((p for p in source.parts if p.filename != _STATE_FILE), key=_number)
    history = _begin(out, "")
    state = next((p for p in source.parts if p.filename == _STATE_FILE), None)
    if state is None:
        state = source.beside(f"../{_STATE_FILE}")
    with out.record(_STATE_FILE):
        known = as_object(state.json()) if state is not None else {}
        history.run.set(
            native_id=as_text(known.get("conversation_id")),
            model=as_text(known.get("llm_model")),
            cost_usd=as_float(known.get("accumulated_cost")) or None,
            started_at=as_time(known.get("created_at")),
            input_tokens=as_int(known.get("prompt_tokens")) or None,
            output_tokens=as_int(known.get("completion_tokens")) or None,
        )
        history.metadata = metadata_of(known, _TOLD_OF_SESSION)
        history.run.environment(repo=as_text(known.get("selected_repository")))
    for part in parts:
        prefix = "" if part is source else f"{_relative(part, source)}#"
        with out.record(prefix):
            history.tell(part.json(), prefix)
    missing = _number(parts[-1]) + 1 - len(parts) if parts else 0
    if missing > 0:
        history.run.problem(None, f"{missing} numbered events are missing")
    history.conclude()


def _number(part: Source) -> int:
    numbered = _EVENT_FILE.fullmatch(part.filename)
    return int(numbered[1]) if numbered else -1


def _relative(part: Source, source: Source) -> str:
    return posixpath.relpath(part.name, posixpath.dirname(source.name))


# ---------------------------------------------------------------------- events


class _History:
    """Tells a run event by event and keeps what later events refer to."""

    def __init__(self, run: Run, metrics: Object) -> None:
        self.run = run
        self.state: str | None = None
        self.outcome: str | None = None
        self.latest: str | None = None  # response of the latest call
        self.calls: dict[int, int] = {}  # seq of the call, by its action's id
        self.edit: str | None = None
        self.metadata: dict[str, Any] = as_object(run.columns["metadata"])
        self.usages = by_response(metrics.get("token_usages"))
        self.latencies = by_response(metrics.get("response_latencies"))
        self.told: set[str] = set()  # responses
        self.states: list[Object] = []
        self.recalled: list[Object] = []
        self.timeouts: dict[float, None] = {}
        self.has_folder = False
        self.spent: Object = {}  # so far, as the latest action has it

    def tell(self, event: Any, pos: str) -> None:
        if not is_object(event) or not event.keys() & {"action", "observation"}:
            raise UnreadableRecord("neither an action nor an observation", pos)
        at = as_time(event.get("timestamp"))
        self.spent = as_object(event.get("llm_metrics")) or self.spent
        if (timeout := as_float(event.get("timeout"))) is not None:
            self.timeouts[timeout] = None
        action, observation = as_text(event.get("action")), as_text(event.get("observation"))
        if observation is not None:
            self._tell_observation(observation, event, pos, at)
        elif action is not None:
            self._tell_action(action, event, as_object(event.get("args")), pos, at)
        else:
            raise UnreadableRecord("an event whose kind is no text", pos)

    def conclude(self) -> None:
        usage, cost = self.spent.get("accumulated_token_usage"), self.spent.get("accumulated_cost")
        self.run.set(cost_usd=self.run.columns["cost_usd"] or as_float(cost) or None)
        unseen = {**self.latencies, **self.usages}.keys() - self.told
        more = {
            "states": self.states,
            "recalled": self.recalled,
            "timeouts": list(self.timeouts),
            "usage": self.metadata.get("usage") or usage,
            "calls_without_action": [
                {**self.latencies.get(name, {}), **self.usages.get(name, {})}
                for name in sorted(unseen)
            ],
        }
        self.metadata.update((key, value) for key, value in more.items() if value)
        self.run.set(metadata=self.metadata)
        self.run.outcome(self.outcome, end_reason=self.state)

    def _tell_state(self, event: Object, facts: Object, pos: str, at: datetime | None) -> None:
        """The state that the agent is in, or is asked to go into, and why."""
        known = {key: facts[key] for key in ("agent_state", "reason", "thought") if facts.get(key)}
        said = {"action": event["action"]} if "action" in event else {}
        when = {"timestamp": event.get("timestamp"), "source": event.get("source")}
        self.states.append({**when, **said, **known})
        if said:
            return
        self.state = as_text(facts.get("agent_state")) or self.state
        self.outcome, reason = None, as_text(facts.get("reason"))
        if self.state == "error":
            self.outcome = "limit" if reason and _LIMIT.search(reason) else "error"
            if reason:
                self.run.event("error", reason, f"{pos}/extras/reason", actor="harness", at=at)

    # ------------------------------------------------------------------ actions

    def _tell_action(
        self, action: str, event: Object, args: Object, pos: str, at: datetime | None
    ) -> None:
        run, source = self.run, as_text(event.get("source"))
        if action == "system":
            self.metadata.setdefault("agent_class", as_text(args.get("agent_class")))
            run.set(framework_version=as_text(args.get("openhands_version")))
            if is_array(args.get("tools")):
                run.tools(tool_definitions(args["tools"]))
            run.system(as_text(args.get("content")), f"{pos}/args/content", at=at)
        elif action == "message" and source != "agent":
            media = ["image"] * len(as_array(args.get("image_urls"))) or None
            text = as_text(args.get("content"))
            run.user(text, f"{pos}/args/content", actor=other_than_user(source), media=media, at=at)
        elif action.startswith("condensation"):
            if action == "condensation":
                text = as_text(args.get("summary"))
                run.event("compaction", text, f"{pos}/args", at=at)
                self.edit = "compacted"
        elif action in _STATES:
            self._tell_state(event, args, pos, at)
        elif action in _NO_TURNS:
            return
        elif source == "agent":
            self._begin_call(event, args, pos, at)
            if action != "message":
                self._tell_call(action, event, args, pos, at)
        else:  # what a user does with the agent's tools
            run.event("other", as_text(event.get("message")), pos, actor=source, at=at)

    def _begin_call(self, event: Object, args: Object, pos: str, at: datetime | None) -> None:
        """A model call begins, unless its response has told an action before."""
        response = as_object(as_object(event.get("tool_call_metadata")).get("model_response"))
        name = as_text(response.get("id"))
        if name is not None and name == self.latest:
            return
        self.latest = name
        self.told.add(name or "")
        choice = as_object(next(iter(as_array(response.get("choices"))), None))
        usage = self.usages.get(name or "", {})
        tokens = {
            "input_tokens": as_int(usage.get("prompt_tokens")),
            "output_tokens": as_int(usage.get("completion_tokens")),
            "cached_tokens": as_int(usage.get("cache_read_tokens")),
        }
        logged = usage_columns(response.get("usage"))
        tokens.update((key, value) for key, value in logged.items() if value is not None)
        latency = as_float(self.latencies.get(name or "", {}).get("latency"))
        self.run.step(
            source_pos=pos,
            model=as_text(response.get("model")),
            stop_reason=as_text(choice.get("finish_reason")),
            started_at=earlier(at, latency),
            ended_at=at,
            **tokens,
        )
        if self.edit is not None:
            self.run.saw(None, None, "unknown", history_edit=self.edit)
        message, start = as_object(choice.get("message")), self.run.seq
        place = f"{pos}/tool_call_metadata/model_response/choices/0/message"
        write_reply_parts(self.run, message, place, at=at)
        key = "content" if event.get("action") == "message" else "thought"
        thought = as_text(args.get(key))
        if thought and not (message.get("content") and self.run.seq > start):
            self.run.message(thought, f"{pos}/args/{key}", at=at)

    def _tell_call(
        self, action: str, event: Object, args: Object, pos: str, at: datetime | None
    ) -> None:
        metadata = as_object(event.get("tool_call_metadata"))
        call_id = as_name(metadata.get("tool_call_id"))
        arguments = arguments_in(as_object(metadata.get("model_response")), call_id)
        if arguments is None:
            arguments = {k: v for k, v in args.items() if k not in _NO_ARGUMENTS and v is not None}
        tool = as_text(metadata.get("function_name")) or action
        seq = self.run.call(tool, arguments, pos, call_id=call_id, at=at)
        identity = as_int(event.get("id"))
        if identity is not None:
            self.calls[identity] = seq

    # ------------------------------------------------------------------ observations

    def _tell_observation(self, kind: str, event: Object, pos: str, at: datetime | None) -> None:
        run, extras = self.run, as_object(event.get("extras"))
        cause = as_int(event.get("cause"))
        call = None if cause is None else self.calls.get(cause)
        call_id = as_name(as_object(event.get("tool_call_metadata")).get("tool_call_id"))
        text, place = as_text(event.get("content")), f"{pos}/content"
        if kind == "agent_state_changed":
            self._tell_state(event, extras, pos, at)
        elif kind == "recall":
            self.recalled.append(without_texts(extras))
            text = recalled(extras) or text
            run.event("user", text, pos, actor="harness", at=at)
        elif kind == "condense":
            run.event("compaction", text, place, at=at)
            self.edit = "compacted"
        elif call is not None or call_id is not None:
            succeeded = as_bool(event.get("success"))
            is_error = None if succeeded is None else not succeeded
            facts = as_object(extras.get("metadata"))
            self._set_folder(as_text(facts.get("working_dir")))
            before, after = (as_text(facts.get(key)) or "" for key in ("prefix", "suffix"))
            if text is not None and (before or after):
                text, place = f"{before}{text}{after}", pos
            run.result(
                text,
                place,
                answers=call,
                call_id=call_id,
                is_error=True if kind == "error" else is_error,
                error_type=error_type_of(kind, extras),
                exit_code=exit_code_in(extras),
                at=at,
            )
        elif kind == "error":
            error_type = error_type_of(kind, extras)
            run.event("error", text, place, actor="harness", error_type=error_type, at=at)
        elif kind != "null":
            run.event("other", text, place, actor=as_text(event.get("source")), at=at)

    def _set_folder(self, folder: str | None) -> None:
        """The folder of the first command is that of the run."""
        if folder is not None and not self.has_folder:
            self.has_folder = True
            self.run.environment(cwd=folder)
