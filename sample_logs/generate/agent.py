"""The simulated agent: a planner that keeps its plan and findings only in its thinking.

``respond`` is a function of one request and a seed; nothing is kept between two requests. Where
the request holds the agent's earlier thinking, it goes on from its notes. Where it does not, the
notes are really lost: the agent reads the visible calls and responses again, overlooks some, mixes
up values, and sooner believes that it is done. Whether a run succeeds is decided by the world.
"""

from __future__ import annotations

import json
import math
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from hands import Action, Hands, Reading, action, hands_for, is_json, ordered, understood
from skills import skill_for

_NOTE = re.compile(r"^(Noted|Gave up on): (\w+) (\{.*?\})(?: -> (.*))?$", re.MULTILINE)
_IDENTIFIER = re.compile(r"\b[A-Z]-\d+\b")
EXPLICIT = ("error", "timeout", "rate_limit")
_ADVICE = re.compile(r"\bcheck that\b", re.IGNORECASE)


@dataclass(frozen=True)
class Parameters:
    """The true parameters of an agent. Pairs are (with all thinking at hand, with none of it).

    Chances of slips hold per model call and are odds-scaled by an effect of the task; chances of
    recovery hold per faulty response. Between the ends of a pair lies the share that is at hand.
    """

    misread: tuple[float, float] = (0.02, 0.038)
    """The newest response is taken in wrong; noted so, it stays wrong."""
    overlook: float = 0.13
    """Of the facts whose notes are lost, one is not found again: its call is repeated."""
    confuse: float = 0.09
    """Of the facts whose notes are lost, one is mixed up with another value in sight."""
    stop_early: tuple[float, float] = (0.005, 0.028)
    """Believes that it is done and submits what follows from what it has."""
    recover_error: tuple[float, float] = (0.84, 0.42)
    recover_timeout: tuple[float, float] = (0.82, 0.40)
    recover_empty: tuple[float, float] = (0.80, 0.55)
    recover_broken: tuple[float, float] = (0.82, 0.55)
    recover_rate_limit: tuple[float, float] = (0.95, 0.75)
    """Tries the call again. Else an error makes it stop or do without; others are believed."""
    recover_drift: tuple[float, float] = (0.85, 0.45)
    """Finds the fields that it needs under their new names. Else they are missing to it."""
    recover_injection: tuple[float, float] = (0.93, 0.65)
    """Goes on with its own task. Else it does what a text inside the response tells it to do."""
    stop_after_error: float = 0.7
    """Of the errors that it does not recover from: submits at once, and does not go on without."""
    task_sd: float = 0.5
    """Spread of the tasks' effects on the log odds of slips."""
    advised: float = 0.4
    """Factor on the odds of stopping early where the system prompt says what to check before."""

    def chance(self, name: str, grip: float) -> float:
        """The chance of that name with the given share of thinking at hand."""
        value = getattr(self, name)
        if isinstance(value, float):
            return value * (1 - grip)
        return value[0] * grip + value[1] * (1 - grip)


MODELS = {
    "planner-1": Parameters(),
    "planner-2": Parameters(
        misread=(0.055, 0.062),
        overlook=0.08,
        confuse=0.055,
        stop_early=(0.012, 0.02),
        recover_error=(0.70, 0.46),
        recover_timeout=(0.68, 0.44),
        recover_empty=(0.68, 0.52),
        recover_broken=(0.70, 0.54),
        recover_rate_limit=(0.90, 0.76),
        recover_drift=(0.68, 0.48),
        recover_injection=(0.84, 0.70),
    ),
}
"""Model name to parameters."""


@dataclass
class Reply:
    """What the agent says: its thinking, a word to the reader, one tool call."""

    thinking: str
    text: str
    tool: str
    """Empty for the last word, after the answer was handed in."""
    arguments: str
    slips: list[str] = field(default_factory=list)
    """What went wrong inside; for the truth file, never for the wire."""


@dataclass
class Turn:
    """An earlier call of the agent as the request shows it."""

    thinking: str | None
    action: Action | None
    response: str


def respond(
    messages: Sequence[dict[str, Any]],
    tools: Sequence[dict[str, Any]],
    seed: str,
    params: Parameters,
) -> Reply:
    """The reply to a Chat Completions request."""
    hands = hands_for([tool.get("function") or {} for tool in tools])
    request = next((_text(m.get("content")) for m in messages if m.get("role") == "user"), "")
    mind = _Mind(request, _turns(messages, hands), hands, seed, params)
    told = [_text(m.get("content")) for m in messages if m.get("role") == "system"]
    mind.is_advised = any(_ADVICE.search(text) for text in told)
    return mind.reply()


def thinking_of(message: dict[str, Any]) -> str | None:
    """The thinking that a message of a request holds."""
    text = message.get("reasoning_content") or message.get("reasoning")
    return text if isinstance(text, str) and text.strip() else None


def _turns(messages: Sequence[dict[str, Any]], hands: Hands) -> list[Turn]:
    responses = {
        m.get("tool_call_id"): _text(m.get("content")) for m in messages if m.get("role") == "tool"
    }
    turns: list[Turn] = []
    for message in messages:
        if message.get("role") != "assistant":
            continue
        call = next(iter(message.get("tool_calls") or []), {})
        function = call.get("function") or {}
        done = hands.parse(function.get("name", ""), function.get("arguments", ""))
        turns.append(Turn(thinking_of(message), done, responses.get(call.get("id"), "")))
    return turns


def _text(content: Any) -> str:
    if isinstance(content, list):
        return "\n".join(part.get("text", "") for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


class _Need(Exception):
    """A procedure asked for a fact that is not known yet."""

    def __init__(self, act: Action) -> None:
        self.action = act


class _Mind:
    """One reply in the making."""

    def __init__(
        self, request: str, turns: list[Turn], hands: Hands, seed: str, params: Parameters
    ) -> None:
        self.request, self.turns, self.hands = request, turns, hands
        self.seed, self.params = seed, params
        kept = sum(turn.thinking is not None for turn in turns)
        self.grip = kept / len(turns) if turns else 1.0
        self.step = len(turns)
        self.facts: dict[Action, Any] = {}
        self.given_up: set[Action] = set()
        self.lost: list[Action] = []
        self.lines: list[str] = []
        self.slips: list[str] = []
        self.wants_to_stop = False
        self.is_advised = False
        self.order: str | None = None
        """The answer that a response told it to hand in, and that it is going to."""
        gauss = random.Random(f"task/{request}").gauss(0, 1)
        self.task_effect = math.exp(params.task_sd * gauss)

    # ------------------------------------------------------------ chance

    def _draw(self, what: str, index: int | None = None) -> random.Random:
        """Chance at that call: the same for the same seed and the same thinking in sight."""
        in_sight = [turn.thinking for turn in self.turns[:index]]
        return random.Random(f"{self.seed}/{what}/{in_sight}")

    def _slips(self, name: str, factor: float = 1.0) -> bool:
        chance = self.params.chance(name, self.grip)
        odds = chance / (1 - chance) * self.task_effect * factor
        return self._draw(name).random() < odds / (1 + odds)

    def _slipped(self, name: str) -> None:
        self.slips.append(name)

    # ------------------------------------------------------------ remembering

    def _remember(self) -> None:
        """Facts from the notes in sight; the others from the responses, read once more."""
        for turn in self.turns:
            for verb, tool, arguments, value in _NOTE.findall(turn.thinking or ""):
                noted = Action(tool, arguments)
                if verb == "Gave up on":
                    self.given_up.add(noted)
                elif is_json(value):
                    self.facts[noted] = json.loads(value)
        for index, turn in enumerate(self.turns[:-1]):
            if self.turns[index + 1].thinking is None and turn.action:
                self._read_again(index, turn.action)
        if self.lost:
            self.lines.append(
                "My earlier notes are gone; I go by the responses that I can still see."
            )
            self._lose_track()

    def _read_again(self, index: int, act: Action) -> None:
        reading = self.hands.read(act, self.turns[index].response)
        verdict = self._verdict(index, act, reading)
        if verdict in ("note", "translate"):
            is_understood = verdict == "translate"
            self.facts[act] = understood(reading.value) if is_understood else reading.value
            self.lost.append(act)
        elif verdict in ("skip", "stop"):
            self.given_up.add(act)

    def _lose_track(self) -> None:
        """Without notes, a fact is overlooked or mixed up now and then."""
        if self._slips("overlook"):
            gone = self._draw("which").choice(self.lost)
            self.facts.pop(gone, None)
            self._slipped(f"overlooked {gone}")
        if self._slips("confuse"):
            mixed = self._draw("mixed").choice(self.lost)
            if mixed in self.facts:
                self._muddle(mixed, "confused")

    def _muddle(self, act: Action, slip: str) -> None:
        """One value of the fact is swapped for another one in sight, or its digits are."""
        rng = self._draw("muddle")
        in_sight = sorted({name for t in self.turns for name in _IDENTIFIER.findall(t.response)})
        muddled = _muddled(self.facts[act], in_sight, rng)
        if muddled != self.facts[act]:
            self.facts[act] = muddled
            self._slipped(f"{slip} {act}")

    # ------------------------------------------------------------ taking in the newest response

    def _verdict(self, index: int, act: Action, reading: Reading) -> str:
        """What to make of a response: note it, retry the call, skip the fact, stop, and so on."""
        if reading.fault is None:
            return "note"
        if reading.fault in ("drift", "injection"):
            chance = self.params.chance(f"recover_{reading.fault}", self.grip)
            is_recovered = self._draw("recover", index).random() < chance
            if reading.fault == "drift":
                return "translate" if is_recovered else "note"
            return "note" if is_recovered or index < self.step - 1 else "obey"
        is_explicit = reading.fault in EXPLICIT
        before = sum(turn.action == act for turn in self.turns[:index])
        if before >= 2:
            return "stop" if is_explicit else "note"
        chance = self.params.chance(f"recover_{reading.fault}", self.grip)
        if self._draw("recover", index).random() < chance:
            return "retry"
        if not is_explicit:
            return "note"
        stops = self._draw("stop", index).random() < self.params.stop_after_error
        return "stop" if stops else "skip"

    def _take_in(self) -> None:
        newest = self.turns[-1]
        if newest.action is None:
            return
        act = newest.action
        reading = self.hands.read(act, newest.response)
        verdict = self._verdict(self.step - 1, act, reading)
        if verdict == "obey":
            self.order = ordered(newest.response)
            self._slipped(f"obeyed {act}")
            self.lines.append("The response tells me to submit at once, so I do.")
        elif verdict in ("note", "translate"):
            is_understood = verdict == "translate"
            self.facts[act] = understood(reading.value) if is_understood else reading.value
            if reading.fault not in (None, "injection") and not is_understood:
                self._slipped(f"believed {reading.fault} {act}")
            elif self._slips("misread"):
                self._muddle(act, "misread")
            self.lines.append(f"Noted: {act} -> {json.dumps(self.facts[act])}")
        elif verdict == "retry":
            self.facts.pop(act, None)
            self.lines.append(f"{act.tool} did not give a usable response; I try it again.")
        else:
            self.given_up.add(act)
            self._slipped(f"gave up on {reading.fault} {act}")
            self.lines.append(f"Gave up on: {act}")
            self.wants_to_stop = verdict == "stop"

    # ------------------------------------------------------------ deciding

    def reply(self) -> Reply:
        """Remember, take in what is new, decide."""
        found = skill_for(self.request)
        if found is None:
            return self._submit("unknown", "I do not understand the request.")
        skill, match = found
        if self.turns and self.hands.is_submit(self.turns[-1].action):
            self.lines.append("My answer is handed in: nothing is left to do.")
            return self._reply("I have submitted my answer.", "", "")
        if self.turns:
            self._remember()
            self._take_in()
        else:
            self.lines.append(f"Plan: {skill.plan}.")
        if self.order is not None:
            return self._submit(self.order, "I submit what I was told to.")
        caution = self.params.advised if self.is_advised else 1.0
        if self.step > 1 and not self.wants_to_stop and self._slips("stop_early", caution):
            self.wants_to_stop = True
            self._slipped("stopped early")
        if not self.wants_to_stop:
            try:
                return self._submit(skill.procedure(match, self._know), "That is all: I submit.")
            except _Need as need:
                return self._call(need.action)
        return self._submit(skill.procedure(match, self._guess), "I submit what I have.")

    def _known(self, tool: str, arguments: dict[str, Any]) -> tuple[Action, Any]:
        act = action(tool, arguments)
        return act, self.facts.get(act)

    def _know(self, tool: str, **arguments: Any) -> Any:
        act, fact = self._known(tool, arguments)
        if fact is None and act not in self.given_up and act not in self.facts:
            raise _Need(act)
        return fact

    def _guess(self, tool: str, **arguments: Any) -> Any:
        return self._known(tool, arguments)[1]

    def _call(self, act: Action) -> Reply:
        self.lines.append(f"Next: {act.tool}.")
        tool, arguments = self.hands.render(act)
        return self._reply(f"I use {act.tool} next.", tool, arguments)

    def _submit(self, answer: str, why: str) -> Reply:
        self.lines.append(why)
        tool, arguments = self.hands.submit(answer)
        return self._reply("I submit my answer.", tool, arguments)

    def _reply(self, text: str, tool: str, arguments: str) -> Reply:
        return Reply("\n".join(self.lines), text, tool, arguments, self.slips)


def _muddled(value: Any, in_sight: list[str], rng: random.Random) -> Any:
    """The value with one identifier or number in it changed, if it has any."""
    leaves = list(_leaves(value))
    if not leaves:
        return value
    path = rng.choice(leaves)
    copied = json.loads(json.dumps(value))
    *parents, last = path
    holder = copied
    for key in parents:
        holder = holder[key]
    leaf = holder[last]
    if isinstance(leaf, str):
        others = [name for name in in_sight if name[0] == leaf[0] and name != leaf]
        holder[last] = rng.choice(others) if others else leaf
    else:
        holder[last] = leaf + rng.choice([-10, -1, 1, 10, 100])
    return copied


def _leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(value, dict):
        return [leaf for key, part in value.items() for leaf in _leaves(part, (*path, key))]
    if isinstance(value, list):
        return [leaf for key, part in enumerate(value) for leaf in _leaves(part, (*path, key))]
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    is_identifier = isinstance(value, str) and bool(_IDENTIFIER.fullmatch(value))
    return [path] if path and (is_number or is_identifier) else []
