"""What an OpenHands V1 conversation says of itself as a whole: state, statistics, and history.

State and statistics come from ``base_state.json`` and from the updates among the events, of which
the latest counts; what the history lost, from the condensations.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

from loaders.context import Range, merge
from loaders.rows import metadata_of
from loaders.run import Run
from loaders.values import (
    Object,
    as_array,
    as_float,
    as_int,
    as_object,
    as_text,
    total,
)

_PARAMS = (
    *("temperature", "top_p", "top_k", "seed", "max_input_tokens", "max_output_tokens"),
    *("reasoning_effort", "reasoning_summary", "enable_encrypted_reasoning"),
    *("extended_thinking_budget", "native_tool_calling", "caching_prompt", "litellm_extra_body"),
)
_TOLD = ("id", "agent", "workspace", "stats", "execution_status", "agent_status")
_TOLD_OF_AGENT = ("kind", "llm")
_TOLD_OF_LLM = ("model", "api_key", *_PARAMS)
_OUTCOMES = {"error": "error", "stuck": "limit"}
_MOST_RANGES = 100  # a history in more pieces than that is not told


class State:
    """The state of a conversation as far as it is known; empty where the log has none."""

    def __init__(self, record: Object) -> None:
        self.record = record

    def update(self, key: str | None, value: Any) -> None:
        """Take a state update from the events."""
        if key == "full_state":
            self.record = {**self.record, **as_object(value)}
        elif key is not None:
            self.record = {**self.record, key: value}

    def step_columns(self, response: str | None, ended_at: datetime | None) -> dict[str, Any]:
        """Columns of the model call that gave this response, once all updates are taken."""
        usage = self._usages.get(response or "", {})
        latency = self._latencies.get(response or "", {})
        return {
            "model": as_text(usage.get("model")),
            "started_at": _earlier(ended_at, as_float(latency.get("latency"))),
            "ended_at": ended_at,
            **_tokens(usage),
        }

    def describe(self, run: Run, facts: Object) -> None:
        """Set what is known of the whole run, its end apart; ``facts`` those from its events."""
        agent = as_object(self.record.get("agent"))
        workspace = as_object(self.record.get("workspace"))
        llm, metrics = as_object(agent.get("llm")), self._metrics
        models = {as_text(part.get("model_name")) for part in metrics.values()}
        usages = {
            name: as_object(part.get("accumulated_token_usage")) for name, part in metrics.items()
        }
        sums = [_tokens(usage) for usage in usages.values()]
        run.environment(
            cwd=as_text(workspace.get("working_dir")) or facts.get("cwd"),
            workspace=as_text(workspace.get("kind")),
        )
        more = {
            "agent_settings": metadata_of(agent, _TOLD_OF_AGENT),
            "llm": metadata_of(llm, _TOLD_OF_LLM),
            "workspace": metadata_of(workspace, ("working_dir", "kind")),
            "apis": sorted(facts.get("apis", ())),
            "critic": facts.get("critic"),
            "errors": facts.get("errors"),
            "max_iterations": facts.get("max_iterations", self.record.get("max_iterations")),
            "security_risks": facts.get("security_risks"),
        }
        run.set(
            native_id=as_text(self.record.get("id")),
            model=as_text(llm.get("model")) or (models.pop() if len(models) == 1 else None),
            cost_usd=sum(as_float(p.get("accumulated_cost")) or 0 for p in metrics.values())
            or None,
            params={key: llm[key] for key in _PARAMS if llm.get(key) is not None},
            metadata={
                **metadata_of(self.record, _TOLD),
                "agent": as_text(agent.get("kind")),
                "usage": usages or None,
                **{key: value for key, value in more.items() if value},
            },
            **{name: total(*(part[name] for part in sums)) for name in _tokens({})},
        )

    def end(self, stop: tuple[str, str] | None) -> tuple[str | None, str | None]:
        """Outcome and reason; ``stop`` those of the last error, which counts if it ended the run."""
        status = as_text(self.record.get("execution_status"))
        status = status or as_text(self.record.get("agent_status"))
        if stop is not None and status in (None, *_OUTCOMES):
            return stop
        return _OUTCOMES.get(status or ""), status

    @cached_property
    def _usages(self) -> dict[str, Object]:
        return dict(self._by_response("token_usages"))

    @cached_property
    def _latencies(self) -> dict[str, Object]:
        return dict(self._by_response("response_latencies"))

    @property
    def _metrics(self) -> dict[str, Object]:
        stats = as_object(self.record.get("stats"))
        by_usage = as_object(stats.get("usage_to_metrics") or stats.get("service_to_metrics"))
        return {name: as_object(part) for name, part in by_usage.items()}

    def _by_response(self, key: str) -> Iterator[tuple[str, Object]]:
        for part in self._metrics.values():
            for row in map(as_object, as_array(part.get(key))):
                response = as_text(row.get("response_id"))
                if response:
                    yield response, row


class History:
    """Which events of a run the next model call still sees, once some were condensed."""

    def __init__(self) -> None:
        self._seqs: dict[str, Range] = {}
        self._kept: list[Range] | None = None
        self._kept_until = 0
        self._is_lost = False
        self._is_condensed = False

    def add(self, identity: str, start: int, stop: int) -> None:
        """An event of the log was told as these of the run."""
        self._seqs[identity] = (start, stop)

    def condense(self, summary: int, forgotten: Iterable[str]) -> None:
        """The events of these ids leave the history; the summary, of this ``seq``, joins it."""
        self._is_condensed = True
        if self._is_lost:
            return
        before = merge([*(self._kept or []), (self._kept_until, summary)])
        holes = merge(self._seqs[name] for name in forgotten if name in self._seqs)
        self._kept = [*_without(before, holes), (summary, summary + 1)]
        self._kept_until = summary + 1
        self._is_lost = len(self._kept) > _MOST_RANGES

    def before_call(self, seq: int) -> tuple[list[Range] | None, str | None]:
        """Context and edit of the call that begins now; None and None before any condensation."""
        edit = "compacted" if self._is_condensed else None
        if self._kept is None or self._is_lost:
            return None, edit
        return [*self._kept, (self._kept_until, seq)], edit


def _without(ranges: list[Range], holes: list[Range]) -> Iterator[Range]:
    """What is left of ascending ranges outside of ascending holes."""
    remaining = iter([*holes, (sys.maxsize, sys.maxsize)])
    hole = next(remaining)
    for start, stop in ranges:
        while hole[1] <= start:
            hole = next(remaining)
        while hole[0] < stop:
            if start < hole[0]:
                yield start, hole[0]
            start = hole[1]
            if start >= stop:
                break
            hole = next(remaining)
        if start < stop:
            yield start, stop


def _tokens(usage: Object) -> dict[str, int | None]:
    """Token columns; the framework writes 0 reasoning tokens where the provider tells none."""
    return {
        "input_tokens": as_int(usage.get("prompt_tokens")),
        "output_tokens": as_int(usage.get("completion_tokens")),
        "reasoning_tokens": as_int(usage.get("reasoning_tokens")) or None,
        "cached_tokens": as_int(usage.get("cache_read_tokens")),
    }


def _earlier(at: datetime | None, seconds: float | None) -> datetime | None:
    try:
        return None if at is None or seconds is None else at - timedelta(seconds=seconds)
    except OverflowError:
        return None
