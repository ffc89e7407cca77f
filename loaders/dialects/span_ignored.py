"""What of a span's attributes is left out of the tables, and why; for the formats that hold spans."""

from __future__ import annotations

from typing import Final

_ONCE = "what a request repeats is told where it first stands"
_CALL = "a call stands in its reply, in the contents of that, and in each later request: told once"
_AROUND = "messages, tools and replies have events of their own; around them they stand once more"
IGNORED: Final = {
    "/**/*input.value/**": _AROUND,
    "/**/*output.value/**": _AROUND,
    "/**/*put.mime_type/**": "whether an input or an output is JSON, as itself shows",
    "/**/traceloop.entity.input/**": _AROUND,
    "/**/traceloop.entity.output/**": _AROUND,
    "/**/llm*put_messages/*/message*role": "whose a message is, as its place and parts show too",
    "/**/gen_ai.completion.*.role/**": "whose a message is, as its place and parts show too",
    "/**/events/*/attributes/index/**": "the number of a reply among several: agents ask for one",
    "/**/llm.*put_messages.*.message.role/**": "whose a message is, as its place and parts show too",
    "/**/llm.input_messages.*.message.content/**": _ONCE,
    "/**/llm.*put_messages.*.function.name/**": _CALL,
    "/**/llm.*put_messages.*.function.arguments/**": _CALL,
    "/**/gen_ai.*put.messages/**/type": "what a part is, as its own fields show too",
    "/**/gen_ai.*put.messages/**/role": "whose a message is, as its place and parts show too",
    "/**/gen_ai.input.messages/**/id": _ONCE,
    "/**/gen_ai.input.messages/**/name": _ONCE,
    "/**/gen_ai.input.messages/**/response": _ONCE,
    "/**/gen_ai.output.messages/**/finish_reason": "the span's own reasons to finish say the same",
    "/**/gen_ai.system_instructions/**/type": "says that the instructions are text",
    "/**/llm.tools*/**": "definitions of tools, which the table of tools holds",
    "/**/gen_ai.tool.definitions/**": "definitions of tools, which the table of tools holds",
    "/**/*_request_parameters/**": "tools on offer are kept; the rest are defaults of the framework",
    "/**/*total_tokens/**": "the sum of counts that have columns of their own",
    "/**/llm.token_count.total/**": "the sum of counts that have columns of their own",
    "/**/llm.request.model_name/**": "the model that was asked for; the one that answered is kept",
    "/**/gen_ai.request.model/**": "the model that was asked for; the one that answered is kept",
    "/**/llm.system/**": "the family of the provider, which is kept",
    "/**/gen_ai.operation.name/**": "what kind of span it is, which decides how it is told",
    "/**/*span.kind/**": "what kind of span it is, which decides how it is told",
    "/**/llm.request.type/**": "what kind of span it is, which decides how it is told",
    "/**/exception.stacktrace/**": "where in a program an error was raised; its type and words are kept",
    "/**/exception.escaped/**": "whether an error left its span, which the span's status tells",
    "/**/tool.name/**": "the name of a tool, which its call has",
    "/**/traceloop.entity.name/**": "the name of a tool or an agent, which its calls have",
}
