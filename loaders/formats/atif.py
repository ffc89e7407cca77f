"""Harbor's Agent Trajectory Interchange Format (ATIF), versions 1.0 to 1.8.

A run per document, and one per embedded subagent. An agent's step is a model call, unless its
``llm_call_count`` is 0; one that was copied from an earlier document (``is_copied_context``) is told
as context and is no call of this run. Some writers have ``usage`` in place of ``metrics``, and the
visible reply in ``extra.response``, beside a ``message`` that holds the model's analysis.

What the format has no field for, and a writer keeps in ``extra``, is told where that follows the names
of the schema: see ``_atif_extra``. Other keys of ``extra`` are kept in the metadata of the run.

A result without ``source_call_id`` answers the step's next call that no other result names.
``is_error`` is null unless ``extra`` has it: the format has no such flag. Steps have one timestamp
each, of which the format does not say whether the call began or ended then: it is that of the events.

The outcome lies beside: ``../result.json`` of the trial, else ``../verifier/reward.txt``. It is that
of ``trajectory.json`` alone, not of its continuations and subagents in files of their own. A reward
is a success where it is 1, a failure where it is 0.
"""

from __future__ import annotations

from collections import Counter, deque

from loaders.builder import Builder
from loaders.dialects.openai_chat import text_and_media, tool_definitions
from loaders.errors import UnreadableRecord
from loaders.formats import _atif_extra as extra
from loaders.formats._atif_extra import Block, Rest, without
from loaders.formats._atif_trial import REWARDS, Trial
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
    is_object,
    place_of,
    total,
)

TITLE = "Harbor ATIF trajectory"
GIVES = ("thinking", "tools", "tokens", "outcome")
IGNORED = {
    "/**/steps/*/step_id": "the running number of the step, which its place tells",
    "/**/final_metrics/total_steps": "the number of the steps, which can be counted",
    "/**/steps/*/extra/raw_content/**": "the text that message, calls and reply were parsed from",
    "/**/steps/*/metrics/*_token_ids/**": "the tokens of texts that the run shows, for training",
    "/**/steps/*/metrics/logprobs/**": "how likely each token was, for training; no event rests on it",
    "/**/tool_definitions/*/type": "every tool on offer is a function",
    "/**/subagent_trajectory_ref/*/trajectory_path": "the id beside it names the run that it leads to",
    "reward.*#**": "the result of the trial repeats the reward; where it is absent, it is told",
}

_MAIN = "trajectory.json"
_KINDS = ("error", "compaction", "other")
_SUMS = {
    "input_tokens": "total_prompt_tokens",
    "output_tokens": "total_completion_tokens",
    "cached_tokens": "total_cached_tokens",
}
# fmt: off
_TOLD = (
    "schema_version", "agent", "steps", "final_metrics", "trajectory_id", "extra",
    "subagent_trajectories",
)
_TOLD_OF_AGENT = ("name", "version", "model_name", "tool_definitions")
_TOLD_OF_STEP = (
    "step_id", "timestamp", "source", "message", "model_name", "reasoning_content",
    "reasoning_effort", "tool_calls", "observation", "metrics", "usage", "extra", "llm_call_count",
    "is_copied_context",
)
_TOLD_OF_CALL = ("tool_call_id", "function_name", "arguments", "extra")
_TOLD_OF_RESULT = ("source_call_id", "content", "subagent_trajectory_ref", "extra")
_TOLD_OF_METRICS = (
    "prompt_tokens", "completion_tokens", "cached_tokens", "cache_tokens", "prompt_token_ids",
    "completion_token_ids", "logprobs",
)
# fmt: on


def sniff(head: Head) -> bool:
    """An object that names a version of the format."""
    return (as_text(head.first.get("schema_version")) or "").startswith("ATIF-v")


def companion(head: Head) -> bool:
    """What Harbor writes of a trial beside its trajectory: the result, and the verifier's reward."""
    if head.filename == "result.json":
        return {"task_name", "trial_name"} <= head.keys
    return head.filename in REWARDS and head.name.split("/")[-2:-1] == ["verifier"]


def read(source: Source, out: Builder) -> None:
    """One run per document, each followed by its embedded subagents."""
    trial = Trial(source, out) if source.filename == _MAIN else None
    for place, record in source.records():
        queue = deque([(place, record)])
        while queue:
            pos, document = queue.popleft()
            with out.record(pos):
                run = _read_document(as_object(document), pos, source, out)
                if trial is not None and pos == place:
                    trial.write(run)
            children = as_array(as_object(document).get("subagent_trajectories"))
            queue.extend(
                (f"{pos}/subagent_trajectories/{index}", child)
                for index, child in enumerate(children)
            )


# ---------------------------------------------------------------------- a document


def _read_document(document: Object, pos: str, source: Source, out: Builder) -> Run:
    agent = as_object(document.get("agent"))
    steps = as_array(document.get("steps"))
    known_steps = [step for step in steps if is_object(step)]
    version = as_text(agent.get("version"))
    sums = as_object(document.get("final_metrics"))
    run = out.trajectory(
        native_id=as_text(document.get("trajectory_id")) or as_text(document.get("session_id")),
        pos=pos,
        format_version=as_text(document.get("schema_version")),
        framework=as_text(agent.get("name")),
        framework_version=None if version == "unknown" else version,
        model=as_text(agent.get("model_name")),
        **_sums(sums),
        cost_usd=_cost(sums, known_steps),
        params=_params(known_steps),
    )
    rest = Rest()
    beside = extra.tell_run(run, as_object(document.get("extra")))
    definitions = as_array(agent.get("tool_definitions"))
    if definitions:
        run.tools(tool_definitions(definitions))
    for index, step in enumerate(steps):
        place = f"{pos}/steps/{index}"
        with out.record(place):
            if not is_object(step):
                raise UnreadableRecord("no step", place)
            if (as_int(step.get("llm_call_count")) or 0) > 1:
                source.doubt(place, "a step stands for several model calls: they count as one")
            _Step(run, step, place, rest).write()
    facts = {**_facts(document, agent, sums, known_steps), "beside": rest.found}
    run.set(metadata=extra.with_metadata(facts, beside))
    return run


def _sums(sums: Object) -> Object:
    beside = as_object(sums.get("extra"))
    return {
        **{column: as_int(sums.get(key)) for column, key in _SUMS.items()},
        "reasoning_tokens": as_int(beside.get("reasoning_tokens")),
    }


def _facts(document: Object, agent: Object, sums: Object, steps: list[Object]) -> Object:
    """What is worth keeping of a document and has no column."""
    facts = without(document, _TOLD)
    facts["agent"] = without(agent, _TOLD_OF_AGENT)
    summed = {column: total(*(_tokens(step)[column] for step in steps)) for column in _SUMS}
    told = [key for column, key in _SUMS.items() if summed[column] in (None, sums.get(key))]
    facts["final_metrics"] = without(sums, (*told, "total_cost_usd", "total_steps"))
    return {key: value for key, value in facts.items() if value not in (None, {}, [])}


def _params(steps: list[Object]) -> Object | None:
    effort = next((e for step in steps if (e := as_name(step.get("reasoning_effort")))), None)
    return {"reasoning_effort": effort} if effort else None


def _cost(sums: Object, steps: list[Object]) -> float | None:
    """The total, or the sum over steps; writers without prices put 0 there."""
    stated = as_float(sums.get("total_cost_usd"))
    costs = (as_float(_metrics(step).get("cost_usd")) for step in steps)
    summed = sum(cost for cost in costs if cost is not None)
    return stated if stated is not None else summed or None


def _metrics(step: Object) -> Object:
    return as_object(step.get("metrics")) or as_object(step.get("usage"))


def _tokens(step: Object) -> dict[str, int | None]:
    metrics = _metrics(step)
    beside = as_object(metrics.get("extra"))
    details = as_object(beside.get("completion_tokens_details"))
    return {
        "input_tokens": as_int(metrics.get("prompt_tokens")),
        "output_tokens": as_int(metrics.get("completion_tokens")),
        "cached_tokens": as_int(metrics.get("cached_tokens", metrics.get("cache_tokens"))),
        "reasoning_tokens": as_int(beside.get("reasoning_tokens", details.get("reasoning_tokens"))),
    }


# ---------------------------------------------------------------------- a step


class _Step:
    """One step, while it is told; ``_left`` what nothing has taken yet of its ``extra``."""

    def __init__(self, run: Run, step: Object, pos: str, rest: Rest) -> None:
        self._run, self._step, self._pos, self._rest = run, step, pos, rest
        self._left = dict(as_object(step.get("extra")))
        self._at = as_time(step.get("timestamp"))
        self._calls: dict[str | None, deque[int]] = {}
        self._is_timed = self._at is None
        """Whether an event has the step's time."""

    def write(self) -> None:
        """Tell its events, and keep what has no column."""
        step, pos = self._step, self._pos
        if step.get("source") == "agent":
            self._write_agent()
        else:
            self._write_other()
        self._write_results()
        self._left.pop("raw_content", None)
        if not self._is_timed:
            self._rest.add(pos, {"timestamp": step.get("timestamp")})
        self._rest.add(pos, without(step, _TOLD_OF_STEP))
        self._rest.add(f"{pos}/extra", self._left)
        self._rest.add(f"{pos}/metrics", without(_metrics(step), _TOLD_OF_METRICS))
        extra.rest_of_parts(step.get("message"), f"{pos}/message", self._rest)

    def _write_other(self) -> None:
        run, place = self._run, place_of(self._step, "message", self._pos)
        text, media = text_and_media(self._step.get("message"))
        columns, self._left = self._columns(self._left, media)
        source = self._step.get("source")
        if source == "user":
            run.user(text, place, **columns)
        elif source != "system":
            columns.setdefault("actor", as_text(source))
            run.event("other", text, place, **columns)
        elif self._left.get("kind") in _KINDS:
            run.event(self._left.pop("kind"), text, place, **columns)
        else:
            run.system(text, place, **columns)

    def _columns(self, found: object, media: list[str] | None = None) -> tuple[Object, Object]:
        """Columns that an event's ``extra`` has values for, and what is left of it."""
        columns, left = extra.of_event(as_object(found), self._at, media)
        self._is_timed |= columns["at"] == self._at
        return columns, left

    def _write_agent(self) -> None:
        run, step, pos = self._run, self._step, self._pos
        if step.get("llm_call_count") != 0 and not as_bool(step.get("is_copied_context")):
            model = as_text(step.get("model_name"))
            self._left = extra.begin_step(run, self._left, pos, model=model, **_tokens(step))
        thoughts = extra.thoughts(run, step, self._left, pos, self._at)
        texts = extra.texts(run, step, self._left, pos, self._at)
        reply = as_text(self._left.get("response"))
        if reply is not None:
            del self._left["response"]
        if reply and reply != step.get("message"):
            texts.append(Block(reply, f"{pos}/extra/response", {"at": self._at}))
        self._is_timed |= any(block.columns["at"] == self._at for block in (*thoughts, *texts))
        calls = self._known("tool_calls", step.get("tool_calls"), "no tool call")
        counts = Counter(thinking=len(thoughts), message=len(texts), tool_call=len(calls))
        blocks = {"thinking": iter(thoughts), "message": iter(texts)}
        waiting = iter(calls)
        for kind in extra.order(self._left, counts):
            if kind == "tool_call":
                self._write_call(*next(waiting))
                continue
            block = next(blocks[kind])
            write = run.thinking if kind == "thinking" else run.message
            write(block.text, block.pos, **block.columns)

    def _known(self, name: str, items: object, reason: str) -> list[tuple[str, Object]]:
        """The objects of a list, each with its place; anything else is a problem."""
        found: list[tuple[str, Object]] = []
        for index, item in enumerate(as_array(items)):
            place = f"{self._pos}/{name}/{index}"
            if is_object(item):
                found.append((place, item))
            else:
                self._run.problem(place, reason)
        return found

    def _write_call(self, pos: str, call: Object) -> None:
        columns, left = self._columns(call.get("extra"))
        call_id = as_name(call.get("tool_call_id"))
        more, left = extra.told(left, {"call_id": as_text})
        arguments = call.get("arguments")
        if "arguments" in left and arguments in ({}, {"input": left["arguments"]}):
            arguments = left.pop("arguments")  # the format demands an object: this was none
        name = as_text(call.get("function_name"))
        seq = self._run.call(name, arguments, pos, **{"call_id": call_id, **more}, **columns)
        self._calls.setdefault(call_id, deque()).append(seq)
        self._rest.add(pos, without(call, _TOLD_OF_CALL))
        self._rest.add(f"{pos}/extra", left)

    def _write_results(self) -> None:
        """The step's observation. A result without an id answers the next call that none names."""
        observation = as_object(self._step.get("observation"))
        results = self._known("observation/results", observation.get("results"), "no result")
        named = {as_name(result.get("source_call_id")) for _, result in results} - {None}
        others = (seqs for name, seqs in self._calls.items() if name not in named)
        unnamed = deque(sorted(seq for seqs in others for seq in seqs))
        for place, result in results:
            self._write_result(place, result, unnamed)

    def _write_result(self, pos: str, result: Object, unnamed: deque[int]) -> None:
        run = self._run
        text, media = text_and_media(result.get("content"))
        columns, left = self._columns(result.get("extra"), media)
        call_id = as_name(result.get("source_call_id"))
        place = place_of(result, "content", pos)
        if call_id is None and not self._calls and self._step.get("source") != "agent":
            columns.setdefault("actor", "environment")
            seq = run.event("other", text, place, **columns)
        else:
            own = self._calls.get(call_id) if call_id is not None else unnamed
            readers = {"is_error": as_bool, "tool": as_text, "call_id": as_text}
            more, left = extra.told(left, readers)
            more.setdefault("call_id", call_id)
            answers = own.popleft() if own else None
            seq = run.result(text, place, answers=answers, **more, **columns)
        for reference in as_array(result.get("subagent_trajectory_ref")):
            reference = as_object(reference)
            child = as_text(reference.get("trajectory_id")) or as_text(reference.get("session_id"))
            if child:
                run.spawned(child, seq)
        self._rest.add(pos, without(result, _TOLD_OF_RESULT))
        self._rest.add(f"{pos}/extra", left)
        extra.rest_of_parts(result.get("content"), f"{pos}/content", self._rest)
