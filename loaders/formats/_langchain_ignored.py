"""What of LangChain's messages and LangSmith's runs is left out of the tables, and why."""

from __future__ import annotations

from typing import Final

from loaders.dialects import langchain

PATHS: Final = {
    **langchain.IGNORED,
    "/**/dotted_order": "where a run stands among the others, which the order of the steps tells",
    "/post/*/extra/**": "what is known when a run begins; the patch at its end says it again",
    "/**/extra/metadata/langgraph_*/**": "where in a graph a run stands; its node's name is kept",
    "/**/extra/metadata/*checkpoint_ns": "where in a graph a run stands; its node's name is kept",
    "run_type=chain /**/inputs/**": "the state around calls, whose messages their own runs hold",
    "run_type=chain /**/outputs/**": "the state around calls, whose messages their own runs hold",
    "run_type=tool /**/inputs/**": "arguments of a call, which stand in the reply that made it",
    "run_type=tool /**/outputs/**": "a tool's result, told from the next request, or else from here",
    "run_type=llm /**/inputs/**/usage_metadata/**": "the count of a reply, which the reply has",
    "run_type=llm /**/inputs/**/tool_calls/*/id": "the id of a call, which its reply has",
    "run_type=chain /**/*_time": "when a part of the program ran, around the calls in it",
    "/**/run_type": "what a run is, by which it is told as a call, a tool or what is around them",
    "/*/id": "the name of a run; calls and their results are joined by ids of their own",
    "/id": "the name of a run; calls and their results are joined by ids of their own",
    "/runs/*/id": "the name of a run; calls and their results are joined by ids of their own",
    "/p*t*/*/id": "the name of a run; calls and their results are joined by ids of their own",
    "run_type=llm /**/name": "the class of the model, which is named itself",
    "run_type=tool /**/name": "the name of a tool, which its call has",
    "/**/parent_run_id": "which run is around which, as the steps and their agents tell",
    "/**/serialized/**": "how a class or a function is spelled in code; settings of calls are kept",
    "/**/ls_model_name": "the model that was asked for, as the settings say; a reply names its own",
    "/**/ls_model_type": "says that the model is one that chats, as its messages show",
    "/**/outputs/choices/*/index": "the number of a reply among several, of which agents ask for one",
    "/**/outputs/choices/*/message/role": "a reply is an assistant's, wherever it stands",
    "/**/outputs/created": "when the reply was made, to the second; its run has the time",
    "/**/outputs/id": "the provider's name of its reply, to which nothing refers",
    "/**/outputs/object": "says that a reply of chat completions is one",
    "/**/outputs/system_fingerprint": "the provider's mark of its own software",
}
