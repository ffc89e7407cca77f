"""SWE-agent trajectories: ``<instance>.traj`` of 0.x and 1.x, and rows of data sets made of them.

A file tells a run twice. ``history`` is what the model was shown and said; ``trajectory`` has a step
for every model call, also for replies that were rejected and asked for again, with the raw
observation and its ``execution_time``. Both are merged: history leads, each of its replies is
paired with its step, and what only the trajectory has is told from there (rejected replies; the
last observation of 0.x; the last step of early 1.x). A file of ``history`` alone is read too.

A ``thought`` is the reply's visible text, which the model is shown again, and stays a message;
thinking is only what stands in fields of its own (``thinking_blocks``, ``reasoning_content``) or in
think tags. Demonstrations (``is_demo``) are no turns of this run: events of kind other by the actor
``demo``. Replies that the framework writes itself when it gives up (``Exit due to ...``) are no
model calls. A 1.x call names its tool; the text parsers write a command line, whose tool is its
first word where the prompt documents such a command, else ``bash``.

What a call was shown is known where the log has it: ``query`` is the request of its own step;
earlier 1.x has ``messages`` instead, the processed history after a step, from which the next call
is made. ``thinking_blocks`` count as sent only beside ``tool_calls``: without, they are dropped on
the way out. There are no error flags and no times. 0.x names its task in the file's name alone.
``submitted`` is no success.

Of the state after each step (in 0.x JSON text in a string) only the first working folder is read.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator
from typing import Any, NamedTuple

from loaders.builder import Builder
from loaders.dialects.openai_chat import (
    Thought,
    split_think_tags,
    text_and_media,
    thoughts_of,
    write_calls,
)
from loaders.dialects.requests import ToldMessages
from loaders.formats._swe_agent_notation import (
    decoded,
    documented_commands,
    exit_reason,
    gave_up,
    last_block,
    outcome_of,
    pairs_of,
)
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
    is_object,
)

TITLE = "SWE-agent trajectory"
GIVES = ("thinking", "sent", "tools", "tokens", "outcome")
IGNORED = {
    "/**/history/*/message_type": "whether it is a prompt, an action or an observation, as its role says",
    "/**/history/*/agent": "the agent of each reply is kept with its call",
    "/**/history/*/thought": "the text of the reply without its action",
    "/**/history/*/action": "the call has it, as its arguments or in them",
    "/**/history/*/tool_calls/*/type": "every call is of a function",
    "/**/trajectory/*/messages/**": "the history as it is sent with the next call, whose context tells it",
    "/**/trajectory/*/query/**": "the history as it was sent with this call, whose context tells it",
    "/**/trajectory/*/observation": "history has it, in the words in which the model was shown it",
    "/**/trajectory/*/response": "history has it, in the words in which the model was shown it",
    "/**/trajectory/*/thought": "the text of the reply without its action",
    "/**/trajectory/*/action": "the call has it, as its arguments or in them",
    "/**/trajectory/*/execution_time": "the duration of the result, where an action was run",
    "/**/trajectory/*/state/**": "where the agent stands after a step, which later observations show",
    "/info/*": "the files of the patch around its changes; all other keys of info are metadata",
    "/attempts/*/info/*": "the files of the patch around its changes; other keys of info are metadata",
    "/**/agent/model/api_key": "a credential, or what stands in its place",
    "/*/trajectory/*/mask": "which texts a training on this data set learns from",
}
EXCEPTIONS = {
    "a_file_cut_short_gives_what_stands_before": (
        "its messages stand behind the trajectory that they repeat in other words; where they are cut "
        "off, the trajectory is told"
    ),
}

_TOLD_OF_A_RUN = ("info", "trajectory", "history", "replay_config", "environment", "attempts")
_TOLD_OF_A_ROW = (
    *("instance_id", "model_name", "trajectory", "generated_patch", "eval_logs"),
    *("target", "exit_status"),
)
_CLIPPED = "<response clipped>"
_TOLD_OF_INFO = re.compile(r"submission|exit_status|swe_agent_version|edited_files\d+")
_HISTORY_MARKS = frozenset({"agent", "message_type", "is_demo", "thought", "action"})


def sniff(head: Head) -> bool:
    """Steps with action and observation, rows of roles and texts, or a history of agents."""
    first = head.first
    if "attempts" in first:
        first = _first(first["attempts"])
    step, entry = _first(first.get("trajectory")), _first(first.get("history"))
    is_file = head.filename.endswith(".traj")
    if "action" in step:
        return "observation" in step or is_file or "environment" in first
    if {"role", "text", "system_prompt"} <= step.keys():
        return "instance_id" in first
    is_message = {"role", "content"} <= entry.keys() and "name" not in entry
    return is_message and (is_file or not _HISTORY_MARKS.isdisjoint(entry))


def read(source: Source, out: Builder) -> None:
    """One run per record; each attempt of a retrying agent is a run of its own."""
    stem, extension, _ = source.filename.rpartition(".traj")
    name = stem if extension else None
    for pos, record in source.records():
        with out.record(pos):
            record = as_object(record)
            if "role" in _first(record.get("trajectory")):
                _read_row(record, pos, out)
            elif as_array(record.get("attempts")):
                _read_attempts(record, pos, out, name)
            elif "trajectory" in record or "history" in record:
                _read_run(record, pos, out, name)
            else:
                out.problem(pos, "neither a trajectory nor a history")


def _read_attempts(record: Object, pos: str, out: Builder, name: str | None) -> None:
    """The record around the attempts repeats the best of them."""
    info, attempts = as_object(record.get("info")), as_array(record["attempts"])
    best = as_int(info.get("best_attempt_idx"))
    for key in ("history", "trajectory"):
        if key in record and all(record[key] != as_object(one).get(key) for one in attempts):
            out.problem(f"{pos}/{key}", "no attempt has the same; the attempts are told")
    overall = {key: value for key, value in info.items() if not _TOLD_OF_INFO.fullmatch(key)}
    for index, attempt in enumerate(attempts):
        with out.record(f"{pos}/attempts/{index}"):
            chosen: Object = {} if best is None else {"is_best_attempt": best == index}
            chosen.update({"all_attempts": overall} if overall else {})
            run = _read_run(as_object(attempt), f"{pos}/attempts/{index}", out, name, chosen)
            run.set(trial=str(index))


def _first(items: Any) -> Object:
    return as_object(next(iter(as_array(items)), None))


# ---------------------------------------------------------------------- one run


def _read_run(
    record: Object, pos: str, out: Builder, name: str | None, about: Object | None = None
) -> Run:
    info, steps = as_object(record.get("info")), as_array(record.get("trajectory"))
    config, flaw = decoded(record.get("replay_config"))
    agent, env = as_object(config.get("agent")), as_object(config.get("env"))
    model, stats = as_object(agent.get("model")), as_object(info.get("model_stats"))
    task = as_name(as_object(config.get("problem_statement")).get("id")) or name
    metadata = {
        **{key: value for key, value in info.items() if not _TOLD_OF_INFO.fullmatch(key)},
        **(about or {}),
        **{key: value for key, value in config.items() if key not in ("agent", "env")},
        "env": env or None,
        "agent": {key: value for key, value in agent.items() if key != "model"} or None,
        **{key: value for key, value in record.items() if key not in _TOLD_OF_A_RUN},
    }
    run = out.trajectory(
        native_id=task,
        pos=pos,
        framework="swe-agent",
        framework_version=as_text(info.get("swe_agent_version")),
        format_version=_generation(config, steps),
        task_id=task,
        model=as_text(model.get("name")),
        provider=_provider(as_text(model.get("name"))),
        params={key: value for key, value in model.items() if key != "name"},
        cost_usd=as_float(stats.get("instance_cost")),
        input_tokens=as_int(stats.get("tokens_sent")),
        output_tokens=as_int(stats.get("tokens_received")),
        metadata={key: value for key, value in metadata.items() if value is not None},
    )
    if flaw:
        run.problem(f"{pos}/replay_config", flaw)
    run.environment(
        name=as_text(record.get("environment")),
        image=as_text(as_object(env.get("deployment")).get("image")),
        repo=env.get("repo"),
        cwd=as_text(decoded(_first(steps).get("state"))[0].get("working_dir")),
    )
    teller = _Teller(run)
    teller.learn_commands(as_text(as_object(agent.get("tools")).get("command_docs")))
    _tell(teller, as_array(record.get("history")), steps, pos)
    _end(teller, info, pos)
    return run


def _generation(config: Object, steps: list[Any]) -> str | None:
    if any(isinstance(as_object(step).get("state"), str) for step in steps):
        return "0"
    return "1" if config or any("execution_time" in as_object(step) for step in steps) else None


def _provider(model: str | None) -> str | None:
    """Model names are LiteLLM's: the part before the first slash names the provider."""
    provider, slash, _ = (model or "").partition("/")
    return provider if slash else None


def _tell(teller: _Teller, history: list[Any], steps: list[Any], pos: str) -> None:
    """Merge both tellings; history leads."""
    if not history:
        _tell_steps_alone(teller, steps, pos)
        return
    pairs = pairs_of(history, steps)
    untold = 0
    for index, entry in enumerate(history):
        place = f"{pos}/history/{index}"
        if not is_object(entry):
            teller.run.problem(place, "not a message")
            continue
        paired = pairs.get(index)
        for number in range(untold, paired or 0):
            teller.step_alone(steps[number], f"{pos}/trajectory/{number}")
        if paired is None:
            teller.entry(entry, place)
        else:
            teller.entry(
                entry, place, _Step(as_object(steps[paired]), f"{pos}/trajectory/{paired}")
            )
            untold = paired + 1
    teller.has_history = False
    for number in range(untold, len(steps)):
        is_last = number == len(steps) - 1
        teller.step_alone(steps[number], f"{pos}/trajectory/{number}", is_accepted=is_last)
    teller.finish_step()


def _tell_steps_alone(teller: _Teller, steps: list[Any], pos: str) -> None:
    """Steps without a history, as in a file cut short: the first request shows what led there."""
    teller.has_history = False
    key = "query" if as_array(_first(steps).get("query")) else "messages"
    for number, message in enumerate(map(as_object, as_array(_first(steps).get(key)))):
        if message.get("role") == "assistant":
            break
        teller.entry(message, f"{pos}/trajectory/0/{key}/{number}")
    for number, step in enumerate(steps):
        teller.step_alone(step, f"{pos}/trajectory/{number}", is_accepted=True)
    teller.finish_step()


def _end(teller: _Teller, info: Object, pos: str) -> None:
    patch = as_text(info.get("submission"))
    if patch and patch.strip() not in teller.last_observation:
        teller.run.event("other", patch, f"{pos}/info/submission", actor="submission")
    accepted = as_object(info.get("review")).get("accept")
    scores = [] if accepted is None else [("review", as_float(accepted), str(accepted))]
    success, status = as_bool(info.get("resolved")), as_text(info.get("exit_status"))
    outcome = outcome_of(status, success)
    teller.run.outcome(outcome, success=success, end_reason=status, scores=scores)


def _read_row(row: Object, pos: str, out: Builder) -> None:
    """A row as in nebius/SWE-agent-trajectories: roles ai and user, texts alone, and a verdict."""
    task, model = as_name(row.get("instance_id")), as_text(row.get("model_name"))
    items = map(as_object, as_array(row.get("trajectory")))
    cutoff = next((item["cutoff_date"] for item in items if item.get("cutoff_date")), None)
    run = out.trajectory(
        native_id=task,
        pos=pos,
        framework="swe-agent",
        task_id=task,
        model=model,
        metadata={
            **{key: value for key, value in row.items() if key not in _TOLD_OF_A_ROW},
            **({"cutoff_date": cutoff} if cutoff else {}),
        },
    )
    teller = _Teller(run)
    for index, item in enumerate(as_array(row.get("trajectory"))):
        place, item = f"{pos}/trajectory/{index}", as_object(item)
        key = "text" if as_text(item.get("text")) is not None else "system_prompt"
        role = "assistant" if item.get("role") == "ai" else item.get("role")
        if as_text(item.get(key)) is None:
            run.problem(place, "not a message")
        else:
            teller.entry({"role": role, "content": item[key]}, place, key=key)
    for key, actor in (("generated_patch", "submission"), ("eval_logs", "evaluation")):
        if as_text(row.get(key)):
            run.event("other", row[key], f"{pos}/{key}", actor=actor)
    success, status = as_bool(row.get("target")), as_text(row.get("exit_status"))
    run.outcome(outcome_of(status, success), success=success, end_reason=status)


# ---------------------------------------------------------------------- events


class _Step(NamedTuple):
    """A step of ``trajectory`` and its place."""

    record: Object
    pos: str


class _Teller:
    """Tells the messages and steps of one run in their order."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.last_observation = ""
        self.has_history = True
        self._is_raw = False
        """Whether requests quote an observation in other words than it was told in."""
        self._commands: set[str] = set()
        self._agent: str | None = None
        self._pending: list[int] = []
        """Calls that the next observation answers."""
        self._step: _Step | None = None
        """The step whose observation is still to come."""
        self._gave_up = False
        self._rejected: str | None = None
        """The text of a reply that was asked for again."""
        self._snapshot: list[Any] = []
        """Where it is logged, the history as it was processed for the next call."""
        self._told = ToldMessages(run, _identity, _sent_thoughts)

    def learn_commands(self, docs: str | None) -> None:
        """Take the commands on offer from where they are documented first."""
        commands = [] if self._commands else list(documented_commands(docs or ""))
        if commands:
            self._commands = {name for name, _, _ in commands}
            self.run.tools(commands)

    def entry(
        self, entry: Object, pos: str, step: _Step | None = None, key: str = "content"
    ) -> None:
        """Tell an entry of the history, a reply with the step that it is paired with."""
        role, start, place = entry.get("role"), self.run.seq, f"{pos}/{key}"
        self._agent = as_text(entry.get("agent"))
        text, media = text_and_media(entry.get("content"))
        if entry.get("is_demo"):
            self.run.event("other", text, place, actor="demo", media=media)
        elif role == "assistant":
            self.finish_step()
            self._reply(entry, text or "", place, pos, step)
            return
        elif role == "system":
            self.run.system(text, place, media=media)
            self.learn_commands(text)
        elif role == "tool" or (role == "user" and self._pending):
            self._observation(entry, place)
        elif role == "user" and not self._gave_up:
            self.run.user(text, place, media=media)
        else:
            actor = "environment" if role == "user" else as_text(role)
            self.run.event("other", text, place, actor=actor, media=media)
            self.last_observation, self._step = text or "", None
        self._told.remember(entry, start, agent=self._agent)

    def _observation(self, entry: Object, place: str) -> None:
        text, media = text_and_media(entry.get("content"))
        step = self._step.record if self._step else {}
        raw = as_text(step.get("observation"))
        is_clipped = _CLIPPED in (text or "") and (raw is None or raw not in (text or ""))
        common: Object = {
            "truncated": is_clipped or None,
            "duration_s": as_float(step.get("execution_time")),
        }
        call_ids = as_array(entry.get("tool_call_ids"))
        if call_ids:
            self.run.result(text, place, call_id=as_name(call_ids[0]), media=media, **common)
            for call_id in call_ids[1:]:  # the one text answers all of a reply's calls
                self.run.result(None, place, call_id=as_name(call_id), **common)
        else:
            answers = self._pending[0] if self._pending else None
            self.run.result(text, place, answers=answers, media=media, **common)
        self.last_observation = f"{text}\0{raw}"
        self._pending, self._step = [], None

    def step_alone(self, record: Any, pos: str, is_accepted: bool = False) -> None:
        """Tell a step that history does not have: a rejected one, or the last."""
        self.finish_step()
        if not is_object(record):
            self.run.problem(pos, "not a step")
            return
        key = "response" if as_text(record.get("response")) else "thought"
        text = as_text(record.get(key)) or ""
        self._reply(record, text, f"{pos}/{key}", pos, _Step(record, pos), is_kept=is_accepted)
        if not is_accepted:
            self._rejected, self._snapshot = text, []
            if not record.get("observation") and not record.get("execution_time"):
                self._pending, self._step = [], None  # the action was refused, not run

    def finish_step(self) -> None:
        """Tell the observation of the latest step, unless history has told it."""
        if self._step is None:
            return
        (step, pos), self._step = self._step, None
        text, place = as_text(step.get("observation")), f"{pos}/observation"
        if text is not None and self._pending:
            duration = as_float(step.get("execution_time"))
            self.run.result(text, place, answers=self._pending[0], duration_s=duration)
        elif text:
            self.run.event("other", text, place, actor="environment")
        self.last_observation = text or self.last_observation
        self._is_raw = self._is_raw or (text is not None and not self.has_history)
        self._pending = []

    # ------------------------------------------------------------------ replies

    def _reply(
        self,
        entry: Object,
        text: str,
        place: str,
        pos: str,
        step: _Step | None,
        *,
        is_kept: bool = True,
    ) -> None:
        """One model call: thinking, text, calls; ``place`` is that of the text."""
        action = as_text(entry.get("action"))
        action = last_block(text) if action is None else action
        self._pending, self._step = [], step
        if gave_up(text, action):
            self.run.event("error", text, place, error_type=exit_reason(action))
            self._gave_up = True
            return
        request = self._request(step)
        start = self.run.seq
        self.run.step(source_pos=pos, agent=self._agent)
        if request and not self._is_raw:
            self._told.saw(request, self._agent)
        thinking = self._write_thoughts_and_text(entry, text, place, pos, step)
        first_call = self.run.seq
        write_calls(self.run, entry, pos)
        if first_call == self.run.seq and action and action.strip():
            action_pos = f"{pos}/action" if "action" in entry else place
            self.run.call(self._tool(action), {"command": action}, action_pos)
        self._pending = list(range(first_call, self.run.seq))
        said = {**entry, "role": "assistant", "content": text}
        self._told.remember(said, start, thinking, agent=self._agent, is_kept=is_kept)
        self._snapshot = as_array(step.record.get("messages")) if step else []

    def _write_thoughts_and_text(
        self, entry: Object, text: str, place: str, pos: str, step: _Step | None
    ) -> dict[int, Thought | None]:
        told: dict[int, Thought | None] = {}
        thoughts = [(thought, pos) for thought in thoughts_of({**entry, "content": None})]
        if not thoughts and step is not None and step.pos != pos:  # newer steps alone may have it
            thoughts = [(thought, step.pos) for thought in thoughts_of(step.record)]
        for thought, base in thoughts:
            words, state, signature, pointer = thought
            told[self.run.thinking(words, base + pointer, state=state, signature=signature)] = (
                thought
            )
        known = {(thought.text or "").strip() for thought, _ in thoughts}
        for is_thinking, piece in split_think_tags(text):
            if not is_thinking:
                self.run.message(piece, place)
            elif piece.strip() not in known:
                told[self.run.thinking(piece, place, state="tagged_in_text")] = None
        return told

    def _tool(self, action: str) -> str:
        word = action.split(maxsplit=1)[0]
        return word if word in self._commands else "bash"

    def _request(self, step: _Step | None) -> list[Any]:
        """The messages of this call; behind a rejected reply they ask for another one."""
        query = as_array(step.record.get("query")) if step else []
        if not any(as_object(message).get("role") for message in query):
            query = []
        rejected, self._rejected = self._rejected, None
        if rejected is not None and step is not None and len(query) > 1:
            reply, demand = as_object(query[-2]), as_object(query[-1])
            if demand.get("role") == "user" and _text(reply) == rejected:
                place = f"{step.pos}/query/{len(query) - 1}/content"
                start = self.run.user(_text(demand), place)
                self._told.remember(demand, start, agent=self._agent, is_kept=False)
        return query or self._snapshot


def _text(message: Object) -> str | None:
    return text_and_media(message.get("content"))[0]


def _identity(message: Object) -> Hashable:
    """What makes two writings of a message the same."""
    called = as_name(_first(message.get("tool_calls")).get("id"))
    answered = as_name(next(iter(as_array(message.get("tool_call_ids"))), None))
    return as_text(message.get("role")), _text(message), called, answered


def _sent_thoughts(message: Object) -> Iterator[Thought]:
    """Of a message in a request, the thinking that the model gets to see."""
    if message.get("tool_calls") is not None:
        yield from thoughts_of({"thinking_blocks": message.get("thinking_blocks")})
