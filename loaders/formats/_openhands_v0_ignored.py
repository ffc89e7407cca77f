"""What of OpenHands V0 logs is left out of the tables, and why."""

from __future__ import annotations

from typing import Final

_OBSERVATIONS = (
    *("run", "run_ipython", "read", "edit", "write", "think", "task_tracking", "mcp", "error"),
    *("browse", "browse_interactive", "delegate", "success", "user_rejected", "recall"),
)
_PLACES = ("", "/*", "/*/*", "/history/*", "/history/*/*", "/trajectory/*", "/trajectory/*/*")
_OF_AN_EVENT = {
    "id": "the running number of the event, which its place tells",
    "cause": "the result is linked to its call, by this or by the id of the call",
    "action": "an action becomes an event of its kind, or a call of the tool that it names",
    "observation": "an observation becomes an event of its kind, or the result of its call",
    "message": "what the screen shows of the event, made up from its other parts",
}
_DEFAULTS = "the arguments are kept as the model wrote them; these are as the harness read them"

IGNORED: Final = {
    **{
        f"observation={kind} /**/tool_call_metadata/**": "the action repeats it, and is told"
        for kind in _OBSERVATIONS
    },
    **{
        f"observation={kind} {place}/source": "the action that it answers says who asked for it"
        for kind in _OBSERVATIONS
        for place in _PLACES
    },
    **{f"{place}/{key}": reason for place in _PLACES for key, reason in _OF_AN_EVENT.items()},
    **{
        f"/**/args/{key}": _DEFAULTS
        for key in (
            *("blocking", "hidden", "is_input", "is_static", "start", "end", "impl_source"),
            *("command", "insert_line", "task_completed"),
        )
    },
    "action=think /**/args/thought": "the text of the reply and the thought of the call, which are told",
    "/**/args/image_urls/*": "that a picture was shown is kept, but no data of pictures",
    "/**/extras/command": "the arguments of the call have it",
    "/metadata/llm_config/api_key": "a credential, or the stars in its place",
    "/instance/instance_id": "the row itself is named by it, and the run",
    **{
        f"observation={kind} {place}/content": "what it observed is told itself"
        for kind in ("recall", "agent_state_changed")
        for place in _PLACES
    },
    **{
        f"action={kind} {place}/source": "an action of this kind has one source only"
        for kind in ("system", "condensation")
        for place in _PLACES
    },
    "observation=null": "it says only that an action has no result",
    "action=recall": "what was recalled follows as an observation",
    "/**/args/confirmation_state": "a call that was rejected has a result that says so",
    "/**/args/wait_for_response": "whether the run waits after a message, which its next event shows",
    "/**/args/translated_ipython_code": "an edit in the words of another tool, whose own call is kept",
    "/**/extras/impl_source": "which code of the harness did an edit",
    "/**/extras/hidden": "whether the screen shows the result",
    "/**/extras/diff": "the change as the screen shows it; the call holds its old and new text",
    "/**/extras/prev_exist": "whether the file was there, which the text of the result says",
    "/**/extras/formatted_output_and_error": "the text of the result for the screen",
    "/**/extras/metadata/hostname": "the name of the container, new in each run",
    "/**/extras/metadata/username": "the user inside the container",
    "/**/extras/metadata/pid": "the number of a process inside the container",
    "/**/extras/metadata/py_interpreter_path": "the path of Python inside the container",
    "/**/extras/metadata/working_dir": "the first is the run's folder, and later ones follow from commands",
    "/**/llm_metrics/**": "sums so far: the last ones are kept, and each call has its own",
    "/**/metrics/token_usages/**": "the response itself says it; of a call without one all is kept",
    "/**/args/tools/*/type": "every tool on offer is a function",
    "/**/tool_call_metadata/total_calls_in_response": "the response itself holds all its calls",
    **{
        f"/**/tool_call_metadata/model_response/{key}": reason
        for key, reason in {
            "id": "the provider's number of the reply, by which actions are joined to one call",
            "created": "the action has a time of its own, to the microsecond",
            "object": "the name of the reply's type, always the same",
            "choices/*/index": "there is one choice in each response",
            "choices/*/message/role": "a reply is always the assistant's",
            "choices/*/message/tool_calls/*/index": "the order of the calls tells it",
            "choices/*/message/tool_calls/*/function/name": "the action names the same function",
            "choices/*/message/tool_calls/*/type": "every call is of a function",
            "usage/total_tokens": "the sum of the two counts that are kept",
            "usage/cache_creation_input_tokens": "input that the provider began to cache, part of the input",
            "usage/cache_read_input_tokens": "cached tokens are kept under their other name",
        }.items()
    },
}
