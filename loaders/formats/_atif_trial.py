"""What Harbor writes of a trial beside its trajectory: identity, settings, rewards, exception."""

from __future__ import annotations

from loaders.builder import Builder
from loaders.formats._atif_extra import without
from loaders.run import Run
from loaders.sources import Source
from loaders.values import Object, as_float, as_int, as_json, as_object, as_text, as_time, is_object

REWARDS = ("reward.txt", "reward.json")
_LIMITS = ("AgentTimeoutError",)
_TOLD_OF_TRIAL = ("task_name", "trial_name", "source", "started_at", "finished_at")
_TOLD_OF_PARTS = {
    "agent_result": ("n_input_tokens", "n_output_tokens", "n_cache_tokens", "cost_usd"),
    "exception_info": ("exception_type", "exception_message", "occurred_at"),
    "verifier_result": ("rewards",),
}


class Trial:
    """What Harbor writes of a trial, of which the trajectory lies in ``agent/``."""

    def __init__(self, source: Source, out: Builder) -> None:
        self.result: Object = {}
        self.rewards: Object = {}
        file = source.beside("../result.json")
        if file is not None:
            with out.record("../result.json"):
                self.result = as_object(file.json())
        for name in REWARDS:
            file = source.beside(f"../verifier/{name}")
            if file is not None:
                with out.record(f"../verifier/{name}"):
                    value = file.json()
                    self.rewards = value if is_object(value) else {"reward": value}
        verdict = as_object(self.result.get("verifier_result"))
        self.rewards = as_object(verdict.get("rewards")) or verdict or self.rewards

    def write(self, run: Run) -> None:
        """Tell identity and outcome of the trial to the run of its trajectory."""
        result = self.result
        used = as_object(result.get("agent_result"))
        failure = as_object(result.get("exception_info"))
        config = as_object(result.get("config"))
        known = {
            "task_id": as_text(result.get("task_name")),
            "trial": as_text(result.get("trial_name")),
            "benchmark": as_text(result.get("source")),
            "started_at": as_time(result.get("started_at")),
            "ended_at": as_time(result.get("finished_at")),
            "input_tokens": as_int(used.get("n_input_tokens")),
            "output_tokens": as_int(used.get("n_output_tokens")),
            "cached_tokens": as_int(used.get("n_cache_tokens")),
            "cost_usd": as_float(used.get("cost_usd")),
        }
        run.set(**{name: value for name, value in known.items() if value is not None})
        run.environment(type=as_text(as_object(config.get("environment")).get("type")))
        self._keep_the_rest(run)
        if not self.result and not self.rewards:
            return
        reward = as_float(self.rewards.get("reward"))
        success = reward == 1 if reward in (0, 1) else None
        error = as_text(failure.get("exception_type"))
        if error is not None:
            message = as_text(failure.get("exception_message"))
            at = as_time(failure.get("occurred_at"))
            place = "../result.json#/exception_info"
            run.event("error", message, place, error_type=error, at=at)
        outcome = None
        if error is not None and not success:
            outcome = "limit" if error in _LIMITS else "error"
        run.outcome(
            outcome,
            success=success,
            score=reward,
            end_reason=error,
            scores=[(name, as_float(r), as_json(r)) for name, r in self.rewards.items()],
        )

    def _keep_the_rest(self, run: Run) -> None:
        """What has no column: settings of the trial, times of its parts, where its exception rose."""
        known = without(self.result, _TOLD_OF_TRIAL)
        known |= {part: without(known.get(part), told) for part, told in _TOLD_OF_PARTS.items()}
        known = {key: value for key, value in known.items() if value not in (None, {}, [])}
        if known:
            run.set(metadata={**as_object(run.columns["metadata"]), "trial": known})
