"""Harbor's Agent Trajectory Interchange Format (ATIF): a JSON file for each run.

A model call is one agent's step: its thinking, its text and its calls, each put together, with the
results of these calls beside them, whenever they came. What the log ascribes to no model call is an
agent's step with ``llm_call_count`` 0, or a copied one where it holds thinking, which such a step
must not. A result without a call is an agent's step of its own that has nothing else. Errors,
compactions and other events are the system's.

Only thinking that the log shows in full is ``reasoning_content``. Summaries, and thinking that is
hidden or redacted, stand in the step's ``extra.thinking``, a list of all its blocks in order: state,
signature, and either the text or, for a block of ``reasoning_content``, how many characters it has.
``extra.messages`` tells the same of several texts, ``extra.order`` in which order the kinds came where
that is another one. Other keys of ``extra`` are columns of the schema. What is kept in these ways is
listed as a loss all the same, for other readers of ATIF don't know it; ours reads it back.

A subagent's run is a file of its own. The result that it came from refers to it by id and file name.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from loaders.exports._files import stem
from loaders.exports._report import LEFT_OUT, Losses
from loaders.exports._runs import OneRun, decoded
from loaders.exports._turns import (
    CallIds,
    Reply,
    arguments_of,
    definitions,
    kept_labels,
    note_order,
    tool_of,
    turns,
)
from loaders.values import Object

TITLE = "Harbor ATIF trajectories"
VERSIONS = ("1.8", "1.7")

_BETWEEN = "\n\n"
_IN_EXTRA = "no field: kept in extra, from where it is read back"
_IN_METRICS = "no field: kept in extra of the metrics, from where it is read back"
_OF_THIS_FILE = "no field: kept in extra"
_SOURCES = {"user": "user", "system": "system"}
# fmt: off
_KEPT_OF_RUN = (
    "parent_id", "provider", "benchmark", "task_id", "trial", "arm", "started_at", "ended_at",
    "outcome", "success", "score", "scores", "end_reason",
)
_KEPT_OF_ORIGIN = ("parent_seq", "source", "source_hash", "format", "format_version")
_KEPT_OF_STEP = (
    "agent", "started_at", "ended_at", "stop_reason", "error", "thinking_sent", "evidence", "history_edit",
)
_KEPT_OF_EVENT = ("actor", "error_type", "exit_code", "truncated", "duration_s", "injected", "media")
_REASONING = ("reasoning_tokens",)
_KEPT_OF_RESULT = ("is_error", *_KEPT_OF_EVENT)
_EMITTED = ("thinking", "message", "tool_call")
# fmt: on


def write(runs: Any, path: Path, version: str, losses: Losses) -> list[Path]:
    """A file for each run that has a step; the format knows none without."""
    path.mkdir(exist_ok=True)
    paths: list[Path] = []
    for run in runs:
        losses.begin(run.id)
        document = _Document(run, losses).written(version)
        if not document["steps"]:
            losses.refuse("it has no event and no model call")
            continue
        file = path / f"{stem(run.id)}.json"
        file.write_bytes(msgspec.json.format(msgspec.json.encode(document), indent=1))
        losses.runs += 1
        paths.append(file)
    return paths


class _Document:
    """One run, while its steps are put together."""

    def __init__(self, run: OneRun, losses: Losses) -> None:
        self._run = run
        self._losses = losses
        self._ids = CallIds(losses)
        self._steps: list[Object] = []
        self._step_of_call: dict[int, Object] = {}
        self._tools: dict[int, str | None] = {}
        self._results: dict[int, Object] = {}
        self._seqs: list[list[int]] = []
        """Of each step the events that it tells, in the order in which it has them."""

    def written(self, version: str) -> Object:
        """The whole document."""
        run = self._run.row
        for turn in turns(self._run):
            if isinstance(turn, Reply):
                self._add_reply(turn)
            elif turn["kind"] == "tool_result":
                self._add_result(turn)
            else:
                self._add_other(turn)
        self._refer_to_subagents()
        note_order((seq for seqs in self._seqs for seq in seqs), self._losses)
        return {
            "schema_version": f"ATIF-v{version}",
            "session_id": run["native_id"] or self._run.id,
            "trajectory_id": self._run.id,
            "agent": self._agent(),
            "steps": self._steps,
            "final_metrics": self._final_metrics(),
            "extra": self._extra_of_run(),
        }

    # ------------------------------------------------------------------ the run

    def _agent(self) -> Object:
        row = self._run.row
        for name, column in (("framework", "name"), ("framework_version", "version")):
            if row[name] is None:
                self._losses.add(f"trajectories.{name}", f"not known: the {column} is 'unknown'")
        agent = {
            "name": row["framework"] or "unknown",
            "version": row["framework_version"] or "unknown",
            "model_name": row["model"],
            "tool_definitions": definitions(self._run, self._losses),
        }
        return _known(agent)

    def _final_metrics(self) -> Object:
        row = self._run.row
        return _known(
            {
                "total_prompt_tokens": row["input_tokens"],
                "total_completion_tokens": row["output_tokens"],
                "total_cached_tokens": row["cached_tokens"],
                "total_cost_usd": row["cost_usd"],
                "total_steps": len(self._steps),
                "extra": self._losses.keep("trajectories", row, _REASONING, _IN_METRICS) or None,
            }
        )

    def _extra_of_run(self) -> Object:
        row = self._run.row
        kept = self._losses.keep("trajectories", row, _KEPT_OF_RUN, _IN_EXTRA)
        kept |= self._losses.keep("trajectories", row, _KEPT_OF_ORIGIN, _OF_THIS_FILE)
        for name in ("params", "metadata"):
            if row[name] is not None:
                kept[name] = decoded(row[name])
                self._losses.add(f"trajectories.{name}", _IN_EXTRA)
        return kept | kept_labels(self._run, self._losses, _OF_THIS_FILE)

    # ------------------------------------------------------------------ steps

    def _add(self, source: str, row: Object, seqs: list[int], **fields: Any) -> Object:
        step = {
            "step_id": len(self._steps) + 1,
            "timestamp": _iso(row["started_at"]),
            "source": source,
            **fields,
        }
        self._steps.append(_known(step))
        self._seqs.append(seqs)
        return self._steps[-1]

    def _add_reply(self, reply: Reply) -> None:
        thoughts, texts, calls = (reply.of(kind) for kind in _EMITTED)
        timed = self._timed(reply)
        extra = {
            **self._thinking(reply, timed),
            **self._messages(texts, timed),
            **self._order(reply),
            **self._extra_of_step(reply.step),
        }
        step = self._add(
            "agent",
            timed,
            [event["seq"] for event in reply.events],
            message=_joined(texts),
            reasoning_content=_joined([event for event in thoughts if _is_shown(event)]) or None,
            tool_calls=[self._call(call, timed) for call in calls] or None,
            extra=extra or None,
        )
        if reply.step is not None:
            metrics = self._metrics(reply.step)
            step.update(_known({"model_name": reply.step["model"], "metrics": metrics or None}))
            step["llm_call_count"] = 1
        elif "reasoning_content" in step:
            step["is_copied_context"] = True
        else:
            step["llm_call_count"] = 0
        for call in calls:
            self._step_of_call[call["seq"]] = step
            self._tools[call["seq"]] = call["tool"]

    def _timed(self, reply: Reply) -> Object:
        """The first row that has a time: that of an event, or the model call's."""
        rows = [*reply.events, *([] if reply.step is None else [reply.step])]
        timed = (row for row in rows if row["started_at"] is not None)
        return next(timed, {"started_at": None})

    def _thinking(self, reply: Reply, timed: Object) -> Object:
        """All blocks of thinking, unless there is but one that needs no more than its text."""
        thoughts = reply.of("thinking")
        for event in thoughts:
            state = event["thinking_state"]
            if state == "tagged_in_text":
                reason = "told as reasoning_content: its state is kept in extra, and read back"
                self._losses.add(f"thinking {state}", reason, event)
            elif state != "text":
                self._losses.add(f"thinking {state}", _IN_EXTRA, event)
        blocks = [self._thought(event, timed) for event in thoughts]
        self._note_boundaries([event for event in thoughts if _is_shown(event)], "thinking")
        if len(blocks) == 1 and thoughts[0]["text"] and blocks[0].keys() == {"state", "chars"}:
            blocks = [block for block in blocks if block["state"] != "text"]
        return {"thinking": blocks} if blocks else {}

    def _thought(self, event: Object, timed: Object) -> Object:
        self._losses.keep("events", event, ("signature",), _IN_EXTRA)
        text = event["text"]
        if _is_shown(event):
            content = {"chars": None if text is None else len(text)}
        else:
            content = {"text": text}
        known = _known({**content, "signature": event["signature"]})
        return {"state": event["thinking_state"], **known, **self._kept(event, timed)}

    def _messages(self, texts: list[Object], timed: Object) -> Object:
        """Where each text ends, and what is known of it, unless there is but one and nothing is."""
        blocks = [
            {**_known({"chars": None if event["text"] is None else len(event["text"])}), **kept}
            for event in texts
            for kept in [self._kept(event, timed)]
        ]
        self._note_boundaries(texts, "message")
        is_plain = len(blocks) == 1 and texts[0]["text"] and blocks[0].keys() == {"chars"}
        return {"messages": blocks} if blocks and not is_plain else {}

    def _note_boundaries(self, events: list[Object], kind: str) -> None:
        for event in events:
            if not event["text"]:
                self._losses.add(f"{kind} without text", _IN_EXTRA, event)
        told = [event for event in events if event["text"]]
        if len(told) > 1:
            reason = "put together: where each ends is kept in extra, and read back"
            self._losses.add(f"{kind} boundaries", reason, told[1], count=len(told) - 1)

    def _order(self, reply: Reply) -> Object:
        kinds = [event["kind"] for event in reply.events]
        if kinds == sorted(kinds, key=_EMITTED.index):
            return {}
        reason = "told by kinds: their order is kept in extra, and read back"
        self._losses.add("order within a reply", reason, reply.events[0])
        return {"order": kinds}

    def _extra_of_step(self, step: Object | None) -> Object:
        if step is None:
            return {}
        extra = self._losses.keep("steps", step, _KEPT_OF_STEP, _IN_EXTRA)
        if step["thinking"] in ("absent", "not_logged"):
            extra["thinking_state"] = step["thinking"]
            self._losses.add("steps.thinking", _IN_EXTRA, step)
        for name in ("context", "thinking_context"):
            if step[name] is not None:
                self._losses.add(f"steps.{name}", LEFT_OUT, step)
        return extra

    def _call(self, call: Object, timed: Object) -> Object:
        given = self._ids.of_call(call)
        extra = self._kept(call, timed)
        if call["call_id"] not in (None, given):
            extra["call_id"] = call["call_id"]
        arguments = arguments_of(call, self._losses)
        if decoded(call["arguments"]) != arguments:
            extra["arguments"] = decoded(call["arguments"])
        return _known(
            {
                "tool_call_id": given,
                "function_name": tool_of(call, self._losses),
                "arguments": arguments,
                "extra": extra or None,
            }
        )

    def _metrics(self, step: Object) -> Object:
        return _known(
            {
                "prompt_tokens": step["input_tokens"],
                "completion_tokens": step["output_tokens"],
                "cached_tokens": step["cached_tokens"],
                "extra": self._losses.keep("steps", step, _REASONING, _IN_METRICS) or None,
            }
        )

    def _add_result(self, event: Object) -> None:
        call = self._step_of_call.get(event["call_seq"])
        columns: tuple[str, ...] = _KEPT_OF_RESULT
        if call is None:
            self._losses.add("tool_result without a call", "told as a step of its own", event)
            step = self._add("agent", event, [], message="", llm_call_count=0)
            columns += ("tool", "call_id")
            given = None
        else:
            step, given = call, self._ids.of_result(event)
            if event["tool"] != self._tools[event["call_seq"]]:
                columns += ("tool",)
        extra = self._losses.keep("events", event, columns, _IN_EXTRA) | self._time(event, step)
        if given is not None and event["call_id"] not in (None, given):
            extra["call_id"] = event["call_id"]
        content = {"content": event["text"], "extra": extra or None}
        result = _known({"source_call_id": given, **content})
        observation: dict[str, list[Object]] = step.setdefault("observation", {"results": []})
        observation["results"].append(result)
        self._seqs[int(step["step_id"]) - 1].append(event["seq"])
        self._results[event["seq"]] = result
        if event["call_seq"] is not None:
            self._results.setdefault(event["call_seq"], result)

    def _add_other(self, event: Object) -> None:
        extra = self._kept(event, event)
        if event["kind"] not in _SOURCES:
            extra["kind"] = event["kind"]
            reason = "told as the system's step: its kind is kept in extra, and read back"
            self._losses.add(f"kind {event['kind']}", reason, event)
        source = _SOURCES.get(event["kind"], "system")
        self._add(source, event, [event["seq"]], message=event["text"] or "", extra=extra or None)

    def _kept(self, event: Object, timed: Object) -> Object:
        """What is known of an event besides its content, its time only where it is not the step's."""
        kept = self._losses.keep("events", event, _KEPT_OF_EVENT, _IN_EXTRA)
        return kept | self._time(event, {"timestamp": _iso(timed["started_at"])})

    def _time(self, event: Object, step: Object) -> Object:
        at = _iso(event["started_at"])
        if at == step.get("timestamp"):
            return {}
        if at is not None:
            self._losses.add("events.started_at", _IN_EXTRA, event)
        return {"started_at": at}

    # ------------------------------------------------------------------ subagents

    def _refer_to_subagents(self) -> None:
        for seq, children in self._run.children.items():
            result = self._results.get(seq)
            if result is None:
                reason = "no result to refer from: the subagent's own file names its parent"
                self._losses.add("subagent", reason, {"seq": seq}, count=len(children))
                continue
            result.setdefault("subagent_trajectory_ref", []).extend(
                {"trajectory_id": child, "trajectory_path": f"{stem(child)}.json"}
                for child in children
            )


def _is_shown(event: Object) -> bool:
    return event["thinking_state"] in ("text", "tagged_in_text")


def _joined(events: list[Object]) -> str:
    return _BETWEEN.join(event["text"] for event in events if event["text"])


def _iso(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()


def _known(fields: Object) -> Object:
    return {name: value for name, value in fields.items() if value is not None}
