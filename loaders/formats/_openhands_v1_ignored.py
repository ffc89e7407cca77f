"""What of OpenHands V1 logs is left out of the tables, and why."""

from __future__ import annotations

from typing import Final

_AGENTS_OWN = "an event of this kind has one source only"
_READ = (
    "the arguments of the call are kept as the model wrote them; these are as the harness read them"
)
_FLAG = "a default of the harness for how it writes a request; the model's own settings are kept"
_CREDENTIAL = "a credential, or the stars in its place"
_CONTENTS = (
    "/llm_message/content",
    "/observation/content",
    "/thought",
    "/system_prompt",
    "/extended_content",
)

_OF_AN_EVENT: Final = {
    "/id": "the name of the event, by which results and condensations find it",
    "/action_id": "the result is linked to its call, by this or by the id of the call",
    "/llm_response_id": "the actions of one response are one call, and have its tokens",
    **{
        f"kind={kind} /source": _AGENTS_OWN
        for kind in (
            *("SystemPromptEvent", "SystemPromptUpdateEvent", "ActionEvent", "ObservationEvent"),
            *("ConversationStateUpdateEvent", "AgentErrorEvent", "Condensation"),
            *("CondensationSummaryEvent", "ConversationErrorEvent", "ACPToolCallEvent"),
            *("ConversationIterationLimitEvent", "UserRejectObservation"),
        )
    },
    "kind=ConversationStateUpdateEvent /timestamp": "no event of the run: the last update counts",
    "/value/usage_to_metrics/**": "sums so far, of which the last ones are kept",
    "/value/agent/llm/api_key": _CREDENTIAL,
    "kind=ACPToolCallEvent /title": "an update of a call repeats what its first event said",
    "kind=ACPToolCallEvent /timestamp": "the call has the time of its first event, the result its own",
    "kind=ACPToolCallEvent /status": "a call on its way; that it ended shows in its result",
    "kind=SystemPromptUpdateEvent /reason": "the new prompt and the new tools show what changed",
    **{
        f"{place}/*/{key}": _FLAG
        for place in _CONTENTS
        for key in ("type", "cache_prompt", "enable_truncation")
    },
    **{f"/system_prompt/{key}": _FLAG for key in ("type", "cache_prompt", "enable_truncation")},
    **{
        f"/llm_message/{key}": _FLAG
        for key in (
            *("cache_enabled", "force_string_serializer", "function_calling_enabled"),
            *("send_reasoning_content", "vision_enabled"),
        )
    },
    "/llm_message/role": "the source of the event says who speaks",
    "kind=ActionEvent /action/**": _READ,
    "kind=ActionEvent /summary": "the model's own is in the arguments; without one the harness makes it up",
    "kind=ActionEvent /tool_call/name": "the event itself names the same tool",
    "/tool_call/id": "the event itself has the same id",
    "/observation/metadata/exit_code": "the observation has it, or -1 stands there for unknown",
    "/observation/kind": "it follows from the tool, whose name is kept",
    "/observation/command": "the arguments of the call have it",
    "/observation/full_output_save_dir": "a folder of the machine on which the command ran",
    "/observation/metadata/hostname": "the name of the container, new in each run",
    "/observation/metadata/username": "the user inside the container",
    "/observation/metadata/pid": "the number of a process inside the container",
    "/observation/metadata/py_interpreter_path": "the path of Python inside the container",
    "/observation/metadata/working_dir": "the first is the run's folder, and later ones follow from commands",
    "/tools/*/annotations/**": "hints for the harness about a tool, which the model is not shown",
    "/tools/*/kind": "the class of the tool, whose name and description are kept",
    "/tools/*/observation_type": "the class of the tool's results in the harness",
}


def _in_an_array(pattern: str) -> str:
    """The same pattern for events that stand in one array."""
    *demands, pointer = pattern.split(" ")
    return " ".join([*demands, f"/*{pointer}"])


IGNORED: Final = {
    **_OF_AN_EVENT,
    **{_in_an_array(pattern): reason for pattern, reason in _OF_AN_EVENT.items()},
    "/agent/llm/api_key": _CREDENTIAL,
    "/stats/usage_to_metrics/*/costs/**": "the cost of the run, their sum, is kept",
    "/stats/usage_to_metrics/*/token_usages/*/cache_write_tokens": "a part of the input, whose sum over the run is kept",
    "/stats/usage_to_metrics/*/token_usages/*/context_window": "the sums over the run have it too",
    "/stats/usage_to_metrics/*/token_usages/*/per_turn_token": "the sum of the two counts that are kept",
}
