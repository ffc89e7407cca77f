"""What of a recorded call the tables leave out, and why, for all formats that hold such calls.

A recording may hold calls of several APIs, so there is one list for all of them. What a response says
beside its reply is mostly kept, in the run's metadata (``loaders.dialects.asides``).
"""

from __future__ import annotations

from typing import Final

from loaders.dialects import bedrock, gemini_wire

_BODIES: Final = ("string", "parsed_body", "body", "body_raw", "text", "response", "data")


def _in_bodies(key: str, reason: str, within: str = "") -> dict[str, str]:
    """The pattern of a key at the top of a response, wherever in a recording the body stands."""
    return {f"{within}/**/{body}/{key}": reason for body in _BODIES}


_CASSETTES: Final = {
    "/version": "the version of the recorder's layout",
    "/recorded_with": "the recorder's name and version",
    "/*/*/request/method": "calls of a model are all of one method",
    "/requests/*/method": "calls of a model are all of one method",
    "/*/*/request/headers/**": "the client's name and the features it asks for are kept; "
    "the others are about the transfer, or secret",
    "/requests/*/headers/**": "the client's name and the features it asks for are kept; "
    "the others are about the transfer, or secret",
    "/*/*/response/headers/**": "headers of HTTP: kinds and lengths of bodies, names for support",
    "/responses/*/headers/**": "headers of HTTP: kinds and lengths of bodies, names for support",
    "/*/*/response/status/**": "a call that failed tells its error; the others are all alike",
    "/responses/*/status/**": "a call that failed tells its error; the others are all alike",
}
_REQUESTS: Final = {
    "/**/stream": "a streamed reply is put together again",
    "/**/tools/*/type": "what has no name of its own is named after it; the others are functions",
    "/**/tools/*/strict": "how the service checks arguments against the schema, which is kept",
    "/**/tools/*/function/strict": "how the service checks arguments against the schema, which is kept",
    "/**/cachePoint/type": "a mark for the provider's cache, whose hits the tokens tell",
    "/**/body/encoding": "how the recorder wrote the text of the body, which is told",
    "/input/inputContentType": "the body itself shows that it is JSON",
    "/output/outputContentType": "the body itself shows that it is JSON",
    "/**/document/name": "the name of a file whose kind is kept and whose place in the log is known",
    "/**/fileData/fileUri": "the address of a file whose kind is kept and whose place in the log is known",
    "/**/image_url": "an image whose kind is kept and whose place in the log is known",
    "/**/cache_control/type": "a mark for the provider's cache, whose hits the tokens tell",
    "/**/cache_control/ttl": "a mark for the provider's cache, whose hits the tokens tell",
    "/**/tool_calls/*/type": "every call is of a function, or names itself otherwise",
    "/**/tool_calls/*/index": "the order of the calls tells it",
    "type=response /type": "the line shows itself whether it is a request or a response",
    "type=request /type": "the line shows itself whether it is a request or a response",
    "type=response /*/type": "the record shows itself whether it is a request or a response",
    "type=request /*/type": "the record shows itself whether it is a request or a response",
    "/request/method": "calls of a model are all of one method",
    "role=user /**/messages/*/role": "whoever is neither model nor system counts as the user",
    "/**/messages/*/index": "the order of the messages tells it",
    "/**/messages/*/prefix": "a reply that is to be continued stands at the end of the request",
    "role=assistant /**/messages/*/content/*/caller/**": "a reply that is repeated is told from its response",
    **{
        f"role=assistant /**/messages/*/{place}": "a reply that is repeated is told from its response"
        for place in (
            *("tool_calls/*/id", "content/*/id", "content/*/signature", "thinking_blocks/*/type"),
            "content/*/name",
            *("content/*/toolUse/toolUseId", "content/*/reasoningContent/reasoningText/*"),
        )
    },
    **{
        f"role=model /**/contents/*/parts/*/{key}": "a reply that is repeated is told from its response"
        for key in ("text", "thoughtSignature")
    },
    "role=assistant /**/messages/*/content/*/type": "a reply that is repeated is told from its response",
    "type=text /**/messages/*/content/*/type": "a part with a text is told as text",
    "type=text /**/system/*/type": "the system prompt is made of texts",
    "type=text /**/messages/*/content/*/content/*/type": "a part with a text is told as text",
}
_RESPONSES: Final = {
    "/response/status_code": "a call that failed tells its error; the others are all alike",
    "type=error /**/type": "the error itself is told",
    "/**/output/message/role": "always the assistant's",
    "/**/messageStart/role": "always the assistant's",
    "/**/contentBlock*/contentBlockIndex": "the order of the blocks tells it",
    "/**/contentBlockDelta/p": "padding without meaning, against listeners",
    "/**/codeExecutionResult/outcome": "whether it failed is kept; its output says how",
    "/**/choices/*/index": "the order of the choices tells it",
    "/**/choices/*/message/role": "always the assistant's",
    "/**/choices/*/logprobs/**": "probabilities of the tokens of the reply, whose text is kept",
    "type=text /**/message/content/*/**/type": "a part with a text is told as text",
    "type=text /**/messages/*/content/*/thinking/*/type": "a part with a text is told as text",
    "/**/reasoning_details/*/format": "whose way of writing the block; the model is kept",
    "/**/reasoning_details/*/index": "the order of the blocks tells it",
    "/**/reasoning_details/*/type": "what the block holds, text or summary or secret, tells it",
    **_in_bodies("created", "when the call was taken, its time where the log has no better one"),
    **_in_bodies("type", "the response is the assistant's message", "type=message role=assistant "),
    **_in_bodies("role", "the response is the assistant's message", "type=message role=assistant "),
    "type=message role=assistant /**/content/*/type": "text, thinking and calls show what they are",
    "/**/usage/total_tokens": "the sum of the tokens of input and output, which are kept",
    "/**/usage/prompt_cache_*_tokens": "cached tokens are kept under their other name",
    "/**/usage/iterations/**": "the calls behind one reply: where there are several, each is a step",
    "/**/time_info/created": "the moment of the call, which the log has elsewhere",
    "/**/encrypted_index": "a place in a page that the service alone can read; its words are kept",
    "type=web_search_result /**/encrypted_content": "a page that the service alone can read; its title and address are kept",
    "type=web_search_result /**/type": "a title and an address make it a hit of a search",
}
_IDS: Final = {
    **_in_bodies("id", "the provider's own number of a response, which nothing refers to"),
    **_in_bodies("request_id", "the provider's own number of a call, which nothing refers to"),
    **_in_bodies("object", "the name of the response's type, always the same"),
    "/**/data/message/id": "the provider's own number of a response, which nothing refers to",
}
_STREAMS: Final = {
    "/**/data/index": "the order of the blocks tells it",
    "type=ping": "a sign of life without content",
    "type=content_block_stop": "the end of a block, which the next one's beginning tells",
    "type=message_start /**/data/type": "the kind of the event, which its content shows",
    "type=message_start /**/data/message/type": "the response is the assistant's message",
    "type=message_start /**/data/message/role": "the response is the assistant's message",
    "type=message_start /**/message/stop_reason": "the last event says why the reply ended",
    "type=message_start /**/usage/*_tokens": "the last event repeats the counts, as they are in the end",
    "type=message_start /**/usage/service_tier": "the last event may repeat it, and counts",
    "type=citations_delta /**/data/delta/type": "the citation itself, which is kept, shows it",
}
_ITEMS: Final = {
    "/**/input/*/id": "ids of items, which are followed where a request names them alone",
    "/**/output/*/id": "ids of items, which are followed where a request names them",
    **{
        f"type={within} /**/id": "ids of items, which are followed where a request names them"
        for within in ("reasoning", "function_call", "web_search_call", "message role=assistant")
    },
    "status=completed /**/status": "what failed says so; all others are alike",
    "status=incomplete /**/status": "the reason why it is incomplete is kept",
    "role=user /**/output/*/**": "what a compaction leaves of the history stands in its request",
    "type=compaction /**/input/*/encrypted_content": "a compaction that is repeated is told from its response",
    "type=function_call /**/input/*/call_id": "a call that is repeated is told from its response",
    "type=input_text /**/type": "a part with a text is told as text",
    "type=reasoning_text /**/type": "a part with a text is told as text",
    "type=shell_call_output /**/outcome/type": "the exit code is kept where there is one",
    "type=reasoning /**/summary/*/type": "a summary is made of texts",
    "type=message /**/content/*/type": "text or refusal, which the text's own key says as well",
    **_in_bodies("created_at", "when the call was taken, its time where the log has no better one"),
    "status=completed /**/tools/**": "the response repeats the tools of its request",
}
_ITEM_EVENTS: Final = {
    "/**/data/sequence_number": "the number of the event, which its place tells",
    "/**/data/output_index": "the number of the item; items stand in order",
    "/**/data/content_index": "the number of the part; parts stand in order",
    "/**/data/summary_index": "the number of the part; parts stand in order",
    "/**/data/item_id": "the id of an item that the event of its end repeats",
    "/**/data/obfuscation": "padding without meaning, against listeners",
    "/**/data/delta": "a piece of an item, which the event of its end repeats as a whole",
    "/**/data/part/**": "a part of an item, which the event of its end repeats as a whole",
    "/**/data/item/id": "ids of items, which are followed where a request names them",
    "type=response.output_item.added /**/data/item/**": "the event of the item's end repeats it",
    **{
        f"type=response.{kind} /**/data/{key}": "the event of the item's end repeats it"
        for kind, key in (
            ("output_text.done", "text"),
            ("reasoning_summary_text.done", "text"),
            ("function_call_arguments.done", "arguments"),
        )
    },
    **{
        f"type=response.{kind} /**/data/type": "the item itself shows the kind of the event"
        for kind in (
            *("output_text.delta", "output_text.done", "content_part.added", "content_part.done"),
            *("function_call_arguments.delta", "function_call_arguments.done"),
            *("output_item.added", "output_item.done", "created", "in_progress", "completed"),
            *("reasoning_summary_text.delta", "reasoning_summary_text.done"),
            *("reasoning_summary_part.added", "reasoning_summary_part.done"),
        )
    },
    "type=response.created /**/data/response/**": "the last event repeats it, as it is in the end",
    "type=response.in_progress /**/data/response/**": "the last event repeats it, as it is in the end",
    "type=response.completed /**/data/response/output/**": "the events of the items have told it",
}
IGNORED: Final = {
    **_CASSETTES,
    **_REQUESTS,
    **_RESPONSES,
    **_IDS,
    **_STREAMS,
    **_ITEMS,
    **_ITEM_EVENTS,
    **bedrock.IGNORED,
    **gemini_wire.IGNORED,
}
"""Path pattern to reason."""
