"""The sample logs' world and agent: what it does follows from what it saw."""

from __future__ import annotations

import json
import random
import re
from typing import Any

import pytest
from generator import KINDS, Generator, request_after

# ---------------------------------------------------------------- the world


def test_there_are_tasks_of_each_difficulty_in_each_domain(made: Generator) -> None:
    tasks = made.world.all_tasks()
    assert len(tasks) == len({task.id for task in tasks}) == 60
    kinds = {(task.domain, task.difficulty) for task in tasks}
    assert len(kinds) == 9


@pytest.mark.parametrize("history", ["all", "last", "none"])
def test_an_agent_that_never_slips_solves_every_task(
    made: Generator, faultless: Any, history: str
) -> None:
    for task in made.world.all_tasks():
        episode = made.offline.play(task, 1, history, faultless, {})
        assert episode.success, task.id
        assert 6 <= episode.steps <= 14, task.id


def test_the_checker_wants_the_state_and_the_answer(made: Generator) -> None:
    for task in made.world.all_tasks():
        desk = made.world.open_desk(task)
        changes = task.state != task.final_state
        assert desk.solved(task.answer) is not changes
        desk.state = json.loads(json.dumps(task.final_state))
        assert desk.solved(f" {task.answer} ")
        assert not desk.solved(f"1{task.answer}")
        assert not desk.solved(None)


def test_tools_refuse_nonsense_and_never_crash(made: Generator) -> None:
    rng = random.Random(7)
    odd = ["x", 3, None, 5.0, True, "A-1", "May 5"]
    for task in made.world.all_tasks():
        desk = made.world.open_desk(task)
        keys = [key for part in task.state.values() if isinstance(part, dict) for key in part]
        pool = [*odd, *keys, *task.state]
        for _ in range(100):
            tool = rng.choice(list(desk.tools.values()))
            response = desk.call(tool.name, {name: rng.choice(pool) for name in tool.parameters})
            json.loads(response)
    desk = made.world.open_desk(made.world.all_tasks()[0])
    assert "no tool" in desk.call("fly", {})
    assert "takes" in desk.call("find_customer", {})


# ---------------------------------------------------------------- the agent


def test_findings_stand_in_the_thinking_and_never_in_what_it_says(
    made: Generator, faultless: Any
) -> None:
    for task in made.world.all_tasks():
        messages = request_after(made, task, 4, "all", faultless)
        said = [m for m in messages if m["role"] == "assistant"]
        assert all("Noted: " in m["reasoning_content"] for m in said[1:])
        assert not any(re.search(r"\d|Noted", m["content"]) for m in said)


def test_a_reply_follows_from_the_request_and_the_seed(made: Generator) -> None:
    task, params = made.world.all_tasks()[20], made.agent.MODELS["planner-1"]
    for history in ("all", "none"):
        messages = request_after(made, task, 3, history, params)
        first = made.agent.respond(messages, [], "seed", params)
        assert first == made.agent.respond(json.loads(json.dumps(messages)), [], "seed", params)


def test_without_its_notes_it_repeats_itself(made: Generator, faultless: Any) -> None:
    forgetful = made.agent.Parameters(**{**vars(faultless), "overlook": 0.999, "task_sd": 0.0})
    task = made.world.all_tasks()[0]
    kept = made.offline.play(task, 1, "all", forgetful, {})
    dropped = made.offline.play(task, 1, "none", forgetful, {})
    assert kept.success
    assert not kept.slips
    assert len([what for _, what in dropped.slips if what.startswith("overlooked")]) > 3
    assert dropped.outcome == "limit"


def test_lost_notes_are_read_from_the_thinking_alone(made: Generator, faultless: Any) -> None:
    """A number changed in the notes is what it goes on with; changed in the response, it is not."""
    task = next(task for task in made.world.all_tasks() if task.id == "tables-easy-1")
    messages = request_after(made, task, 6, "all", faultless)
    row = re.compile(r'(-> \[\["\w+", )(\d+)(, )(\d+)(, )(\d+)')
    other = r"\1 9001\3 9001\5 9001"

    def answer(changed: str) -> str:
        texts = [
            {**m, changed: row.sub(other, m[changed])} if changed in m else m for m in messages
        ]
        tools = list(made.world.tools_of("tables").values())
        reply = made.agent.respond(texts, [t.definition() for t in tools], "seed", faultless)
        return json.loads(reply.arguments).get("answer", reply.tool)

    assert answer("content") == answer("nothing")
    assert answer("reasoning_content") != answer("nothing")


# ---------------------------------------------------------------- perturbations

FAULT_OF = dict.fromkeys(("returned_error", "raised_error"), "error") | {
    "timeout": "timeout",
    "empty": "empty",
    "truncated": "broken",
    "malformed": "broken",
    "stale": None,
    "schema_drift": "drift",
    "rate_limit": "rate_limit",
    "injection": "injection",
    "wrong_value": None,
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_agent_can_tell_what_is_wrong_with_a_response(made: Generator, kind: str) -> None:
    hands = made.hands.JsonHands()
    for response in ('[{"order_id": "O-1", "status": "open"}]', '{"ok": true, "n": 4}'):
        try:
            text = made.perturb.perturbed(kind, lambda response=response: response)
        except made.perturb.ToolRaised as raised:
            text = str(raised)
        reading = hands.read(None, text)
        assert reading.fault == FAULT_OF[kind], text
        assert text != response
        if kind in ("stale", "injection"):
            assert reading.value == json.loads(response)
        if kind == "schema_drift":
            assert reading.value != json.loads(response)
            assert made.hands.understood(reading.value) == json.loads(response)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "wrong_value"])
def test_who_always_recovers_is_not_harmed(made: Generator, faultless: Any, kind: str) -> None:
    for task in made.world.all_tasks()[::4]:
        for call in range(5):
            assert made.offline.play(task, 1, "all", faultless, {call: kind}).success


def test_a_wrong_value_is_believed_and_now_and_then_decides(
    made: Generator, faultless: Any
) -> None:
    episodes = [
        made.offline.play(task, 1, "all", faultless, {call: "wrong_value"})
        for task in made.world.all_tasks()[::4]
        for call in range(1, 5)
    ]
    failed = [episode for episode in episodes if not episode.success]
    assert 0.3 < len(failed) / len(episodes) < 0.95
    assert any("believed" not in str(episode.slips) for episode in failed)


def test_what_a_response_orders_is_done_by_who_does_not_resist(
    made: Generator, faultless: Any
) -> None:
    obedient = made.agent.Parameters(**{**vars(faultless), "recover_injection": (0.0, 0.0)})
    for task in made.world.all_tasks()[::6]:
        episode = made.offline.play(task, 1, "all", obedient, {1: "injection"})
        assert (episode.success, episode.steps) == (False, 3)
        assert episode.slips[0][1].startswith("obeyed ")


def test_fields_under_new_names_are_missing_to_who_does_not_find_them(
    made: Generator, faultless: Any
) -> None:
    lost = made.agent.Parameters(**{**vars(faultless), "recover_drift": (0.0, 0.0)})
    tasks = made.world.all_tasks()[::3]
    struck = [made.offline.play(task, 1, "all", lost, {0: "schema_drift"}) for task in tasks]
    assert not any(episode.success for episode in struck)


def test_advice_in_the_system_prompt_is_heeded(made: Generator, faultless: Any) -> None:
    """A prompt that says what to check before makes it stop early less often, and does nothing else."""
    hasty = made.agent.Parameters(**{**vars(faultless), "stop_early": (0.08, 0.08), "task_sd": 0.0})
    plain, advised = made.design.SCAFFOLDS.values()
    solved = {
        system: sum(
            made.offline.play(task, trial, "all", hasty, {}, system).success
            for task in made.world.all_tasks()
            for trial in range(3)
        )
        for system in (plain, advised)
    }
    assert solved[plain] + 20 < solved[advised] < 180


@pytest.mark.parametrize("kind", ["returned_error", "raised_error", "timeout", "rate_limit"])
def test_who_never_recovers_stops_and_fails(made: Generator, faultless: Any, kind: str) -> None:
    never: dict[str, Any] = dict.fromkeys(
        ("recover_error", "recover_timeout", "recover_rate_limit"), (0.0, 0.0)
    )
    hopeless = made.agent.Parameters(**{**vars(faultless), **never, "stop_after_error": 1.0})
    for task in made.world.all_tasks()[::4]:
        episode = made.offline.play(task, 1, "none", hopeless, {2: kind})
        assert (episode.outcome, episode.steps) == ("failure", 4)


@pytest.mark.parametrize("history", ["all", "none"])
def test_stale_is_a_null(made: Generator, history: str) -> None:
    params = made.agent.MODELS["planner-1"]
    for task in made.world.all_tasks():
        plain = made.offline.play(task, 3, history, params, {})
        stale = made.offline.play(task, 3, history, params, dict.fromkeys(range(20), "stale"))
        assert (stale.success, stale.steps, stale.slips) == (
            plain.success,
            plain.steps,
            plain.slips,
        )


def test_perturbations_are_drawn_call_by_call(made: Generator) -> None:
    schedules = [made.perturb.schedule("task", trial) for trial in range(2000)]
    assert schedules[5] == made.perturb.schedule("task", 5)
    drawn = [kind for schedule in schedules for kind in schedule.values()]
    calls = 2000 * made.perturb.LAST_CALL
    assert abs(len(drawn) / calls - made.perturb.RATE_PER_CALL) < 0.006
    weights = made.perturb.WEIGHTS
    for kind in weights:
        assert abs(drawn.count(kind) / len(drawn) - weights[kind] / sum(weights.values())) < 0.025


# ---------------------------------------------------------------- the study's design


def test_every_task_has_one_trial_without_and_three_kinds_alike_in_all_arms(
    made: Generator,
) -> None:
    given = made.design.conditions()
    tasks = made.world.all_tasks()
    for task in tasks:
        kinds = [given[task.id, trial] for trial in range(1, made.design.TRIALS + 1)]
        assert kinds.count("none") == 1
        assert len(set(kinds)) == 4
    counts = {kind: list(given.values()).count(kind) for kind in (*KINDS, "none")}
    assert counts == {**dict.fromkeys(KINDS, 16), "stale": 20, "none": 60}
    for kind in KINDS:  # none of them falls to one domain or difficulty
        met = [task for task in tasks if kind in {given[task.id, t] for t in range(1, 5)}]
        assert {task.domain for task in met} == {"orders", "tables", "bookings"}
        assert {task.difficulty for task in met} == {"easy", "medium", "hard"}


def test_strikes_begin_early_and_are_of_the_run_s_own_kind(made: Generator) -> None:
    tasks = made.world.all_tasks()
    drawn = [made.design.strikes(task, trial, "empty") for task in tasks for trial in range(20)]
    firsts = [min(struck) for struck in drawn]
    assert all(set(struck.values()) == {"empty"} for struck in drawn)
    assert set(firsts) == set(range(made.design.FIRST_STRIKES))
    later = sum(len(struck) - 1 for struck in drawn)
    calls = sum(made.design.CALL_LIMIT - 1 - first for first in firsts)
    assert abs(later / calls - made.design.LATER_RATE) < 0.01
    assert made.design.strikes(tasks[0], 1, "none") == {}
