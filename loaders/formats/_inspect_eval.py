"""What an Inspect log says of the whole eval: worked out once for all of its samples."""

from __future__ import annotations

from typing import Final

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

    ``columns`` of each of its runs; ``facts`` and, behind a sample's own, ``later_facts`` for their
    metadata; ``toolsets``: fingerprints of the tool definitions that its calls were offered, by
    their text.
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
        self.params: Object = {
            **as_object(plan.get("config")),
            **as_object(spec.get("model_generate_config")),
        }
        first = as_object(next(iter(as_array(as_object(log.get("results")).get("scores"))), None))
        self.scorer = as_text(first.get("name")) or "score"
        self.patience = PATIENCE
        self.toolsets: dict[bytes, str] = {}
        self.facts = _as_written(
            {**metadata_of(log, _TOLD_OF_LOG), **metadata_of(spec, _TOLD_OF_SPEC)}
        )
        self.later_facts = _as_written(
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


def _as_written(facts: Object) -> Object:
    """The facts as the text that stands in the metadata of every run, where it needs no redaction."""
    written: Object = {}
    for name, fact in facts.items():
        _, count = redact_object({name: fact})
        text = None if count or fact in EMPTY or isinstance(fact, str) else as_json(fact)
        written[name] = fact if text is None else Raw(text.encode())
    return written
