"""LangChain messages, and LangSmith runs: the tree of what a traced program called.

Messages come in lists, rows or dumps of a state, in any of three notations (``constructor``, ``data``,
or plain). They show no request.

LangSmith runs come in lists, on lines, or as the two halves (``post``, ``patch``) in which they were
sent. Those of one trace are one run; its calls of models are told in the order of ``dotted_order``, and
what their inputs repeat is told once. Inputs are a request that the log records. Yet some classes of
LangChain drop ``reasoning_content`` on its way from there to the model: found there, it is no evidence;
missing there, it was not sent.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from typing import Any

from loaders.builder import Builder
from loaders.dialects import langchain as messages_of
from loaders.dialects import openai_chat
from loaders.dialects.langchain import unpacked
from loaders.dialects.requests import RepeatedMessages
from loaders.formats._langchain_ignored import PATHS
from loaders.heads import Head
from loaders.rows import Gathered, identity_of, metadata_of, outcome_of, unfolded
from loaders.run import Run
from loaders.sources import Source
from loaders.values import (
    Object,
    as_array,
    as_float,
    as_json,
    as_object,
    as_text,
    as_time,
    is_array,
    is_object,
)

TITLE = "LangChain messages and LangSmith runs"
GIVES = ("thinking", "sent", "tools", "tokens", "outcome")

IGNORED = PATHS

_MESSAGES_IN = ("messages", "history", "chat_history", "output")
_RUNS_IN = ("runs", "post", "patch")
_TOLD_OF_RUN = (
    *("id", "trace_id", "parent_run_id", "dotted_order", "run_type", "inputs", "outputs", "extra"),
    *("start_time", "end_time", "error", "child_runs", "events", "serialized", "feedback_stats"),
    *("total_cost", "attachments"),
)
_TOLD_OF_METADATA = ("ls_model_name", "ls_provider", "ls_model_type", "lc_agent_name")
_OF_A_GRAPH = ("langgraph_", "checkpoint_")
_TOLD_OF_USAGE = (
    *("input_tokens", "output_tokens", "total_tokens", "input_token_details.cache_read"),
    *("output_token_details.reasoning",),
)
_MODELS = ("llm", "chat_model")
Found = tuple[Object, str]


def sniff(head: Head) -> bool:
    """A run of LangSmith's, or a message as LangChain writes it."""
    record = next(iter(head.records), None)
    if messages_of.are_states(record if is_array(record) else head.records):
        return False  # LangGraph's
    for _ in range(2):
        if is_object(record) and not _is_run(record) and not messages_of.is_own(record):
            keys = (*_RUNS_IN, *_MESSAGES_IN)
            lists = (unfolded(record.get(key)) for key in keys)
            record = next((one for one in lists if is_array(one)), None)
        if is_array(record):
            record = next(iter(record), None)
    return _is_run(record) or messages_of.is_own(record)


def _is_run(value: Any) -> bool:
    value = as_object(value)
    return "dotted_order" in value or ("run_type" in value and "trace_id" in value)


def read(source: Source, out: Builder) -> None:
    """A run per list of messages, row, or trace."""
    runs: dict[str, list[Found]] = defaultdict(list)
    lines: Run | None = None
    for pos, record in _records(source):
        with out.record(pos):
            found = [*_runs_in(record, pos)]
            for run, place in found:
                runs[as_text(run.get("id")) or place].append((run, place))
            if found:
                continue
            if messages_of.is_own(record):
                lines = lines or out.trajectory(pos=pos, framework="langchain")
                _tell_message(lines, record, pos)
            else:
                lines = None
                _tell_row(out, record, pos)
    traces: dict[str | None, list[_Traced]] = defaultdict(list)
    for halves in runs.values():
        one = _Traced(halves)
        traces[as_text(one.get("trace_id")) or as_text(one.get("id"))].append(one)
    for name, members in traces.items():
        with out.record(members[0].pos):
            _Trace(name, members, out).tell()


def _records(source: Source) -> Iterator[tuple[str, Any]]:
    if source.is_json_lines:
        yield from source.json_lines()
        return
    value = source.json()
    if is_array(value) and not any(map(unpacked, value[:1])):
        yield from ((f"/{index}", item) for index, item in enumerate(value))
    else:
        yield "", value


def _runs_in(record: Any, pos: str) -> Iterator[Found]:
    """Runs in a record, with those inside them."""
    stack: list[Found] = [(as_object(record), pos)]
    while stack:
        value, place = stack.pop()
        if _is_run(value):
            yield value, place
        inner: list[Found] = []
        for key in ("child_runs",) if _is_run(value) else _RUNS_IN:
            items = enumerate(map(as_object, as_array(value.get(key))))
            inner.extend((item, f"{place}/{key}/{n}") for n, item in items if _is_run(item))
        stack.extend(reversed(inner))


# ---------------------------------------------------------------------- messages alone


def _tell_row(out: Builder, record: Any, pos: str) -> None:
    row = as_object(record)
    for key in ("", *_MESSAGES_IN):
        listed = unfolded(row.get(key)) if key else record
        if is_array(listed) and any(map(unpacked, listed)):
            run = out.trajectory(pos=pos, framework="langchain", **identity_of(row))
            run.set(metadata=metadata_of(row, (key, "tools")) if row else None)
            if is_array(row.get("tools")):
                run.tools(openai_chat.tool_definitions(row["tools"]))
            for index, message in enumerate(listed):
                _tell_message(run, message, f"{pos}/{key}/{index}" if key else f"{pos}/{index}")
            if any(outcome_of(row).values()):
                run.outcome(**outcome_of(row))
            return
    out.problem(pos, "neither messages nor a run")


def _tell_message(run: Run, value: Any, pos: str) -> None:
    found = unpacked(value)
    if found is None:
        run.problem(pos, "no message", "error")
        return
    message, place = found
    if message["role"] == "assistant":
        run.step(source_pos=pos, **messages_of.step_columns(message))
        messages_of.write_reply(run, message, pos + place)
    else:
        messages_of.write_message(run, message, pos + place)


# ---------------------------------------------------------------------- LangSmith


class _Traced:
    """One traced run, which its log may hold in two halves."""

    def __init__(self, halves: list[Found]) -> None:
        self._halves = halves
        self.pos = halves[0][1]

    def get(self, key: str) -> Any:
        return self.find(key)[0]

    def find(self, key: str) -> tuple[Any, str]:
        """A field, of its latest half that has one, and its place."""
        for half, pos in reversed(self._halves):
            if half.get(key) not in (None, {}, []):
                return half[key], f"{pos}/{key}"
        return None, self.pos

    def rest(self) -> Object:
        """What else is said of the run."""
        keys = {key for half, _ in self._halves for key in half if key not in _TOLD_OF_RUN}
        return {key: value for key in sorted(keys) if (value := self.get(key)) is not None}


class _Trace:
    """Tells the runs of one trace."""

    def __init__(self, name: str | None, members: list[_Traced], out: Builder) -> None:
        self._members = sorted(members, key=lambda one: as_text(one.get("dotted_order")) or "")
        root = next((one for one in self._members if not one.get("parent_run_id")), members[0])
        self._root = root
        self._run = out.trajectory(native_id=name, pos=root.pos)
        self._repeated = RepeatedMessages(
            self._run, messages_of.key_of, messages_of.thoughts_of, self._tell_sent
        )
        self._ran: dict[str, _Traced] = {}

    def tell(self) -> None:
        run, root = self._run, self._root
        extra = as_object(root.get("extra"))
        runtime = as_object(extra.get("runtime"))
        version = runtime.get("library_version", runtime.get("langchain_core_version"))
        is_langchain = (as_text(runtime.get("library")) or "").startswith("langchain")
        run.environment(platform=as_text(runtime.get("platform")))
        kept = {**root.rest(), "runtime": runtime or None, **self._gathered()}
        run.set(
            metadata=metadata_of(kept, ()),
            framework="langchain" if is_langchain else None,
            framework_version=as_text(version) if is_langchain else None,
            started_at=as_time(root.get("start_time")),
            ended_at=as_time(root.get("end_time")),
            cost_usd=_cost(root.get("total_cost")),
        )
        if scores := [*_scores(root.get("feedback_stats"))]:
            run.outcome(scores=scores)
        models = [one for one in self._members if one.get("run_type") in _MODELS]
        for one in self._members:
            if one.get("run_type") == "tool" and (name := self._call_of(one)):
                self._ran[name] = one
        for one in models:
            self._tell_call(one)
        for name, one in [*self._ran.items()] if models else ():
            self._tell_last_result(name, one)
        if not models:
            self._tell_root(root)
        error = as_text(root.get("error"))
        if error:
            run.event("error", error, root.find("error")[1])
            last = error.strip().split("\n")[-1]
            run.outcome("error", end_reason=last, scores=scores)

    def _gathered(self) -> Object:
        """What the runs say of themselves, and counts of tokens that have no column."""
        seen = Gathered()
        for one in self._members:
            metadata = as_object(as_object(one.get("extra")).get("metadata"))
            for name, value in metadata.items():
                if name not in _TOLD_OF_METADATA and not name.startswith(_OF_A_GRAPH):
                    seen.note(name, value)
            if one.get("run_type") in _MODELS:
                seen.count(as_object(one.get("outputs")).get("usage_metadata"), _TOLD_OF_USAGE)
        return seen.metadata()

    def _call_of(self, tool: _Traced) -> str | None:
        """The id of the call that a tool's run answered."""
        output = unpacked(as_object(tool.get("outputs")).get("output"))
        given = as_object(tool.get("inputs"))
        metadata = as_object(as_object(tool.get("extra")).get("metadata"))
        named = (output[0] if output else {}).get("tool_call_id")
        return as_text(named or tool.get("tool_call_id") or given.get("tool_call_id")) or as_text(
            metadata.get("tool_call_id")
        )

    def _tell_sent(self, message: Object, pos: str) -> None:
        """Tell a message of a request that was not told before."""
        if message.get("role") == "assistant":
            self._run.step(source_pos=pos, **messages_of.step_columns(message))
            messages_of.write_reply(self._run, message, pos)
            return
        ran = self._ran.pop(as_text(message.get("tool_call_id")) or "", None)
        messages_of.write_message(self._run, message, pos, **(_ending(ran) if ran else {}))

    def _tell_last_result(self, call_id: str, one: _Traced) -> None:
        """What a tool put out after the last request, where its own run alone shows it."""
        outputs, pos = one.find("outputs")
        given = as_object(outputs)
        found = unpacked(given.get("output"))
        if found is not None:
            message = {**found[0], "role": "tool", "tool_call_id": call_id}
            place = f"{pos}/output{found[1]}"
            messages_of.write_message(self._run, message, place, **_ending(one))
            return
        text = as_json(given.get("output", given)) if given else as_text(one.get("error"))
        place = pos if given else one.find("error")[1]
        self._run.result(text, place, call_id=call_id, **_ending(one))

    def _tell_root(self, root: _Traced) -> None:
        """Where no call of a model was traced: the messages that the whole was given and gave."""
        for key in ("inputs", "outputs"):
            value, place = root.find(key)
            for name in _MESSAGES_IN:
                listed = [*_messages(as_object(value).get(name), f"{place}/{name}")]
                self._repeated.take(listed)

    def _tell_call(self, one: _Traced) -> None:
        run = self._run
        inputs, at_inputs = one.find("inputs")
        inputs, extra = as_object(inputs), as_object(one.get("extra"))
        settings = as_object(extra.get("invocation_params")) or {
            key: value for key, value in inputs.items() if key != "messages" and value is not None
        }
        metadata = as_object(extra.get("metadata"))
        tools = settings.pop("tools", None) or settings.pop("functions", None)
        if is_array(tools):
            run.tools(openai_chat.tool_definitions(tools))
        asked = [*_messages(inputs.get("messages"), f"{at_inputs}/messages")]
        shown = self._repeated.take(asked)
        agent = as_text(metadata.get("lc_agent_name")) or as_text(metadata.get("langgraph_node"))
        reply, pos, columns = _answer(one)
        columns["model"] = columns.get("model") or as_text(metadata.get("ls_model_name"))
        run.step(
            source_pos=one.pos,
            agent=agent,
            started_at=as_time(one.get("start_time")),
            ended_at=as_time(one.get("end_time")),
            error=as_text(one.get("error")),
            **columns,
        )
        if asked:
            request = [message for message, _ in asked]
            is_sure = all(map(messages_of.shows_thinking_for_certain, request))
            self._repeated.saw(shown, request, agent, is_sure)
        run.set(
            provider=run.columns["provider"] or as_text(metadata.get("ls_provider")),
            params=run.columns["params"] or settings or None,
        )
        if reply is not None:
            write = partial(messages_of.write_reply, run, reply, pos)
            self._repeated.reply(reply, agent, write)
        elif not one.get("error"):
            run.problem(one.pos, "a call of a model without a reply")


def _ending(tool: _Traced) -> dict[str, Any]:
    """What a tool's run says of its result."""
    began, ended = as_time(tool.get("start_time")), as_time(tool.get("end_time"))
    took = (ended - began).total_seconds() if began and ended else None
    error = as_text(tool.get("error"))
    flags = {"is_error": True, "error_type": error.split("(")[0][:80]} if error else {}
    return {"at": ended, "duration_s": took, **flags}


def _cost(value: Any) -> float | None:
    """A sum of dollars, which the API writes as text."""
    try:
        return as_float(float(value) if isinstance(value, str) else value) or None
    except ValueError:
        return None


def _scores(stats: Any) -> Iterator[tuple[str, float | None, str | None]]:
    """The mean of each kind of feedback on a trace."""
    for name, stat in as_object(stats).items():
        mean = as_object(stat).get("avg")
        yield name, as_float(mean), as_json(stat)


def _messages(value: Any, pos: str) -> Iterator[Found]:
    """Messages of a request with their places; a batch of one is a list in a list."""
    if is_array(value) and value and is_array(value[0]) and not isinstance(value[0][:1], str):
        value, pos = value[0], f"{pos}/0"
    for index, item in enumerate(as_array(value)):
        found = unpacked(item)
        if found is not None:
            yield found[0], f"{pos}/{index}{found[1]}"


def _answer(one: _Traced) -> tuple[Object | None, str, dict[str, Any]]:
    """The reply in a run's outputs, its place, and columns of its step."""
    outputs, pos = one.find("outputs")
    outputs = as_object(outputs)
    choices = as_array(outputs.get("choices"))
    if choices and is_object(as_object(choices[0]).get("message")):
        message = {**choices[0]["message"], "role": "assistant"}
        columns = {
            "model": as_text(outputs.get("model")),
            "stop_reason": as_text(choices[0].get("finish_reason")),
            **_usage_of(outputs),
        }
        return message, f"{pos}/choices/0/message", columns
    generations = as_array(outputs.get("generations"))
    if generations and is_array(generations[0]):
        generations, pos = generations[0], f"{pos}/generations/0/0"
    else:
        pos = f"{pos}/generations/0" if generations else pos
    first = as_object(next(iter(generations), None))
    value = first.get("message", outputs.get("output", outputs.get("message")))
    found = unpacked(value[0] if is_array(value) and value else value)
    if found is None:
        if text := as_text(first.get("text")):
            return {"role": "assistant", "content": text}, pos, _usage_of(outputs)
        return None, pos, _usage_of(outputs)
    place = f"{pos}/message" if "message" in first or "message" in outputs else f"{pos}/output"
    columns = messages_of.step_columns(found[0])
    known = {name: value for name, value in _usage_of(outputs).items() if value is not None}
    if columns["input_tokens"] is None:
        columns.update(known)
    return found[0], f"{place}{'/0' if is_array(value) else ''}{found[1]}", columns


def _usage_of(outputs: Object) -> dict[str, Any]:
    if is_object(outputs.get("usage_metadata")):
        return messages_of.usage_columns(outputs["usage_metadata"])
    usage = as_object(outputs.get("llm_output")).get("token_usage", outputs.get("usage"))
    return openai_chat.usage_columns(usage) if is_object(usage) else {}
