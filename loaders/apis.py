"""Which API a recorded call is of, and of which model: by its address, or by what was sent."""

from __future__ import annotations

import re
from typing import Any, Final
from urllib.parse import SplitResult, unquote, urlsplit

from loaders.dialects.either import dialect_of
from loaders.dialects.responses import NAME as RESPONSES
from loaders.dialects.responses import is_response
from loaders.values import Object, as_array, as_object, as_text, is_array, is_object

INVOKE: Final = "bedrock_invoke"
"""Bedrock's raw way to a model: each maker's own dialect, some of which are known here."""

_NO_CALL = re.compile(
    r"(?:/(?:count_tokens|embeddings|moderations|batches|models|files|tokenize)\b|:countTokens$)"
)
_PATHS: Final = (
    (re.compile(r"/chat/completions/?$"), "openai_chat"),
    (re.compile(r"/v1/messages/?$"), "anthropic_messages"),
    (re.compile(r"/publishers/anthropic/.*:(?:raw|streamRaw)Predict$"), "anthropic_messages"),
    (re.compile(r"/responses(?:/compact)?/?$"), RESPONSES),
    (re.compile(r":(?:generate|streamGenerate)Content$"), "gemini_api"),
    (re.compile(r"/(?:converse|converse-stream)$"), "bedrock_converse"),
    (re.compile(r"/(?:invoke|invoke-with-response-stream)$"), INVOKE),
)
_MODEL_IN_PATH = re.compile(
    r"/model/([^/]+)/(?:converse|invoke)[\w-]*$|/models/([^/:]+):\w+(?:Content|Predict)$"
)
_BEDROCK_KEYS = ("inferenceConfig", "additionalModelRequestFields", "toolConfig")
_GEMINI_KEYS = ("generationConfig", "generation_config", "systemInstruction", "system_instruction")
_BESIDE_CANDIDATES = frozenset(
    (
        *("promptFeedback", "usageMetadata", "modelVersion", "responseId", "createTime"),
        *("candidates", "sdk_http_response", "automatic_function_calling_history", "parsed"),
        *("prompt_feedback", "usage_metadata", "model_version", "response_id", "create_time"),
    )
)
_RESPONSES_KEYS = ("input", "previous_response_id")
_KEYS_IN_TEXT: Final = (
    (_GEMINI_KEYS, "gemini_api"),
    (_BEDROCK_KEYS, "bedrock_converse"),
    (("contents",), "gemini_api"),
    (_RESPONSES_KEYS, RESPONSES),
)
_BEDROCK_BLOCKS = frozenset(
    ("text", "toolUse", "toolResult", "reasoningContent", "image", "document", "cachePoint")
)
_BEDROCK_EVENTS = ("messageStart", "contentBlockStart", "contentBlockDelta", "messageStop")
_URI = re.compile(r"\b(?:uri|url)[\"']?:\s*[\"']?(https?://[^\s\"']+)")


def address_of(url: str | None) -> SplitResult:
    """The parts of an address; empty ones where it is none."""
    try:
        return urlsplit(url or "")
    except ValueError:
        return urlsplit("")


def api_of_url(url: str | None) -> str | None:
    """The API that an address belongs to; None for anything that is no call of a model.

    >>> api_of_url("https://openrouter.ai/api/v1/chat/completions")
    'openai_chat'
    """
    path = address_of(url).path
    return next((api for pattern, api in _PATHS if pattern.search(path)), None)


def model_of_url(url: str | None) -> str | None:
    """The model that an address names, as those of some clouds do.

    >>> model_of_url("https://bedrock.example/model/us.maker.m-v1%3A0/converse")
    'us.maker.m-v1:0'
    """
    found = _MODEL_IN_PATH.search(address_of(url).path)
    return unquote(found[1] or found[2]) if found else None


def api_of_call(url: str | None, request: Object, response: Any) -> str | None:
    """The API of a call: by its address, else by what was sent and what came back."""
    named = api_of_url(url)
    if named not in (None, INVOKE):
        return named
    if named is None and _NO_CALL.search(address_of(url).path):
        return None
    return _api_of_response(response) or _api_of_request(request, response) or named


def _api_of_response(response: Any) -> str | None:
    if is_response(response):
        return RESPONSES
    first = as_object(next(iter(response), None) if is_array(response) else response)
    if is_array(first.get("choices")):
        return "openai_chat"
    if first.get("type") in ("message", "message_start"):
        return "anthropic_messages"
    if is_gemini_response(first):
        return "gemini_api"
    return "bedrock_converse" if is_bedrock_response(first) else None


def _api_of_request(request: Object, response: Any) -> str | None:
    messages = request.get("messages")
    if not is_array(messages):
        if request.get("contents") is not None or any(key in request for key in _GEMINI_KEYS):
            return "gemini_api"
        return RESPONSES if any(key in request for key in _RESPONSES_KEYS) else None
    if any(key in request for key in _BEDROCK_KEYS) or has_bedrock_blocks(messages):
        return "bedrock_converse"
    if isinstance(response, str) and "message_start" in response[:200]:
        return "anthropic_messages"
    return dialect_of(messages, request) or "openai_chat"


def has_bedrock_blocks(messages: list[Any]) -> bool:
    """Whether the first message has a block that no type names, as only Converse has them."""
    content = as_object(next(iter(messages), None)).get("content")
    block = as_object(next(iter(as_array(content)), None))
    return "type" not in block and bool(_BEDROCK_BLOCKS & block.keys())


def is_gemini_request(value: Object) -> bool:
    """Whether an object is a request of the Gemini API, or what a client library was given."""
    contents = value.get("contents")
    first = as_object(next(iter(as_array(contents)), None))
    is_named = "model" in value or any(key in value for key in _GEMINI_KEYS)
    return bool(contents) and "messages" not in value and (is_named or is_array(first.get("parts")))


def is_gemini_response(value: Any) -> bool:
    """Whether a value is what the Gemini API answers with, or a chunk of it."""
    value = as_object(value)
    if not is_array(value.get("candidates")):
        return bool(value) and value.keys() <= _BESIDE_CANDIDATES  # agents' logs have such keys too
    candidate = as_object(next(iter(value["candidates"]), None))
    return not candidate or bool(candidate.keys() & {"content", "finishReason", "finish_reason"})


def is_bedrock_response(value: Any) -> bool:
    """Whether a value is what Converse answers with, or an event of its stream."""
    value = as_object(value)
    is_whole = is_object(as_object(value.get("output")).get("message"))
    is_event = any(is_object(value.get(key)) for key in _BEDROCK_EVENTS)
    return is_event or (is_whole and "stopReason" in value)


def api_of_text(text: str, bodies: str) -> str | None:
    """The API that the beginning of a recording shows: by the last address in it, else by keys.

    ``bodies``: the requests in it, where the text itself has them packed.
    """
    named = [api for uri in _URI.findall(text) if (api := api_of_url(uri))]
    if named and named[-1] != INVOKE:
        return named[-1]
    for keys, api in _KEYS_IN_TEXT:
        if any(re.search(rf"\b{key}\b[\"']?:", bodies) for key in keys):
            return api
    if not re.search(r"\bmessages\b[\"']?:", bodies):
        return None
    is_anthropic = re.search(r"anthropic|\binput_schema\b|\bclaude-", text + bodies)
    return "anthropic_messages" if is_anthropic else "openai_chat"


def named_model(request: Object) -> str | None:
    """The model that a request names itself."""
    return as_text(request.get("model")) or as_text(request.get("modelId"))
