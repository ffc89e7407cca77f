"""What a row says of a run beside its messages: outcome, identity, and what else is worth keeping."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from typing import Any, Final

from loaders.errors import UnreadableRecord
from loaders.jsontext import decode
from loaders.values import (
    Object,
    as_bool,
    as_float,
    as_int,
    as_json,
    as_name,
    as_object,
    as_text,
    is_array,
    is_object,
)

MAX_KEPT: Final = 32 << 10
"""Longest JSON text of one value that goes into metadata; longer ones are named there instead."""

_DEPTH = 4
_VERDICTS = ("resolved", "is_resolved", "success", "passed", "correct")
_SCORES = ("reward", "score")
_IDENTITY = {
    "native_id": ("traj_id", "trajectory_id", "conversation_id", "id", "uuid"),
    "task_id": ("instance_id", "task_id", "problem_id"),
    "trial": ("trial", "trial_id", "attempt", "rollout_id"),
    "model": ("model", "model_name"),
    "benchmark": ("benchmark",),
    "framework": ("framework",),
}


def identity_of(row: Object) -> dict[str, str]:
    """Columns of the trajectories table that a row names."""
    found: dict[str, str] = {}
    for column, keys in _IDENTITY.items():
        for key in keys:
            if key in row and (name := as_name(row[key])):
                found[column] = name
                break
    run = as_name(row.get("run_id"))
    if run and "native_id" not in found:  # often the name of a whole experiment
        found["native_id"] = "/".join(filter(None, (run, found.get("task_id"))))
    return found


def outcome_of(row: Object) -> dict[str, Any]:
    """What ``Run.outcome`` takes, from the fields in which rows say how the run ended.

    A reward is a success or a failure only where it is 1 or 0.

    >>> outcome_of({"reward": 0.5})["success"], outcome_of({"reward": 1})["success"]
    (None, True)
    """
    verdicts = {key: _verdict(row[key]) for key in _VERDICTS if row.get(key) is not None}
    numbers = {key: as_float(row[key]) for key in _SCORES if row.get(key) is not None}
    success = next((v for v in verdicts.values() if v is not None), None)
    reward = numbers.get("reward")
    if success is None and reward in (0, 1):
        success = reward == 1
    score = next((n for n in numbers.values() if n is not None), None)
    values = {**{k: None if v is None else float(v) for k, v in verdicts.items()}, **numbers}
    return {
        "success": success,
        "score": float(success) if score is None and success is not None else score,
        "end_reason": as_text(row.get("exit_status")),
        "scores": [(key, value, as_json(row[key])) for key, value in values.items()],
    }


def _verdict(value: Any) -> bool | None:
    known = as_bool(value)
    return bool(value) if known is None and as_int(value) in (0, 1) else known


def metadata_of(row: Object, taken: Collection[str]) -> Object:
    """The rest of a row; what is too long to be looked at in a cell is named, with its length."""
    kept: Object = {}
    left_out: dict[str, int] = {}
    for key, value in row.items():
        if key in taken or value is None:
            continue
        length = len(as_json(value) or "")
        if length <= MAX_KEPT:
            kept[key] = value
        else:
            left_out[key] = length
    if left_out:
        kept["left_out"] = left_out
    return kept


def unfolded(value: Any) -> Any:
    """An array or object that a table's column holds as JSON text; anything else as it is."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        try:
            inner = decode(value.encode("utf-8", "surrogatepass"))
        except UnreadableRecord:
            return value
        return inner if is_array(inner) or is_object(inner) else value
    return value


class Gathered:
    """What the records of a run say again and again and no column holds: each fact once, counts added.

    >>> seen = Gathered()
    >>> for _ in range(2):
    ...     seen.note("tier", "default")
    ...     seen.count({"cache_write": 3, "input": 9}, told=("input",))
    >>> seen.metadata()
    {'tier': 'default', 'usage': {'cache_write': 6}}
    """

    def __init__(self) -> None:
        self._values: dict[str, dict[str | None, Any]] = defaultdict(dict)
        self._counts: dict[str, int | float] = defaultdict(int)

    def note(self, name: str, value: Any) -> None:
        """A value of that name; what is empty says nothing."""
        if value is not None and value not in ("", [], {}):
            self._values[name].setdefault(as_json([value]), value)

    def note_all(self, values: Object, told: Collection[str] = ()) -> None:
        """All values of an object but those that are told elsewhere."""
        for name, value in values.items():
            if name not in told:
                self.note(name, value)

    def count(self, usage: Any, told: Collection[str] = (), prefix: str = "") -> None:
        """Add up the numbers of a usage that have no column; zeros say nothing."""
        for name, value in as_object(usage).items():
            if f"{prefix}{name}" in told:
                continue
            if is_object(value) and prefix.count(".") < _DEPTH:
                self.count(value, told, f"{prefix}{name}.")
            number = as_float(value)
            if number:
                whole = as_int(value)
                self._counts[f"{prefix}{name}"] += number if whole is None else whole

    def metadata(self) -> Object:
        """The facts for a run's metadata: one value as it is, several as a list."""
        kept = {
            name: next(iter(values.values())) if len(values) == 1 else [*values.values()]
            for name, values in self._values.items()
        }
        return metadata_of({**kept, **({"usage": dict(self._counts)} if self._counts else {})}, ())
