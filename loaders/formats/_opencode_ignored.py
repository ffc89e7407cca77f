"""What OpenCode logs say that no table needs, and why. An export's paths, then those of the tree."""

from __future__ import annotations

_PARTS = (
    *("text", "reasoning", "tool", "file", "patch", "snapshot", "agent", "subtask", "retry"),
    *("compaction", "step-start", "step-finish"),
)
_OF_PARTS = {
    "type=step-finish {}/cost/**": "the cost of the message, their sum, is kept",
    "type=step-start {}/snapshot/**": "a state of the files in a store that is no part of the log",
    "type=step-finish {}/snapshot/**": "a state of the files in a store that is no part of the log",
    "type=snapshot {}/snapshot": "a state of the files in a store that is no part of the log",
    "type=patch {}/hash": "a state of the files in a store that is no part of the log",
    "{}/metadata/openai/itemId": "the provider's number of the item, which nothing refers to",
    "type=text {}/metadata/compaction_continue": "the harness is named as the one who wrote it",
    "type=reasoning {}/metadata/confidence": "a note of one version that no call or text refers to",
    "type=tool {}/metadata/source": "a note of one version that no call or text refers to",
    "type=file {}/filename": "the last part of the address, which is kept",
    "type=file {}/source/**": "the place in the user's text that names the file",
    "type=file {}/url": "an address that holds the file itself, whose type and name are kept",
    "type=agent {}/source/*": "the place in the user's text that names the agent",
    "type=tool {}/state/title": "the screen's heading of the call, made of its arguments",
    "type=tool {}/state/metadata/preview/**": "the beginning of the result, for the screen",
    "type=tool {}/state/metadata/count": "how many lines the result has, which it shows",
    "type=tool {}/state/metadata/matches": "how many lines the result has, which it shows",
    "type=tool {}/state/metadata/diff": "the screen's view of a change that the call spells out",
    "type=tool {}/state/metadata/files/**": "the screen's view of a change that the call spells out",
    "type=tool {}/state/metadata/model/*": "the subagent's own session has it",
    "status=completed {}/state/metadata/output": "the result holds as much of it as the model saw",
    "status=running {}/state/status": "a call without a result is one that still ran",
    "status=pending {}/state/status": "a call without a result is one that still ran",
    "type=tool {}/state/time/compacted": "how many results were cleared later is kept",
    "{}/tokens/total": "the sum of the counts that are kept",
}
_OF_MESSAGES = {
    "role=assistant {}/mode": "the older name of what is kept as the agent",
    "role=assistant {}/parentID": "the user's message before it, to which the reply belongs",
    "role=assistant {}/tokens/**": "those of its last model call, which has them at its own end",
    "role=assistant {}/finish": "that of its last model call, which has it at its own end",
    "role=assistant {}/cost/*": "a cost by kinds of tokens, in no known currency",
    "role=assistant {}/summary/*": "a short form of the reply, which is kept",
    "role=user {}/agent": "the reply names the agent that answered",
    "role=user {}/model/*": "the reply names the model that answered",
    "role=user {}/providerID": "the reply names the model's provider",
    "role=user {}/modelID": "the reply names the model that answered",
    "role=user {}/summary/diffs/*/before": "a file as a whole; which ones changed, and how much, is kept",
    "role=user {}/summary/diffs/*/after": "a file as a whole; which ones changed, and how much, is kept",
}
_NAME = (
    "a name in OpenCode's store, by which parts and messages are found, and which nothing else uses"
)

PATHS = {
    **{key.format("/messages/*/parts/*"): reason for key, reason in _OF_PARTS.items()},
    **{key.format("/messages/*/info"): reason for key, reason in _OF_MESSAGES.items()},
    "/messages/*/info/id": _NAME,
    "/messages/*/parts/*/id": _NAME,
    "/messages/*/parts/*/messageID": _NAME,
    **{key.format(""): reason for key, reason in (_OF_PARTS | _OF_MESSAGES).items()},
    "role=user /id": _NAME,
    "role=assistant /id": _NAME,
    **{f"type={kind} /{key}": _NAME for kind in _PARTS for key in ("id", "messageID")},
}
