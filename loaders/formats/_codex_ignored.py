"""What Codex rollouts say that no table needs, and why."""

from __future__ import annotations

_TURN = "names the turn that the lines around it are of"
_ITEM = "the number of the item at the provider, which nothing else in the log uses"
_CALL = "what the call and its output, which the model saw, say themselves"
_QUOTA = "how much of the account's quota was used; its last state is kept"

PATHS = {
    "/ordinal": "the running number of the line, which its place tells",
    "type=event_msg /timestamp": "what an event shows once more has its time at the item",
    "type=session_meta /timestamp": "the time at which the session began is kept from its head",
    "type=turn_context /timestamp": "a turn begins with what stands next, which has a time",
    "/payload/turn_id": _TURN,
    "/payload/*/turn_id": _TURN,
    "type=response_item /payload/*/create_time": "the line has the time",
    "type=response_item /payload/id": _ITEM,
    "type=response_item /payload/content/*/type": "texts are told as text, pictures by their type",
    "type=input_image /payload/content/*/detail": "how finely the picture was to be looked at",
    "type=input_image /payload/content/*/image_url": "the bytes of a picture, whose type is kept",
    "type=input_image /payload/output/*/image_url": "the bytes of a picture, whose type is kept",
    "type=response_item /payload/output/type": "texts are told as text, pictures by their type",
    "type=response_item /payload/output/*/type": "texts are told as text, pictures by their type",
    "type=response_item /payload/summary/*/type": "all parts of a summary are of one type",
    "type=response_item status=completed /payload/status": "whatever is an item is complete",
    "type=response_item role=user /payload/phase": "what the user says is input in any phase",
    "type=tool_search_call /payload/execution": "who searched the tools, not what was found",
    "type=tool_search_output /payload/execution": "who searched the tools, not what was found",
    "type=ghost_snapshot /payload/**": "a state of the files in a store that is no part of the log",
    "/payload/info/total_token_usage/*": "the running total of the counts that are kept",
    "/payload/info/last_token_usage/total_tokens": "the sum of the counts that are kept",
    "/payload/info/last_token_usage/cache_write_input_tokens": "they are among the input tokens",
    "/payload/rate_limits/**": _QUOTA,
    "type=compacted /payload/replacement_history/*/type": "the messages themselves were told before",
    "type=compacted /payload/replacement_history/*/role": "the messages themselves were told before",
    "type=compacted /payload/replacement_history/*/id": _ITEM,
    "type=compacted /payload/replacement_history/*/*/turn_id": _TURN,
    "type=compacted /payload/replacement_history/*/*/create_time": "the messages were told with theirs",
    "type=compacted /payload/replacement_history/*/content/*/type": "the messages were told before",
    "type=compacted /payload/replacement_history/*/content/*/detail": "the messages were told before",
    "type=ghost_snapshot /payload/replacement_history/*/ghost_commit/**": (
        "a state of the files in a store that is no part of the log"
    ),
    "type=session_meta /payload/dynamic_tools/**": "the tools' names, words and parameters are kept",
    "type=user_message /payload/kind": "the item of the message says whose words they are",
    "type=user_message /payload/client_id": "which window of the program sent the message",
    "type=user_message /payload/images/*": "the bytes of a picture, whose type the item has",
    "type=user_message /payload/text_elements/**": "places in the text that the screen marks",
    "type=agent_message /payload/phase": "the item of the message has the phase",
    "type=item_completed /payload/started_at_ms": "the item of the history has its time",
    "type=item_completed /payload/completed_at_ms": "the item of the history has its time",
    "type=Reasoning /payload/item/type": "what an item of the history says is told there",
    "type=AgentMessage /payload/item/content/*/type": "what an item of the history says is told there",
    "type=Extension /payload/item/type": "the call whose results it brings says what it is",
    "type=Extension /payload/item/action/*": "the call whose results it brings says what it is",
    "type=UserMessage /payload/item/content/*/type": "what an item of the history says is told there",
    "type=task_started /payload/started_at": "the line has the time",
    "type=task_started /payload/model_context_window": "the counts of tokens have it, which is kept",
    "type=task_started /payload/collaboration_mode_kind": "the settings of the turn have it",
    "type=codex/event/raw_item /payload/payload/**": "that something came in, not what",
    "type=raw_response_item /payload/**": "the item of the history is told",
    "type=turn_diff /payload/unified_diff": "the changes so far, which calls spell out",
    **{
        f"type={kind}_begin /payload/**": "the call itself is told, and how it ended"
        for kind in ("exec_command", "mcp_tool_call", "patch_apply", "web_search")
    },
    **{
        f"type={kind} /payload/{path}": _CALL
        for kind, paths in {
            "exec_command_end": (
                *("parsed_cmd/**", "command/**", "cwd", "source", "status", "process_id"),
                *("stdout", "stderr", "aggregated_output", "formatted_output"),
            ),
            "patch_apply_end": ("changes/**", "stdout", "stderr", "status", "success"),
            "mcp_tool_call_end": ("invocation/**", "result/**", "read_only_hint"),
            "web_search_end": ("query", "action/**"),
        }.items()
        for path in paths
    },
    "/record_type": "the state of the program between two turns; it says nothing else",
    "/content/*/type": "texts are told as text, pictures by their type",
    "/summary/*/type": "all parts of a summary are of one type",
}
