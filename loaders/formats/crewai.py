"""CrewAI: the output of a crew, a task or an agent, its log of tasks, dumped events, checkpoints.

Outputs (``CrewOutput``, ``TaskOutput``, ``LiteAgentOutput``) hold the messages of each task, and under
``tool_failures`` which tools failed. ``output_log_file`` holds when a task was begun and what came out of
it, as JSON or as lines of text whose quotes are not escaped, and no call of a model. Events hold every
call with its usage; a checkpoint holds all events up to it, so that of the checkpoints of one run the last
one is enough.

None of these has a place for thinking, and text that stands beside tool calls is left out too. The
messages of an event are no request: a provider's class may add blocks to them, so what was sent back
stays unknown. A crew counts the tokens of a model again for each agent that shares it: its sums are taken
where they count just the calls that are told, and else are metadata.
"""

from __future__ import annotations

import re
from collections import defaultdict, deque
from collections.abc import Iterator
from typing import Any

from loaders.builder import Builder
from loaders.dialects import openai_chat
from loaders.formats import _crewai_ignored
from loaders.formats._crewai_events import BEGIN, END, Events
from loaders.heads import Head
from loaders.rows import metadata_of
from loaders.run import Run
from loaders.sources import Source
from loaders.values import (
    Object,
    as_array,
    as_int,
    as_json,
    as_name,
    as_object,
    as_text,
    as_time,
    is_array,
)

TITLE = "CrewAI output, log, events or checkpoint"
GIVES = ("tools", "tokens")
LOGS_THINKING = "never"
IGNORED = _crewai_ignored.IGNORED

_TASK = ("name", "description", "expected_output", "agent", "output_format", "json_dict")
_USAGE = ("token_usage", "usage_metrics")
_TOLD = ("raw", "messages", "tasks_output", "tool_failures", "summary", *_USAGE, *_TASK)
_FIELDS = ("task_name", "task", "agent", "status", "output")
_ENTRY = re.compile(rb'(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d): (?=\w+=")')
Found = tuple[Object, str]


# ---------------------------------------------------------------------- recognise


def sniff(head: Head) -> bool:
    """An output, an entry of a log of tasks, an event or a checkpoint."""
    if _ENTRY.match(head.data):
        return b'task_name="' in head.data[:60] and b'="' in head.data
    record = head.first
    return (
        _is_output(record)
        or _is_entry(record)
        or _is_event(record)
        or _is_checkpoint(record)
        or (
            not head.is_whole
            and record.keys() <= {"raw"}
            and b'"cached_prompt_tokens"' in head.tail
        )
    )


def _is_output(record: Object) -> bool:
    return "raw" in record and ("pydantic" in record or is_array(record.get("tasks_output")))


def _is_entry(record: Object) -> bool:
    return {"timestamp", "task_name", "task", "agent", "status"} <= record.keys()


def _is_event(record: Object) -> bool:
    return isinstance(record.get("type"), str) and "source_fingerprint" in record


def _is_checkpoint(record: Object) -> bool:
    return "crewai_version" in record and bool(
        {"entities", "event_record", "branch"} & record.keys()
    )


# ---------------------------------------------------------------------- read


def read(source: Source, out: Builder) -> None:
    """A run per output, per checkpoint, and per kickoff of events; a log of tasks is one."""
    if _ENTRY.match(source.head.data):
        _read_text(source, out)
        return
    kickoff = _Kickoff(out)
    log: Run | None = None
    for pos, record in source.records():
        with out.record(pos):
            record = as_object(record)
            if _is_event(record):
                kickoff.add(record, pos)
                continue
            kickoff.tell()
            if _is_checkpoint(record):
                _tell_checkpoint(record, pos, out)
            elif _is_entry(record):
                log = log if log is not None and not log.closed else _begin(out, pos)
                _tell_entry(log, record, pos)
            elif _is_output(record):
                _tell_output(record, pos, out)
            else:
                out.problem(pos, "neither an output, an entry of a log, nor an event")
    kickoff.tell()


class _Kickoff:
    """The events of one kickoff; listeners run side by side and may write them out of order."""

    def __init__(self, out: Builder) -> None:
        self._out = out
        self._found: list[Found] = []
        self._has_ended = False

    def add(self, event: Object, pos: str) -> None:
        """One more event; that of another kickoff begins a run of its own."""
        kind = event.get("type")
        if kind == "crew_kickoff_started" or (self._has_ended and kind in BEGIN):
            self.tell()
        self._has_ended = self._has_ended or kind in END
        self._found.append((event, pos))

    def tell(self) -> None:
        """Tell the events so far."""
        found, self._found, self._has_ended = self._found, [], False
        if found:
            _tell_events(_begin(self._out, found[0][1]), found, self._out)


def _tell_events(run: Run, found: list[Found], out: Builder) -> None:
    """Tell events in the order of their numbers, if each has one of its own."""
    numbers = {as_int(event.get("emission_sequence")) for event, _ in found}
    if len(numbers) == len(found) and None not in numbers:
        found = sorted(found, key=lambda item: item[0]["emission_sequence"])
    events = Events(run)
    for event, pos in found:
        with out.record(pos):
            events.tell(event, pos)
    events.close()


def _begin(out: Builder, pos: str, **columns: Any) -> Run:
    return out.trajectory(pos=pos, framework="crewai", **columns)


# ---------------------------------------------------------------------- checkpoints


def _tell_checkpoint(record: Object, pos: str, out: Builder) -> None:
    known = {key: record[key] for key in ("branch", "parent_id", "trigger") if record.get(key)}
    run = _begin(
        out,
        pos,
        framework_version=as_text(record.get("crewai_version")),
        metadata=known or None,
    )
    nodes = as_object(as_object(record.get("event_record")).get("nodes"))
    found: list[Found] = []
    for key, node in nodes.items():
        escaped = key.replace("~", "~0").replace("/", "~1")
        place = f"{pos}/event_record/nodes/{escaped}/event"
        event = as_object(as_object(node).get("event"))
        if _is_event(event):
            found.append((event, place))
        else:
            run.problem(place, "no event")
    _tell_events(run, found, out)


# ---------------------------------------------------------------------- outputs


def _tell_output(record: Object, pos: str, out: Builder) -> None:
    is_crew = is_array(record.get("tasks_output"))
    tasks = as_array(record.get("tasks_output")) if is_crew else [record]
    run = _begin(out, pos, metadata=_metadata(record, tasks))
    for index, task in enumerate(map(as_object, tasks)):
        _tell_task(run, task, f"{pos}/tasks_output/{index}" if is_crew else pos)
    last = as_object(tasks[-1]) if tasks else {}
    if is_crew and as_text(record.get("raw")) and record["raw"] != last.get("raw"):
        run.event("other", as_text(record["raw"]), f"{pos}/raw", error_type="output")
    if len(tasks) == 1:
        run.set(task_id=as_text(last.get("name")))
    _add_up(run, as_object(record.get("token_usage")) or as_object(record.get("usage_metrics")))


def _metadata(record: Object, tasks: list[Any]) -> Object:
    shown = [{k: v for k, v in as_object(t).items() if k in _TASK and v is not None} for t in tasks]
    kept = metadata_of(record, _TOLD)
    return {**kept, "tasks": shown} if any(shown) else kept


def _tell_task(run: Run, task: Object, pos: str) -> None:
    agent = as_text(task.get("agent")) or as_text(task.get("agent_role"))
    messages = as_array(task.get("messages"))
    raw = as_text(task.get("raw"))
    if not messages:  # older versions keep what was asked for and what came out of it
        if as_text(task.get("description")):
            run.user(as_text(task["description"]), f"{pos}/description")
        if raw:
            run.message(raw, f"{pos}/raw", actor=agent)
    failures = _Failures(task)
    for index, value in enumerate(messages):
        message, place = as_object(value), f"{pos}/messages/{index}"
        if not isinstance(message.get("role"), str):
            run.problem(place, "no message: it has no role")
        elif message["role"] == "assistant":
            openai_chat.write_reply(run, message, place, agent=agent)
            failures.note_calls(message)
        elif message["role"] == "tool":
            openai_chat.write_message(run, message, place, **failures.of(message))
        else:
            openai_chat.write_message(run, message, place)
    last, _ = openai_chat.text_and_media(
        as_object(messages[-1] if messages else None).get("content")
    )
    if messages and raw and raw != last:
        run.event("other", raw, f"{pos}/raw", error_type="output", actor=agent)
    failures.tell_rest(run, f"{pos}/tool_failures")


class _Failures:
    """The tool failures of a task, which name the tool and its arguments and no call."""

    def __init__(self, task: Object) -> None:
        self._by_call: dict[tuple[str | None, str | None], deque[tuple[int, Object]]]
        self._by_call = defaultdict(deque)
        self._calls: dict[str | None, tuple[str | None, str | None]] = {}
        for index, value in enumerate(as_array(task.get("tool_failures"))):
            record = as_object(value)
            call = as_text(record.get("tool_name")), _spelled(record.get("tool_args"))
            self._by_call[call].append((index, as_object(record.get("failure"))))

    def note_calls(self, message: Object) -> None:
        """The calls of a message may be among those that failed."""
        for call in map(as_object, as_array(message.get("tool_calls"))):
            function = as_object(call.get("function"))
            name, spelled = as_text(function.get("name")), _spelled(function.get("arguments"))
            self._calls[as_name(call.get("id"))] = name, spelled

    def of(self, message: Object) -> dict[str, Any]:
        """What is known of the response that a message shows; nothing if it is not among them."""
        call = self._calls.get(as_name(message.get("tool_call_id")))
        waiting = self._by_call.get(call) if call else None
        text, _ = openai_chat.text_and_media(message.get("content"))
        if not waiting or (as_text(waiting[0][1].get("message")) or "") not in (text or ""):
            return {}
        _, failure = waiting.popleft()
        return {"is_error": True, "error_type": _code(failure)}

    def tell_rest(self, run: Run, pos: str) -> None:
        """Failures that no response shows: of tools that do not exist, say."""
        rest = (found for waiting in self._by_call.values() for found in waiting)
        for index, failure in sorted(rest, key=lambda found: found[0]):
            text = as_text(failure.get("message"))
            run.event("error", text, f"{pos}/{index}/failure", error_type=_code(failure))


def _code(failure: Object) -> str | None:
    return as_text(failure.get("code")) or as_text(failure.get("reason"))


def _spelled(arguments: Any) -> str | None:
    """Arguments without the blanks in which two writings of them differ."""
    return "".join((as_json(arguments) or "").split())


def _add_up(run: Run, usage: Object) -> None:
    if not as_int(usage.get("prompt_tokens")):
        return  # what the provider did not give stands as 0
    if as_int(usage.get("successful_requests")) != len(run.steps):
        run.set(metadata={**(run.columns["metadata"] or {}), "token_usage": usage})
        return
    run.set(
        input_tokens=as_int(usage["prompt_tokens"]),
        output_tokens=as_int(usage.get("completion_tokens")),
        reasoning_tokens=as_int(usage.get("reasoning_tokens")) or None,
        cached_tokens=as_int(usage.get("cached_prompt_tokens")) or None,
    )


# ---------------------------------------------------------------------- the log of tasks


def _tell_entry(run: Run, entry: Object, pos: str, *, is_text: bool = False) -> None:
    """One entry: a task is begun, or something came out of it."""
    at, agent = as_time(entry.get("timestamp")), as_text(entry.get("agent"))
    status = as_text(entry.get("status"))

    def place(key: str) -> str:
        return pos if is_text else f"{pos}/{key}"

    if status == "started":
        run.user(as_text(entry.get("task")), place("task"), at=at)
    elif status == "completed":
        run.message(as_text(entry.get("output")), place("output"), actor=agent, at=at)
    else:
        run.event("other", as_json(entry), pos, actor=agent, error_type=status, at=at)
    _note_task(run, as_text(entry.get("task_name")))


def _note_task(run: Run, name: str | None) -> None:
    names: list[str | None] = as_object(run.columns["metadata"]).get("tasks", [])
    if not names or names[-1] != name:
        run.set(metadata={"tasks": [*names, name]})


def _read_text(source: Source, out: Builder) -> None:
    run: Run | None = None
    for pos, stamp, text in _entries(source):
        with out.record(pos):
            run = run or _begin(out, pos)
            fields = _fields(text.removesuffix('"'))
            last = "output" if fields.get("status") == "completed" else "status"
            if not text.endswith('"') or last not in fields:
                out.problem(pos, "an entry is cut short; what stands before it is read")
            _tell_entry(run, {"timestamp": stamp, **fields}, pos, is_text=True)


def _entries(source: Source) -> Iterator[tuple[str, str, str]]:
    """Place, time and text of each entry, which goes on until the next one begins."""
    begun: tuple[str, str, list[bytes]] | None = None
    for number, line in source.lines():
        head = _ENTRY.match(line)
        if head is None and begun is not None:
            begun[2].append(line)
            continue
        if begun is not None:
            yield begun[0], begun[1], _joined(begun[2])
        stamp, rest = (head[1].decode(), line[head.end() :]) if head else ("", line)
        begun = f"L{number}", stamp, [rest]
    if begun is not None:
        yield begun[0], begun[1], _joined(begun[2])


def _joined(lines: list[bytes]) -> str:
    return b"\n".join(lines).decode("utf-8", "replace").rstrip("\r\n")


def _fields(text: str) -> Object:
    """The fields of an entry in their order; quotes inside of a value are not escaped."""
    places: list[tuple[str, int, int]] = []
    end = 0
    for key in _FIELDS:
        mark = f'", {key}="' if places else f'{key}="'
        start = text.find(mark, end)
        if start >= 0:
            end = start + len(mark)
            places.append((key, start, end))
    stops = [*(start for _, start, _ in places[1:]), len(text)]
    found = {key: text[end:stop] for (key, _, end), stop in zip(places, stops, strict=True)}
    return {key: None if value == "None" else value for key, value in found.items()}
