"""What of mini-swe-agent logs is left out of the tables, and why."""

from __future__ import annotations

from typing import Final

IGNORED: Final = {
    "/**/messages/*/extra/cost": "the cost of the run, their sum, is kept",
    "/**/messages/*/extra/raw_output": "the text of the message shows what the model saw of it",
    "/**/messages/*/extra/submission": "the message itself is what was submitted",
    "/**/info/submission": "the last message is what was submitted",
    "/**/messages/*/tool_calls/*/index": "the order of the calls tells it",
    "/**/messages/*/tool_calls/*/type": "every call is of a function",
    "/**/messages/*/extra/traceback": "the one of info is kept, as is the text of the exception",
    "/**/messages/*/extra/response/choices/*/index": "there is one choice, and calls stand in order",
    "/**/messages/*/extra/response/choices/*/message/**": "what the message itself repeats is told once",
    "/**/messages/*/extra/response/created": "the message has a time of its own, to the microsecond",
    "/**/messages/*/extra/response/id": "the provider's number of the reply, which nothing refers to",
    "/**/messages/*/extra/response/object": "the name of the reply's type, always the same",
    "/**/messages/*/extra/response/system_fingerprint": "the provider's mark of its own software",
    "/**/messages/*/extra/response/usage/total_tokens": "the sum of the two counts that are kept",
    "/**/messages/*/extra/response/usage/prompt_cache_*_tokens": "cached tokens are kept under their other name",
    "/**/messages/*/extra/actions/*/command": "the call has it as its argument",
    "/**/messages/*/extra/actions/*/tool_call_id": "the call has it as its id",
    "/**/messages/*/extra/response/extra/actions/**": "the calls in the response are the same",
    "/**/messages/*/extra/response/output/*/content/*/type": "the types of parts other than text are media",
    "/**/messages/*/extra/exception_info": "the text of the result shows it to the model",
    "/**/messages/*/content/*/type": "the types of parts other than text are kept as media",
    "/**/messages/*/output/*/content/*/type": "the types of parts other than text are kept as media",
    "/**/messages/*/output/*/summary/*/type": "a summary is made of texts, which are kept",
    "/**/messages/*/type": "the role of the message says the same",
    "/**/model/model_kwargs/tools/*/type": "every tool on offer is a function",
    "/**/model/model_kwargs/api_key": "a credential, or what stands in its place",
}
