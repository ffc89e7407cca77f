# /// script
# requires-python = ">=3.11"
# dependencies = ["google-adk==2.13.0", "litellm==1.106.2", "openai==2.54.0", "mcp==2.3.0"]
# ///
"""A few runs of Google's Agent Development Kit at the desk, its models behind LiteLLM.

Writes ``frameworks/google_adk/<style>/<task>.json``, the session; ``wire.har`` beside the styles, and
``truth_parts/google_adk.json``. A tool that raises aborts a run of this framework unless a callback
turns the error into a response. Styles are providers in the model's name, which LiteLLM goes by. Run
it as ``uv run --script run_google_adk.py OUT``.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # no list of prices is fetched

import google.adk
from google.adk.agents import LlmAgent, RunConfig
from google.adk.models.lite_llm import LiteLlm
from google.adk.runners import Runner
from google.adk.sessions import InMemorySessionService
from google.genai import types
from offline import CALL_LIMIT
from running import MODEL, SYSTEM, Played, Stay, function_of, run_all
from visit import ToolRaised

APP, USER = "desk", "guest"
ABORTED = "deepseek", "orders-easy-3"
"""The run in which an error that is raised is left to the framework."""
RUNS = {
    "openai": ["orders-easy-3", "tables-easy-8"],
    "openai_think_tags": ["tables-easy-8"],
    "deepseek": ["orders-easy-3", "orders-easy-7"],
    "openrouter": ["orders-easy-3"],
    "anthropic": ["orders-easy-3", "bookings-easy-3"],
}
WIRE = {"openai": ["tables-easy-8"], "anthropic": ["bookings-easy-3"]}
WORDS = {"framework's instruction": 'You are an agent. Your internal name is "clerk".'}


def model_of(stay: Stay) -> LiteLlm:
    """The model by the name that LiteLLM knows it under."""
    provider, _, given = stay.style.partition("_")
    is_anthropic = provider == "anthropic"
    given = "reasoning" if provider == "openrouter" else given
    url = stay.url(given or None, version="" if is_anthropic else "/v1")
    more: dict[str, Any] = {"max_tokens": 4096} if is_anthropic else {}
    return LiteLlm(f"{provider}/{MODEL}", api_base=url, api_key="none", **more)


def told(tool: Any, args: dict[str, Any], tool_context: Any, error: Exception) -> dict[str, Any]:
    """An error that a tool raised, as a response."""
    return {"error": str(error)}


async def converse(stay: Stay) -> Played:
    """One run, and its session."""
    style, visit = stay.style, stay.visit
    agent = LlmAgent(
        name="clerk",
        model=model_of(stay),
        instruction=SYSTEM,
        tools=[function_of(definition, visit) for definition in visit.definitions()],
        on_tool_error_callback=None if (style, visit.task.id) == ABORTED else told,
    )
    sessions = InMemorySessionService()
    place = {"app_name": APP, "user_id": USER, "session_id": visit.task.id}
    await sessions.create_session(**place)
    runner = Runner(agent=agent, app_name=APP, session_service=sessions)
    message = types.Content(role="user", parts=[types.Part(text=visit.task.text)])
    ended = "done"
    try:
        async for _ in runner.run_async(
            user_id=USER,
            session_id=visit.task.id,
            new_message=message,
            run_config=RunConfig(max_llm_calls=CALL_LIMIT + 1),
        ):
            pass
    except ToolRaised as raised:
        ended = type(raised).__name__
    session = await sessions.get_session(**place)
    assert session is not None
    log = session.model_dump_json(indent=1, exclude_none=True, by_alias=True)
    return Played(log + "\n", ended)


def play(stay: Stay) -> Played:
    """One run, and its session."""
    return asyncio.run(converse(stay))


if __name__ == "__main__":
    run_all("google_adk", google.adk.__version__, RUNS, play, wire=WIRE, words=WORDS)
