"""What of Inspect logs is left out of the tables, and why."""

from __future__ import annotations

from typing import Final

_SHOWN = "the screen's view of a call, whose arguments are kept"
_NAME = "a name by which parts of the log refer to each other"
_FINISHED = "the state in which the sample was left, which its events tell"
_SUMS = "computed over the samples, each of which is kept with its own"
_TWICE = "the sample itself says it"
_POOLS = ("messages", "message_pool", "events_data/messages", "events/*/input")
_MESSAGES = (
    *(f"/**/{pool}/*" for pool in _POOLS),
    "/**/output/choices/*/message",
    "samples/*/messages/*#/*",  # a pool in chunks
)
_EVENTS = ("/**/events/*", "samples/*/events/*#/*")
_AT_THE_END = (*("/**/messages/*", "/**/message_pool/*", "samples/*/messages/*#/*"),)

IGNORED: Final = {
    "samples/*#/epoch": "the trial, unless there is one epoch and the sample's metadata name the trial",
    # events that are not told
    "event=span_begin": "begin and end of agents, solvers and scorers, whose events name them",
    "event=span_end": "begin and end of agents, solvers and scorers, whose events name them",
    "event=step": "begin and end of agents, solvers and scorers, whose events name them",
    "event=state": "a change of the sample's state, which messages and calls show themselves",
    "event=store": "a change of what solvers keep; what was kept at the end is metadata",
    "event=sandbox": "what a tool did inside the sandbox to come to the result that is kept",
    "event=sample_init": "how the sample began, which the sample itself says",
    "event=sample_limit": "the limit that ended the sample, which the sample itself has",
    "event=score": "the score that the sample has; those on the way are metadata",
    # parts of events
    **{
        f"{event}/{key}": _NAME
        for event in _EVENTS
        for key in ("uuid", "span_id", "parent_id", "message_id")
    },
    **{
        f"{event}/{key}": reason
        for event in _EVENTS
        for key, reason in {
            "view/**": _SHOWN,
            "working_start": "the clock without the time spent on waiting; the other clock is kept",
            "working_time": "the time without waiting; when it began and ended is kept",
        }.items()
    },
    **{
        f"event=tool {event}/{key}": reason
        for event in _EVENTS
        for key, reason in {
            "id": "the id of the call, which is kept with it",
            "type": "every tool on offer is a function",
            "function": "the call itself names its tool",
            "result": "the result as the model saw it is told from its message",
            "error/type": "the result as the model saw it is told from its message",
            "pending": "whether it still ran when the log ended, and so has no result",
        }.items()
    },
    "event=model /**/call/**": "the request and response as they went over the wire: what the request "
    "holds of the conversation is laid beside it, and input, settings and output are the same",
    "/**/events_data/calls/**": "parts of requests, laid beside the conversation to see what was sent",
    "/**/call_pool/**": "parts of requests, laid beside the conversation to see what was sent",
    "/**/output/response_id": "the provider's number of the reply, which nothing refers to",
    "/**/output/input_context_tokens": "the tokens of the input, cached ones included, as the step has",
    "/**/output/completion": "the text of the reply, which is told",
    "/**/output/time": "the step has when the call began and ended",
    "/**/usage/total_tokens": "the sum of counts that are kept",
    # messages, wherever they stand
    **{f"{message}/id": _NAME for message in _MESSAGES},
    **{f"{message}/model": "the call that gave the reply has its model" for message in _MESSAGES},
    **{f"{message}/source": "that it came from a call is a step" for message in _MESSAGES},
    **{f"{message}/tool_calls/*/view/**": _SHOWN for message in _MESSAGES},
    **{f"{message}/tool_calls/*/type": "every call is of a function" for message in _MESSAGES},
    "/**/output/choices/*/message/role": "a reply is always the assistant's",
    "/**/content/*/type": "the types of parts other than text are kept as media",
    "/**/content/*/internal": "the field of the API in which the thinking came",
    "/**/content/*/detail": "how finely the model was to look at a picture",
    **{
        f"{message}/{key}": "the conversation at its end, of which the events told each part"
        for message in _AT_THE_END
        for key in (
            *("content", "function", "tool_calls/*/function", "tool_calls/*/id", "error/type"),
            *("content/*/text", "content/*/reasoning", "content/*/redacted"),
        )
    },
    "/**/content/*/image": "the type of the picture is kept, but no data of pictures",
    "/**/content/*/tool_type": "the name of the tool that ran at the provider is kept",
    "role=assistant /**/events/*/input/**": "a reply that a request repeats is told from its call",
    "samples/*/calls/*#/**": "parts of requests, laid beside the conversation to see what was sent",
    "/message_refs/**": "which messages the conversation had at its end, which the events show",
    # the sample
    "/**/samples/*/input/**": "the messages begin with it",
    "/**/samples/*/output/**": _FINISHED,
    "samples/*#/input/**": "the messages begin with it",
    "samples/*#/output/**": _FINISHED,
    "samples/*/sample.json#/input/**": "the messages begin with it",
    "samples/*/sample.json#/output/**": _FINISHED,
    "/**/error/traceback_ansi": "the traceback once more, with colours for the screen",
    "/**/error_retries/*/traceback*": "where an earlier attempt failed, whose error is kept",
    "/**/error_retries/*/events/**": "an attempt that was given up, whose error is kept",
    # the whole eval
    "/eval/dataset/sample_ids/*": "each sample has its own id",
    "header.json#/eval/dataset/sample_ids/*": "each sample has its own id",
    "_journal/start.json#/**": "the header repeats it; where there is none, it is read in its place",
    **{
        f"{place}/{key}/**": _SUMS
        for place in ("", "header.json#")
        for key in ("results", "stats", "reductions")
    },
    "reductions.json#/**": _SUMS,
    "summaries.json#/**": _TWICE,
    "_journal/summaries/*#/**": _TWICE,
}
