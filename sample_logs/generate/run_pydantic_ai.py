# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "pydantic-ai-slim[anthropic,openai]==2.68.0",
#     "anthropic==2.12.0",
#     "openai==3.54.0",
# ]
# ///
"""A few runs of pydantic-ai at the desk, saved as message histories.

Writes ``frameworks/pydantic_ai/<style>/<task>.json`` with ``wire.har`` beside the styles, and
``truth_parts/pydantic_ai.json``. A tool that raises aborts a run of this framework; what is raised as
its own ``ModelRetry`` goes back to the model. Run it as ``uv run --script run_pydantic_ai.py OUT``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pydantic_ai
from offline import CALL_LIMIT
from pydantic_ai import (
    Agent,
    ModelRetry,
    Tool,
    UsageLimitExceeded,
    UsageLimits,
    capture_run_messages,
)
from pydantic_ai.messages import ModelMessagesTypeAdapter
from pydantic_ai.models import Model
from pydantic_ai.models.anthropic import AnthropicModel, AnthropicModelSettings
from pydantic_ai.models.openai import (
    OpenAIChatModel,
    OpenAIResponsesModel,
    OpenAIResponsesModelSettings,
)
from pydantic_ai.profiles.openai import OpenAIModelProfile
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider
from running import MODEL, SYSTEM, Played, Stay, run_all
from visit import ToolRaised, Visit

ABORTED = "reasoning_content", "orders-easy-3"
"""The run in which an error that is raised is left to the framework."""
RUNS = {
    "reasoning_content": ["orders-easy-3", "tables-easy-8"],
    "reasoning": ["orders-easy-7"],
    "think_tags": ["orders-easy-7"],
    "not_sent": ["orders-easy-7"],
    "responses": ["orders-easy-3"],
    "responses_unknown": ["orders-easy-7"],
    "responses_chained": ["orders-easy-7"],
    "anthropic": ["orders-easy-3"],
    "anthropic_hidden": ["bookings-easy-3"],
}
"""Style to tasks. ``responses_unknown``: by its name the model is none that reasons."""
WIRE = {
    "reasoning_content": ["orders-easy-3"],
    "not_sent": ["orders-easy-7"],
    "anthropic_hidden": ["bookings-easy-3"],
}

WORDS = {"advice": "Fix the errors and try again."}


def model_of(stay: Stay) -> Model:
    """The framework's own client of the API that the style belongs to."""
    style = stay.style
    if style.startswith("anthropic"):
        url = stay.url("hidden" if style == "anthropic_hidden" else None, version="")
        provider = AnthropicProvider(api_key="none", base_url=url)
        settings = AnthropicModelSettings(
            max_tokens=4096, anthropic_thinking={"type": "enabled", "budget_tokens": 2048}
        )
        return AnthropicModel(MODEL, provider=provider, settings=settings)
    if style.startswith("responses"):
        asked = OpenAIResponsesModelSettings(openai_reasoning_summary="auto")
        if style == "responses_chained":
            asked["openai_previous_response_id"] = "auto"
        provider = OpenAIProvider(base_url=stay.url(), api_key="none")
        is_known = style != "responses_unknown"
        profile = OpenAIModelProfile(openai_supports_encrypted_reasoning_content=is_known)
        return OpenAIResponsesModel(MODEL, provider=provider, profile=profile, settings=asked)
    given = style if style in ("reasoning", "think_tags") else None
    provider = OpenAIProvider(base_url=stay.url(given), api_key="none")
    if style == "not_sent":
        profile = OpenAIModelProfile(openai_chat_send_back_thinking_parts=False)
        return OpenAIChatModel(MODEL, provider=provider, profile=profile)
    return OpenAIChatModel(MODEL, provider=provider)


def tool_of(definition: dict[str, Any], visit: Visit, is_aborted: bool) -> Tool[None]:
    """A tool of the desk, or the one that hands in the answer."""
    function = definition["function"]
    name: str = function["name"]

    def use(**arguments: Any) -> str:
        if name == "submit":
            return visit.submit(arguments["answer"])
        try:
            return visit.call(name, arguments)
        except ToolRaised as raised:
            if is_aborted:
                raise
            raise ModelRetry(str(raised)) from None

    made: Callable[..., Tool[None]] = Tool.from_schema
    return made(use, name, function["description"], function["parameters"])


def play(stay: Stay) -> Played:
    """One run, and the history of its messages."""
    visit = stay.visit
    is_aborted = (stay.style, visit.task.id) == ABORTED
    agent = Agent(
        model_of(stay),
        instructions=SYSTEM,
        tools=[tool_of(definition, visit, is_aborted) for definition in visit.definitions()],
        retries=3,
    )
    ended = "done"
    with capture_run_messages() as messages:
        try:
            limits = UsageLimits(request_limit=CALL_LIMIT + 1)
            agent.run_sync(visit.task.text, usage_limits=limits)
        except UsageLimitExceeded:
            ended = "limit"
        except ToolRaised as raised:
            ended = type(raised).__name__
    return Played(ModelMessagesTypeAdapter.dump_json(messages).decode() + "\n", ended)


if __name__ == "__main__":
    run_all("pydantic_ai", pydantic_ai.__version__, RUNS, play, wire=WIRE, words=WORDS)
