"""What is gathered of an Inspect sample while its events are told, and the compactions under way."""

from __future__ import annotations

from typing import Any, Final

from loaders.formats._inspect_records import ModelEvent, OtherEvent, Output, opened
from loaders.formats._inspect_sample import Sample
from loaders.run import Run
from loaders.values import Object, as_float, as_int, as_object, as_time

NOTES: Final = frozenset({"approval", "info", "input", "interrupt", "logger", "review"})
"""Kinds of events that are told with all that they say."""
NOT_TOLD: Final = frozenset({"sample_limit", "subtask"})
"""Told elsewhere, or by the events inside: the docstring of ``inspect`` gives the reasons."""
_EDITS: Final = {"summary": "compacted", "edit": "compacted", "trim": "truncated"}
_OF_ANY_EVENT: Final = frozenset(
    ("event", "uuid", "span_id", "timestamp", "working_start", "pending")
)


class Facts:
    """Facts for the run.

    ``params`` are those of the first model call that has any, ``config`` the same as logged;
    ``costs`` those of each call that reports them; ``counts`` says how many calls came out of
    Inspect's cache or were retried; ``lists`` what else is known from the events: models that
    served, choices of tools, compactions, early scores.
    """

    def __init__(self) -> None:
        self.params: Object = {}
        self.config: Any = None
        self.costs: list[float] = []
        self.counts: dict[str, int] = {}
        self.lists: dict[str, list[Any]] = {}

    def gather(self, event: ModelEvent, output: Output) -> None:
        """What a model call says beside what it was given and put out."""
        if not self.params:
            self.config = event.config
            self.params = as_object(opened(event.config))
        self.note("served_models", output.model)
        self.note("tool_choices", event.tool_choice)
        if event.cache == "read":
            self._count("cache_reads", 1)
        if event.retries:
            self._count("retries", as_int(event.retries) or 0)
        cost = as_float(as_object(output.usage).get("total_cost"))
        if cost is not None:
            self.costs.append(cost)

    def _count(self, name: str, number: int) -> None:
        self.counts[name] = self.counts.get(name, 0) + number

    def of_calls(self) -> Object:
        """What is metadata of them."""
        counts = {name: number for name, number in self.counts.items() if number > 0}
        return {**self.lists, **counts}

    def note(self, name: str, fact: Any, *, is_new: bool = False) -> None:
        """One more of a list, where it is not in it; ``is_new``: in any case."""
        known = self.lists.get(name)
        if known is None:
            known = self.lists[name] = []
        if fact is not None and (is_new or fact not in known):
            known.append(fact)


class Compactions:
    """Compactions that the log has announced, until the conversation shows what became of them."""

    def __init__(self, run: Run, sample: Sample, facts: Facts) -> None:
        self._run, self._sample, self._facts = run, sample, facts
        self._announced: dict[str, tuple[str, OtherEvent]] = {}

    def announce(self, conversation: str, pos: str, event: OtherEvent) -> None:
        """The history of this conversation was compacted."""
        self.tell(conversation)
        self._announced[conversation] = (pos, event)

    def edit(self, conversation: str) -> str | None:
        """How the next call's input was edited."""
        if conversation not in self._announced:
            return None
        _, event = self._announced[conversation]
        return _EDITS.get(str(event.fields.get("type", "summary")))

    def tell_all(self) -> None:
        """Tell those that no call followed."""
        for conversation in list(self._announced):
            self.tell(conversation)

    def tell(self, conversation: str) -> None:
        """Tell a compaction that brought no summary into the conversation."""
        if conversation in self._announced:
            pos, event = self._announced.pop(conversation)
            self._note(event)
            self._run.event("compaction", None, pos, at=as_time(event.timestamp))

    def summarized(self, conversation: str) -> None:
        """The summary of a compaction is told next."""
        if conversation in self._announced:
            self._note(self._announced.pop(conversation)[1])

    def _note(self, event: OtherEvent) -> None:
        facts = self._sample.resolve(said_in(event))
        self._facts.note("compactions", {"seq": self._run.seq, **facts})


def said_in(event: OtherEvent) -> Object:
    """What an event says beside when and where."""
    return {key: value for key, value in event.fields.items() if key not in _OF_ANY_EVENT}
