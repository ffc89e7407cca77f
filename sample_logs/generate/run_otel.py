# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "openinference-instrumentation==0.1.72",
#     "openinference-instrumentation-anthropic==3.1.0",
#     "openinference-instrumentation-openai==0.1.66",
#     "opentelemetry-instrumentation-anthropic==0.62.4",
#     "opentelemetry-instrumentation-openai==0.62.4",
#     "opentelemetry-exporter-otlp-json-file==0.66b1",
#     "opentelemetry-sdk==1.45.2",
#     "anthropic==2.12.0",
#     "openai==3.54.0",
# ]
# ///
"""A few runs of plain loops over the providers' clients, told by two instrumentations as OTLP JSON.

Writes ``frameworks/otel/<style>/<task>.jsonl.gz``; a style is the instrumentation (OpenInference or
Traceloop) and the API. All loops send thinking back; what the spans show of it is the
instrumentation's doing. ``wire.har`` stands beside the styles, ``truth_parts/otel.json`` is written
too. Run it as ``uv run --script run_otel.py OUT``.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import Any

from anthropic import Anthropic
from offline import CALL_LIMIT
from openai import OpenAI
from openinference.instrumentation.anthropic import AnthropicInstrumentor as AnthropicInference
from openinference.instrumentation.openai import OpenAIInstrumentor as OpenAIInference
from opentelemetry.exporter.otlp.json.file import FileSpanExporter
from opentelemetry.instrumentation.anthropic import AnthropicInstrumentor as AnthropicLoop
from opentelemetry.instrumentation.openai import OpenAIInstrumentor as OpenAILoop
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.trace import StatusCode, Tracer
from running import MODEL, SYSTEM, Played, Stay, run_all
from visit import ToolRaised, Visit

RUNS = {
    "openinference_chat": ["orders-easy-3"],
    "openinference_anthropic_capped": ["tables-easy-8"],
    "openinference_responses": ["bookings-medium-1"],
    "openinference_anthropic": ["tables-easy-8"],
    "traceloop_chat": ["orders-easy-3"],
    "traceloop_responses": ["bookings-medium-1"],
    "traceloop_anthropic": ["tables-easy-8"],
}
"""Style to tasks. ``capped``: spans keep 128 attributes as by default, and lose the oldest."""
WIRE = {"openinference_responses": ["bookings-medium-1"]}
INSTRUMENTS: dict[str, list[Any]] = {
    "openinference": [OpenAIInference(), AnthropicInference()],
    "traceloop": [OpenAILoop(), AnthropicLoop()],
}
Use = Callable[[str, dict[str, Any]], str]


def chat(stay: Stay, use: Use) -> Iterator[str]:
    """A loop over Chat Completions; yields at each reply without a call."""
    client = OpenAI(base_url=stay.url(), api_key="none", max_retries=0)
    history: list[Any] = [{"role": "system", "content": SYSTEM}]
    history.append({"role": "user", "content": stay.visit.task.text})
    while True:
        answer = client.chat.completions.create(
            model=MODEL, messages=history, tools=stay.visit.definitions()
        )
        message = answer.choices[0].message
        history.append(message.model_dump(exclude_none=True))
        for call in message.tool_calls or []:
            done = use(call.function.name, json.loads(call.function.arguments))
            history.append({"role": "tool", "tool_call_id": call.id, "content": done})
        yield "" if message.tool_calls else "done"


def responses(stay: Stay, use: Use) -> Iterator[str]:
    """The same over Responses, nothing stored."""
    client = OpenAI(base_url=stay.url(), api_key="none", max_retries=0)
    history: list[Any] = [{"role": "user", "content": stay.visit.task.text}]
    tools: list[Any] = [{"type": "function", **t["function"]} for t in stay.visit.definitions()]
    while True:
        answer = client.responses.create(
            model=MODEL,
            instructions=SYSTEM,
            input=history,
            tools=tools,
            store=False,
            include=["reasoning.encrypted_content"],
            reasoning={"summary": "auto"},
        )
        history += [item.model_dump(exclude_none=True) for item in answer.output]
        calls = [item for item in answer.output if item.type == "function_call"]
        for call in calls:
            done = use(call.name, json.loads(call.arguments))
            told = {"type": "function_call_output", "call_id": call.call_id, "output": done}
            history.append(told)
        yield "" if calls else "done"


def anthropic(stay: Stay, use: Use) -> Iterator[str]:
    """The same over Messages."""
    client = Anthropic(base_url=stay.url(version=""), api_key="none", max_retries=0)
    history: list[Any] = [{"role": "user", "content": stay.visit.task.text}]
    tools: list[Any] = [
        {
            "name": tool["function"]["name"],
            "description": tool["function"]["description"],
            "input_schema": tool["function"]["parameters"],
        }
        for tool in stay.visit.definitions()
    ]
    while True:
        answer = client.messages.create(
            model=MODEL,
            system=SYSTEM,
            max_tokens=4096,
            messages=history,
            tools=tools,
            thinking={"type": "enabled", "budget_tokens": 2048},
        )
        said = [block.model_dump(exclude_none=True) for block in answer.content]
        history.append({"role": "assistant", "content": said})
        calls = [block for block in answer.content if block.type == "tool_use"]
        results = [
            {"type": "tool_result", "tool_use_id": call.id, "content": use(call.name, call.input)}
            for call in calls
        ]
        history.append({"role": "user", "content": results})
        yield "" if calls else "done"


LOOPS = {"chat": chat, "responses": responses, "anthropic": anthropic}


def tool_use(visit: Visit, tracer: Tracer, is_inference: bool) -> Use:
    """Tool calls in spans of their own, with the attributes of the instrumentation's conventions."""

    def use(name: str, arguments: dict[str, Any]) -> str:
        given = json.dumps(arguments)
        before = (
            {"openinference.span.kind": "TOOL", "tool.name": name, "input.value": given}
            if is_inference
            else {
                "traceloop.span.kind": "tool",
                "traceloop.entity.name": name,
                "traceloop.entity.input": given,
            }
        )
        with tracer.start_as_current_span(name, attributes=before) as span:
            try:
                done = visit.submit(arguments["answer"]) if name == "submit" else None
                done = visit.call(name, arguments) if done is None else done
            except ToolRaised as raised:
                done = str(raised)
                span.set_status(StatusCode.ERROR, done)
            after = "output.value" if is_inference else "traceloop.entity.output"
            span.set_attribute(after, done)
        return done

    return use


class Telling:
    """The instrumentation that is on. Some leave a part of themselves on when they are taken off."""

    def __init__(self) -> None:
        self.kind: tuple[str, bool] | None = None
        self.stream = io.StringIO()
        self.provider = TracerProvider()

    def begin(self, name: str, is_capped: bool) -> Tracer:
        """Be told of what follows by that instrumentation."""
        if self.kind != (name, is_capped):
            for instrument in INSTRUMENTS[self.kind[0]] if self.kind else []:
                instrument.uninstrument()
            self.kind = name, is_capped
            self.provider = TracerProvider(
                resource=Resource({"service.name": "desk"}),
                span_limits=SpanLimits() if is_capped else SpanLimits(max_attributes=10_000),
            )
            exporter = FileSpanExporter(stream=self.stream)
            self.provider.add_span_processor(SimpleSpanProcessor(exporter))
            for instrument in INSTRUMENTS[name]:
                instrument.instrument(tracer_provider=self.provider)
        return self.provider.get_tracer("desk")

    def end(self) -> str:
        """What was told since."""
        told = self.stream.getvalue()
        self.stream.seek(0)
        self.stream.truncate()
        return told


TELLING = Telling()


def play(stay: Stay) -> Played:
    """One run in one trace."""
    name, api, *capped = stay.style.split("_")
    tracer = TELLING.begin(name, bool(capped))
    is_inference = name == "openinference"
    root = (
        {"openinference.span.kind": "AGENT"}
        if is_inference
        else {"traceloop.span.kind": "agent", "traceloop.entity.name": "clerk"}
    )
    ended = "limit"
    with tracer.start_as_current_span("clerk", attributes=root):
        turns = LOOPS[api](stay, tool_use(stay.visit, tracer, is_inference))
        for _ in range(CALL_LIMIT + 1):
            if next(turns):
                ended = "done"
                break
    return Played(TELLING.end(), ended)


if __name__ == "__main__":
    run_all("otel", version("opentelemetry-sdk"), RUNS, play, ending=".jsonl.gz", wire=WIRE)
