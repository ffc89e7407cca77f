"""Harbor's Agent Trajectory Interchange Format (ATIF): a JSON file for each run.

A model call is one agent's step: its thinking, its text and its calls, each put together, with the
results of these calls beside them, whenever they came. What the log ascribes to no model call is an
agent's step with ``llm_call_count`` 0, or a copied one where it holds thinking, which such a step
must not. A result without a call is an agent's step of its own that has nothing else. Errors,
compactions and other events are the system's.

Only thinking that the log shows in full is ``reasoning_content``. Summaries, and thinking that is
hidden or redacted, stand in the step's ``extra.thinking``, a list of all its blocks in order: state,
signature, and either the text or, for a block of ``reasoning_content``, how many characters it has.

A subagent's run is a file of its own. The result that it came from refers to it by id and file name.
"""

from __future__ import annotations

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
_IN_EXTRA = "no field: kept in extra"
_IN_METRICS = "no field: kept in extra of the metrics"
_SOURCES = {"user": "user", "system": "system"}
# fmt: off
_KEPT_OF_RUN = (
    "parent_id", "parent_seq", "source", "source_hash", "format", "format_version",
    "provider", "benchmark", "task_id", "trial", "arm", "started_at", "ended_at", "outcome",
    "success", "score", "scores", "end_reason",
)
_KEPT_OF_STEP = (
    "agent", "ended_at", "stop_reason", "error", "thinking_sent", "evidence", "history_edit",
)
_KEPT_OF_EVENT = ("actor", "error_type", "exit_code", "truncated", "duration_s", "injected", "media")
_REASONING = ("reasoning_tokens",)
_KEPT_OF_CALL = ("started_at", *_KEPT_OF_EVENT)
_KEPT_OF_RESULT = ("started_at", "is_error", *_KEPT_OF_EVENT)
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
        for name in ("params", "metadata"):
            if row[name] is not None:
                kept[name] = decoded(row[name])
                self._losses.add(f"trajectories.{name}", _IN_EXTRA)
        return kept | kept_labels(self._run, self._losses, _IN_EXTRA)

    # ------------------------------------------------------------------ steps

    def _add(self, source: str, row: Object, seqs: list[int], **fields: Any) -> Object:
        at = row["started_at"]
        step = {
            "step_id": len(self._steps) + 1,
            "timestamp": None if at is None else at.isoformat(),
            "source": source,
            **fields,
        }
        self._steps.append(_known(step))
        self._seqs.append(seqs)
        return self._steps[-1]

    def _add_reply(self, reply: Reply) -> None:
        thoughts, texts, calls = (reply.of(k) for k in ("thinking", "message", "tool_call"))
        step = self._add(
            "agent",
            self._timed(reply),
            [event["seq"] for event in (*thoughts, *texts, *calls)],
            message=self._joined(texts, "message"),
            reasoning_content=self._reasoning(thoughts) or None,
            tool_calls=[self._call(call) for call in calls] or None,
            extra=self._extra_of_reply(reply) or None,
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
        """The first row that has a time: the model call's, or that of an event of it."""
        rows = [reply.step] if reply.step is not None else []
        timed = (row for row in (*rows, *reply.events) if row["started_at"] is not None)
        first = next(timed, {"started_at": None})
        for event in reply.events:
            at = event["started_at"]
            if event["kind"] != "tool_call" and at not in (None, first["started_at"]):
                self._losses.add("events.started_at", "left out: a step has one time", event)
        return first

    def _joined(self, events: list[Object], kind: str) -> str:
        for event in events:
            if not event["text"]:
                self._losses.add(f"{kind} without text", "left out: a step has one text", event)
        told = [event for event in events if event["text"]]
        if len(told) > 1:
            reason = "put together: a step has one text of this kind"
            self._losses.add(f"{kind} boundaries", reason, told[1], count=len(told) - 1)
        return _BETWEEN.join(event["text"] for event in told)

    def _reasoning(self, thoughts: list[Object]) -> str:
        """What the log shows of the thinking itself."""
        for event in thoughts:
            state = event["thinking_state"]
            if state == "tagged_in_text":
                reason = "told as reasoning_content: its state is kept in extra.thinking"
                self._losses.add(f"thinking {state}", reason, event)
            elif state != "text":
                self._losses.add(f"thinking {state}", "no field: kept in extra.thinking", event)
        return self._joined([event for event in thoughts if _is_shown(event)], "thinking")

    def _extra_of_reply(self, reply: Reply) -> Object:
        extra: Object = {}
        thoughts = reply.of("thinking")
        is_plain = len(thoughts) < 2 and all(
            event["thinking_state"] == "text" and event["signature"] is None for event in thoughts
        )
        if not is_plain:
            extra["thinking"] = [self._block(event) for event in thoughts]
        if reply.step is not None:
            extra |= self._losses.keep("steps", reply.step, _KEPT_OF_STEP, _IN_EXTRA)
            for name in ("context", "thinking_context"):
                if reply.step[name] is not None:
                    self._losses.add(f"steps.{name}", LEFT_OUT, reply.step)
        beside = [
            {"kind": event["kind"], **kept}
            for event in reply.events
            if event["kind"] != "tool_call" and (kept := self._kept(event))
        ]
        return {**extra, "events": beside} if beside else extra

    def _block(self, event: Object) -> Object:
        if event["signature"] is not None:
            reason = "no field: kept in extra.thinking"
            self._losses.add("events.signature", reason, event)
        text = event["text"]
        if _is_shown(event):
            content: Object = {"chars": len(text or "")}
        else:
            content = {"text": text} if text is not None else {}
        signed = _known({"signature": event["signature"]})
        return {"state": event["thinking_state"], **content, **signed}

    def _call(self, call: Object) -> Object:
        return _known(
            {
                "tool_call_id": self._ids.of_call(call),
                "function_name": tool_of(call, self._losses),
                "arguments": arguments_of(call, self._losses),
                "extra": self._losses.keep("events", call, _KEPT_OF_CALL, _IN_EXTRA) or None,
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
        step = self._step_of_call.get(event["call_seq"])
        result = {
            "content": event["text"],
            "extra": self._losses.keep("events", event, _KEPT_OF_RESULT, _IN_EXTRA) or None,
        }
        if step is None:
            result["extra"] = _known({**(result["extra"] or {}), "call_id": event["call_id"]})
            self._losses.add("tool_result without a call", "told as a step of its own", event)
            if event["call_id"] is not None:
                self._losses.add("events.call_id", _IN_EXTRA, event)
            step = self._add("agent", event, [], message="", llm_call_count=0)
        else:
            result["source_call_id"] = self._ids.of_result(event)
            if event["tool"] not in (None, self._tools[event["call_seq"]]):
                self._losses.add("events.tool", "left out: the call's tool is told", event)
        result = _known(result)
        observation: dict[str, list[Object]] = step.setdefault("observation", {"results": []})
        observation["results"].append(result)
        self._seqs[int(step["step_id"]) - 1].append(event["seq"])
        self._results[event["seq"]] = result
        if event["call_seq"] is not None:
            self._results.setdefault(event["call_seq"], result)

    def _add_other(self, event: Object) -> None:
        extra = self._kept(event)
        if event["kind"] not in _SOURCES:
            extra["kind"] = event["kind"]
            reason = "told as the system's step: its kind is kept in extra"
            self._losses.add(f"kind {event['kind']}", reason, event)
        source = _SOURCES.get(event["kind"], "system")
        self._add(source, event, [event["seq"]], message=event["text"] or "", extra=extra or None)

    def _kept(self, event: Object) -> Object:
        return self._losses.keep("events", event, _KEPT_OF_EVENT, _IN_EXTRA)

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


def _known(fields: Object) -> Object:
    return {name: value for name, value in fields.items() if value is not None}
