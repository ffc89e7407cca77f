"""mini-swe-agent trajectories: ``<instance>.traj.json``, one run per file.

Since 1.0 an object of ``info`` and ``messages``; ``trajectory_format`` stands at its end. Before
that a bare list of messages, to be told only by its name and its style. The action of a reply is a
native tool call, or an item of ``extra.actions``, or in older logs the one fenced block of its
text; where there is no id, whatever comes back next answers it.

Not every message is a turn: role ``exit`` (in version 1 the last user message) says how the run
ended. The call that submits ends the run and has no result. A reply without a valid action is no
message of its own: the user message of the format error holds it, or nothing does, but the call was
made. A model call that failed left only the exit message, and shows in ``model_stats.api_calls``.

Reasoning stands up to four times (``reasoning_content``, ``provider_specific_fields`` and both
again in ``extra.response``) and is told once; version 1 has it in ``extra.response`` alone.
``thinking_sent`` stays unknown: the log holds no request. ``exception_info`` is the only error
flag, a return code is none. ``Submitted`` is no success: the log holds no evaluation.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from loaders.builder import Builder
from loaders.dialects.openai_chat import (
    split_think_tags,
    text_and_media,
    thoughts_of,
    tool_definitions,
    usage_columns,
    write_calls,
    write_message,
    write_reply_parts,
)
from loaders.formats import _mini_swe_agent_ignored
from loaders.heads import Head
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

TITLE = "mini-swe-agent trajectory"
GIVES = ("thinking", "tokens", "outcome")
IGNORED = _mini_swe_agent_ignored.IGNORED

_VERSION = "mini-swe-agent-"
_MARK = re.compile(rb'"trajectory_format":\s*"mini-swe-agent')
_STYLE = (
    b"```mswea_bash_command",
    b"```bash",
    b"COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT",
    b"MINI_SWE_AGENT_FINAL_OUTPUT",
)
_ACTION_BEGINS = re.compile(r"```(?:mswea_bash_command|bash)[^\S\n]*\n|<mswea_bash_command>")
_RETURN_CODE = re.compile(r"(?:<exception>.*?</exception>)?\s*<returncode>(-?\d{1,9})<", re.DOTALL)
_CUT = "<elided_chars>"
_LIMITS = ("LimitsExceeded", "TimeExceeded", "ContextWindowExceeded")
_CANCELLED = ("UserInterruption", "KeyboardInterrupt")
_TOLD_OF_INFO = ("model_stats", "config", "mini_version", "exit_status", "submission")
_TOLD_OF_MODEL = ("model_name", "model_kwargs")
_ENVIRONMENT = ("image", "cwd", "env", "timeout", "executable", "interpreter", "run_args")
_IN_RESPONSE = "/extra/response/choices/0/message"


def sniff(head: Head) -> bool:
    """Named so by itself, at the front or the end; or a bare list of the old style and name."""
    if is_array(head.value) and "role" in head.keys:
        is_named = head.filename.endswith(".traj.json")
        is_chat = "content" in head.keys and head.first["role"] in ("system", "user")
        return is_named and is_chat and any(mark in head.data for mark in _STYLE)
    info = as_object(head.first.get("info"))
    has_agent = "agent_type" in info or "agent_type" in as_object(info.get("config"))
    if "mini_version" in info or ("model_stats" in info and has_agent):
        return True
    if str(head.first.get("trajectory_format")).startswith(_VERSION):
        return True
    return not head.keys.isdisjoint({"messages", "info"}) and _MARK.search(head.tail) is not None


def read(source: Source, out: Builder) -> None:
    """One run per record: an object, or a bare list of messages."""
    for pos, record in _records(source):
        with out.record(pos):
            if is_array(record):
                _read_run({"messages": record}, pos, pos, out)
            elif is_object(record):
                _read_run(record, pos, f"{pos}/messages", out)
            else:
                out.problem(pos, "neither an object nor a list of messages")


def _records(source: Source) -> Iterator[tuple[str, Any]]:
    if source.is_json_lines:
        yield from source.json_lines()
        return
    value = source.json()
    if is_array(value) and any("messages" in as_object(item) for item in value):
        yield from ((f"/{index}", item) for index, item in enumerate(value))
    else:
        yield "", value


def _read_run(record: Object, pos: str, messages_pos: str, out: Builder) -> None:
    run = _begin(record, pos, out)
    messages = record.get("messages")
    if not is_array(messages):
        run.problem(messages_pos, "no list of messages", "error")
    teller = _Teller(run, as_object(record.get("info")))
    last = len(as_array(messages)) - 1
    for index, message in enumerate(as_array(messages)):
        if is_object(message):
            teller.message(message, f"{messages_pos}/{index}", is_last=index == last)
        else:
            run.problem(f"{messages_pos}/{index}", "not a message")
    _end(run, record, teller)


def _begin(record: Object, pos: str, out: Builder) -> Run:
    info = as_object(record.get("info"))
    config = as_object(info.get("config"))
    agent, model = as_object(config.get("agent")), as_object(config.get("model"))
    environment = as_object(config.get("environment"))
    params = dict(as_object(model.get("model_kwargs")))
    tools = params.pop("tools", None)
    name = as_text(model.get("model_name"))
    run = out.trajectory(
        native_id=as_name(record.get("instance_id")),
        pos=pos,
        framework="mini-swe-agent",
        framework_version=as_text(info.get("mini_version")),
        format_version=(as_text(record.get("trajectory_format")) or "").removeprefix(_VERSION)
        or None,
        task_id=as_name(record.get("instance_id")),
        model=name,
        provider=_provider(name),
        params=params,
        metadata={
            **{key: value for key, value in info.items() if key not in _TOLD_OF_INFO},
            **{key: value for key, value in config.items() if key.endswith("_type")},
            **{key: value for key, value in agent.items() if "_limit" in key},
            "agent": {key: value for key, value in agent.items() if "_limit" not in key},
            "model": {key: value for key, value in model.items() if key not in _TOLD_OF_MODEL},
            **({"environment": environment} if environment else {}),
            **as_object(info.get("model_stats")),
        },
    )
    facts = {key: environment.get(key) for key in _ENVIRONMENT}
    run.environment(kind=as_text(config.get("environment_type")), **facts)
    if is_array(tools):
        run.tools(tool_definitions(tools))
    return run


def _provider(model: str | None) -> str | None:
    """Model names are LiteLLM's: the part before the first slash names the provider."""
    provider, slash, _ = (model or "").partition("/")
    return provider if slash else None


def _end(run: Run, record: Object, teller: _Teller) -> None:
    info = as_object(record.get("info"))
    cost = as_float(as_object(info.get("model_stats")).get("instance_cost"))
    run.set(cost_usd=teller.cost if cost is None else cost)
    success = as_bool(info.get("resolved", record.get("resolved")))
    status = teller.exit_status
    outcome = None if success is not None else _outcome(status)
    run.outcome(outcome, success=success, end_reason=status)


def _outcome(exit_status: str | None) -> str | None:
    if exit_status in (None, "Submitted"):
        return None
    if exit_status.startswith(_LIMITS):
        return "limit"
    return "cancelled" if exit_status in _CANCELLED else "error"


class _Teller:
    """Tells the messages of one run in their order."""

    def __init__(self, run: Run, info: Object) -> None:
        self.run = run
        self.cost: float | None = None
        self.exit_status = as_text(info.get("exit_status")) or None
        self._submission = info.get("submission")
        self._api_calls = as_int(as_object(info.get("model_stats")).get("api_calls")) or 0
        self._pending: list[int] = []
        """Calls without an id: what comes next answers them in their order."""
        self._after_reply = False

    def message(self, message: Object, pos: str, is_last: bool) -> None:
        """Tell one message."""
        role, kind = message.get("role"), message.get("type")
        extra = as_object(message.get("extra"))
        is_reply = role == "assistant" or message.get("object") == "response"
        if role == "exit" or (is_last and self._says_how_it_ended(message)):
            self._exit(message, pos, extra)
        elif is_reply:
            self._reply(message, pos)
            is_native = bool(message.get("tool_calls")) or is_array(message.get("output"))
            when = as_time(extra.get("timestamp"))
            if not is_native and not self._logged_actions(extra, f"{pos}/extra", at=when):
                self._text_action(message, pos, when)
        elif kind == "function_call_output":
            self._result(message, pos, "output", call_id=as_name(message.get("call_id")))
        elif role == "tool" and message.get("tool_call_id") is not None:
            self._result(message, pos, "content", call_id=as_name(message["tool_call_id"]))
        elif role in ("user", "tool"):
            self._answer(message, pos, extra)
        else:
            write_message(self.run, message, pos)
        self._after_reply = is_reply

    # ------------------------------------------------------------------ what is no reply

    def _says_how_it_ended(self, message: Object) -> bool:
        """Version 1 ends with a user message that repeats what ``info`` says of the end."""
        if self.exit_status in (None, "Submitted") or message.get("role") != "user":
            return False
        return message.get("content") == self._submission

    def _exit(self, message: Object, pos: str, extra: Object) -> None:
        text, _ = text_and_media(message.get("content"))
        self.exit_status = as_text(extra.get("exit_status")) or self.exit_status
        if _outcome(self.exit_status) != "error":
            self.run.event("other", text, f"{pos}/content", actor="exit")
            return
        if self._api_calls > len(self.run.steps) and not self._after_reply:
            self.run.step(source_pos=pos, error=self.exit_status)
        self.run.event("error", text, f"{pos}/content", error_type=self.exit_status)

    def _answer(self, message: Object, pos: str, extra: Object) -> None:
        """A user message: what came back from an action, a format error, or a person's word."""
        interrupt = as_text(extra.get("interrupt_type"))
        if self._pending and interrupt is None and "actions" not in extra:
            self._result(message, pos, "content", answers=self._pending.pop(0))
            return
        self._pending = []
        if message.get("role") == "tool":
            self._result(message, pos, "content")
            return
        if interrupt == "FormatError" and not self._after_reply:
            self._lost_reply(pos, extra)
        text, media = text_and_media(message.get("content"))
        self.run.user(text, f"{pos}/content", media=media, error_type=interrupt)
        self._logged_actions(extra, f"{pos}/extra", actor="user")

    def _result(self, message: Object, pos: str, key: str, **link: Any) -> None:
        extra = as_object(message.get("extra"))
        text, media = text_and_media(message.get(key))
        exit_code = as_int(extra.get("returncode"))
        if exit_code is None and (shown := _RETURN_CODE.match(text or "")):
            exit_code = int(shown[1])
        exception = extra.get("exception_info")
        self.run.result(
            text,
            f"{pos}/{key}",
            media=media,
            exit_code=exit_code,
            is_error=bool(exception) if "exception_info" in extra else None,
            error_type=as_text(extra.get("exception_type")),
            truncated=_is_cut(text or "", as_text(extra.get("raw_output"))),
            at=as_time(extra.get("timestamp")),
            **link,
        )

    # ------------------------------------------------------------------ replies

    def _reply(self, message: Object, pos: str, record: Object | None = None) -> None:
        """One model call; ``record`` where its ``extra`` is another message's."""
        run = self.run
        extra = as_object((record or message).get("extra"))
        items = message.get("output")
        response = message if is_array(items) else as_object(extra.get("response"))
        when = as_time(extra.get("timestamp"))
        run.step(
            source_pos=pos,
            model=as_text(response.get("model")),
            ended_at=when,
            stop_reason=_stop_reason(response),
            **_usage(response.get("usage")),
        )
        cost = as_float(extra.get("cost"))
        self.cost = self.cost if cost is None else (self.cost or 0.0) + cost
        self._pending = []
        if is_array(items):
            for index, item in enumerate(items):
                if is_object(item):
                    _write_item(run, item, f"{pos}/output/{index}", when)
                else:
                    run.problem(f"{pos}/output/{index}", "not an item of output")
            return
        _write_thinking_from_elsewhere(run, message, {} if record else response, pos, when)
        write_reply_parts(run, message, pos, at=when)
        first_call = run.seq
        write_calls(run, message, pos, at=when)
        if not any(as_object(call).get("id") for call in as_array(message.get("tool_calls"))):
            self._pending = list(range(first_call, run.seq))

    def _lost_reply(self, pos: str, extra: Object) -> None:
        """The reply behind a format error, whose actions were not run; before 2.4 it may be gone."""
        response = as_object(extra.get("response"))
        original = _original(response)
        if is_array(response.get("output")):
            self._reply(response, f"{pos}/extra/response", {"extra": extra})
        elif original:
            self._reply(original, pos + _IN_RESPONSE, {"extra": extra})
        else:
            self.run.step(source_pos=pos, thinking="not_logged")
            for is_thinking, piece in split_think_tags(as_text(extra.get("model_response")) or ""):
                if is_thinking:
                    self.run.thinking(piece, f"{pos}/extra/model_response", state="tagged_in_text")
                else:
                    self.run.message(piece, f"{pos}/extra/model_response")
            if text := as_text(extra.get("response")):  # as Python writes an object down
                self.run.event("other", text, f"{pos}/extra/response", actor="response")
        self._pending = []

    def _logged_actions(self, extra: Object, pos: str, **more: Any) -> bool:
        """Calls from the actions that the framework logs beside a message; whether there are any."""
        actions = as_array(extra.get("actions"))
        for index, action in enumerate(actions):
            command = action if isinstance(action, str) else as_object(action).get("command")
            call_id = as_name(as_object(action).get("tool_call_id"))
            call = self.run.call(
                "bash", {"command": command}, f"{pos}/actions/{index}", call_id=call_id, **more
            )
            if call_id is None:
                self._pending.append(call)
        return bool(actions)

    def _text_action(self, message: Object, pos: str, when: datetime | None) -> None:
        """The call in a reply's text: its one block, for with none or several nothing is run."""
        text, _ = text_and_media(message.get("content"))
        blocks = list(_blocks(text or ""))
        if len(blocks) == 1:
            command = {"command": blocks[0]}
            self._pending = [self.run.call("bash", command, f"{pos}/content", at=when)]


def _blocks(text: str) -> Iterator[str]:
    """The actions written into a text, in fences or tags."""
    begin = _ACTION_BEGINS.search(text)
    while begin:
        closing = "</mswea_bash_command>" if begin[0][0] == "<" else "\n```"
        end = text.find(closing, begin.end())
        if end < 0:
            return
        yield text[begin.end() : end].strip()
        begin = _ACTION_BEGINS.search(text, end + len(closing))


def _original(response: Object) -> Object:
    """The message inside a chat completion."""
    choice = as_object(next(iter(as_array(response.get("choices"))), None))
    return as_object(choice.get("message"))


def _write_thinking_from_elsewhere(
    run: Run, message: Object, response: Object, pos: str, when: datetime | None
) -> None:
    """Thinking that the message itself lacks, from the first other place that has it."""
    text, _ = text_and_media(message.get("content"))
    in_text = any(is_thinking for is_thinking, _ in split_think_tags(text or ""))
    if in_text or any(thoughts_of(message)):
        return
    original, key = _original(response), "provider_specific_fields"
    for place, place_pos in (
        (as_object(message.get(key)), f"{pos}/{key}"),
        (original, pos + _IN_RESPONSE),
        (as_object(original.get(key)), f"{pos}{_IN_RESPONSE}/{key}"),
    ):
        thoughts = list(thoughts_of(place))
        for told, state, signature, pointer in thoughts:
            place_of = place_pos + pointer
            run.thinking(told, place_of, state=state, signature=signature, at=when)
        if thoughts:
            return


def _write_item(run: Run, item: Object, pos: str, when: datetime | None) -> None:
    """An output item of the Responses API."""
    kind = item.get("type")
    if kind == "reasoning":
        text, _ = text_and_media(item.get("content"))
        summary, _ = text_and_media(item.get("summary"))
        state = "text" if text else "summary" if summary else "hidden"
        signature = as_text(item.get("encrypted_content"))
        run.thinking(text or summary or None, pos, state=state, signature=signature, at=when)
    elif kind == "message":
        text, media = text_and_media(item.get("content"))
        run.message(text, pos, media=media, at=when)
    elif kind == "function_call":
        call_id = as_name(item.get("call_id", item.get("id")))
        name = as_text(item.get("name"))
        run.call(name, item.get("arguments"), pos, call_id=call_id, at=when)
    else:
        run.event("other", as_text(item.get("text")), pos, actor=as_text(kind), at=when)


def _usage(usage: Any) -> dict[str, int | None]:
    """Token columns, from either of OpenAI's shapes."""
    usage = as_object(usage)
    if "input_tokens" not in usage or "prompt_tokens" in usage:
        return usage_columns(usage)
    read, written = usage.get("input_tokens_details"), usage.get("output_tokens_details")
    return {
        "input_tokens": as_int(usage.get("input_tokens")),
        "output_tokens": as_int(usage.get("output_tokens")),
        "reasoning_tokens": as_int(as_object(written).get("reasoning_tokens")),
        "cached_tokens": as_int(as_object(read).get("cached_tokens")),
    }


def _stop_reason(response: Object) -> str | None:
    choice = as_object(next(iter(as_array(response.get("choices"))), None))
    cut = as_object(response.get("incomplete_details"))
    return as_text(choice.get("finish_reason") or cut.get("reason") or response.get("status"))


def _is_cut(text: str, raw: str | None) -> bool | None:
    """Whether the framework left out the middle: its own mark, unless the raw output is all there."""
    if raw is not None and raw.strip() in text:
        return False
    return True if _CUT in text else None
