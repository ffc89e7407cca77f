"""What an Inspect log says of the whole eval: worked out once for all of its samples."""

from __future__ import annotations

from typing import Any, Final

from msgspec import Raw

from loaders.redact import redact_object
from loaders.rows import metadata_of
from loaders.values import Object, as_array, as_json, as_name, as_object, as_text

# fmt: off
_TOLD_OF_LOG: Final = (
    "version", "status", "eval", "plan", "results", "stats", "samples", "reductions", "metadata",
    "error",
)
_TOLD_OF_SPEC: Final = (
    "model", "task", "sandbox", "model_generate_config", "dataset", "packages", "metadata",
)
# fmt: on
PATIENCE: Final = 16
"""After so many samples that were not ordinary, one after the other, no more are tried."""
EMPTY: Final[tuple[object, ...]] = (None, {}, [], "")


class Eval:
    """The header of a log.

    ``columns`` of each of its runs; ``toolsets``: fingerprints of the tool definitions that its
    calls were offered, by their text; ``patience``: how many more samples are tried that may be
    ordinary.
    """

    def __init__(self, log: Object) -> None:
        spec = self.spec = as_object(log.get("eval"))
        plan = as_object(log.get("plan"))
        packages = as_object(spec.get("packages"))
        model = as_text(spec.get("model"))
        self.run_id = spec.get("run_id")
        self.status = log.get("status")
        self.has_epochs = as_object(spec.get("config")).get("epochs") not in (None, 1)
        self.columns: Object = {
            "format_version": as_name(log.get("version")),
            "framework": "inspect_ai",
            "framework_version": as_text(packages.get("inspect_ai")),
            "model": model,
            "provider": model.partition("/")[0] if model and "/" in model else None,
            "benchmark": as_text(spec.get("task")),
        }
        self._params_by_config: dict[bytes, Raw] = {}
        self._params: Object = {
            **as_object(plan.get("config")),
            **as_object(spec.get("model_generate_config")),
        }
        first = as_object(next(iter(as_array(as_object(log.get("results")).get("scores"))), None))
        self.scorer = as_text(first.get("name")) or "score"
        self.patience = PATIENCE
        self.toolsets: dict[bytes, str] = {}
        self._facts = _as_written(
            {**metadata_of(log, _TOLD_OF_LOG), **metadata_of(spec, _TOLD_OF_SPEC)}
        )
        self._later_facts = _as_written(
            {
                "dataset": metadata_of(as_object(spec.get("dataset")), ("sample_ids",)),
                "packages": metadata_of(packages, ("inspect_ai",)),
                "eval_status": log.get("status") or "started",
                "eval_error": as_object(log.get("error")).get("message"),
                "eval_metadata": log.get("metadata") or spec.get("metadata"),
                "solvers": [as_object(step).get("solver") for step in as_array(plan.get("steps"))],
                "plan": metadata_of(plan, ("config",)),
            }
        )
        self._names = self._facts.keys() | self._later_facts.keys()
        self._texts = _members(self._facts), _members(self._later_facts)

    def params(self, of_calls: Object, config: Any) -> Object | Raw:
        """Parameters of sampling of a run with these, decoded of ``config``; written if they can be."""
        text = bytes(config) if isinstance(config, Raw) else None
        if text is not None and text in self._params_by_config:
            return self._params_by_config[text]
        params = {**self._params, **of_calls}
        params = {name: value for name, value in params.items() if value is not None}
        written = _members_anew(params) if text is not None and params else None
        if text is None or written is None:
            return params
        found = self._params_by_config[text] = Raw(f"{{{written[0]}}}".encode())
        return found

    def metadata(self, own: Object, more: Object) -> Object | Raw:
        """A run's facts among those of the log, and ``more`` behind them; written if they can be.

        What is empty is left out.
        """
        names = own.keys() | more.keys()
        first, later = self._texts
        if first is not None and later is not None and self._names.isdisjoint(names):
            texts = _members_anew(own, more)
            if texts is not None and len(names) == len(own) + len(more):
                found = filter(None, (first, texts[0], later, texts[1]))
                return Raw(f"{{{','.join(found)}}}".encode())
        facts = {**self._facts, **own, **self._later_facts, **more}
        return {name: fact for name, fact in facts.items() if fact not in EMPTY}


def _as_written(facts: Object) -> Object:
    """The facts as the text that stands in the metadata of every run, where it needs no redaction."""
    written: Object = {}
    for name, fact in facts.items():
        _, count = redact_object({name: fact})
        text = None if count or fact in EMPTY else as_json([fact])
        written[name] = fact if text is None else Raw(text[1:-1].encode())
    return written


def _members(facts: Object) -> str | None:
    """What stands in the JSON object of these facts; None where something has to be redacted."""
    kept = {name: fact for name, fact in facts.items() if fact not in EMPTY}
    if not all(isinstance(fact, Raw) for fact in kept.values()):
        return None
    return (as_json(kept) or "")[1:-1]


def _members_anew(*some: Object) -> list[str] | None:
    """The same of each of these; None where something has to be redacted or can't be written."""
    kept = [{name: f for name, f in facts.items() if f not in EMPTY} for facts in some]
    try:
        is_clean = not any(redact_object(facts)[1] for facts in kept)
        return [(as_json(facts) or "")[1:-1] for facts in kept] if is_clean else None
    except (OverflowError, RecursionError, TypeError, ValueError):
        return None
