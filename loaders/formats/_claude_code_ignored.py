"""What Claude Code's logs say that no table needs, and why."""

from __future__ import annotations

_TREE = (
    "the place in the tree of turns; the order of the file is kept, and edited turns are counted"
)
_ENVELOPE = "each line repeats it; what the lines of replies and turns say of it is kept"
_SCREEN = "the result in the screen's form; what the model was given is kept"
_CHANGE = "what the call's own arguments did to the file, line by line"
_LIST = "the list of tasks in the screen's form; call and result say what changed"
_BYTES = "the bytes of a picture or a file, whose type is kept"
_DATA = "how the bytes beside it are written"

PATHS = {
    **dict.fromkeys(
        (
            *("/uuid", "/parentUuid", "/logicalParentUuid", "/isSidechain", "/promptId"),
            *("/supersedesUuids/*", "/interruptedMessageId", "/sourceToolAssistantUUID"),
            *("/sourceToolUseID", "type=last-prompt /leafUuid"),
        ),
        _TREE,
    ),
    **dict.fromkeys(
        ("/userType", "/slug", "/version", "/entrypoint", "/gitBranch", "/cwd", "/sessionId"),
        _ENVELOPE,
    ),
    "/isMeta": "whose words a line holds is told by its actor",
    "type=progress": "what the screen shows while something runs; how it ended is told",
    "type=file-history-snapshot": "copies of files in a store that is no part of the log",
    "type=queue-operation /content/*/source/**": "the bytes of a picture, whose turn tells its type",
    "type=last-prompt /lastPrompt": "the user's last turn, which is told",
    "type=ai-title /aiTitle": "the latest title is kept",
    "type=attachment /timestamp": "what is attached to a turn comes with it",
    "type=assistant /timestamp": "a call's last line tells when it ended, and its parts have theirs",
    "type=permission-mode /permissionMode": "all modes in which the session was are kept",
    "type=hook_success /attachment/stdout/**": "the content, which is kept, is made of it",
    "type=queued_command /attachment/timestamp": "the line has the time",
    "type=queued_command /attachment/commandMode": "whose words they are is told by the actor",
    "type=queued_command /attachment/isMeta": "whose words they are is told by the actor",
    "type=queued_command /attachment/origin/*": "whose words they are is told by the actor",
    "type=queued_command /attachment/prompt/*/source/type": _DATA,
    "type=queued_command /attachment/prompt/*/source/data": _BYTES,
    "/attachment/**/base64": _BYTES,
    "/message/usage/iterations/**": "one pass is the usage itself; where there were several, they are kept",
    "/message/usage/inference_geo": "all places that served the calls are kept, each once",
    "/message/type": "every reply is a message",
    "type=user /message/role": "every such line is sent in the user's place",
    "type=assistant /message/role": "every such line is the model's",
    "/message/content/*/caller/type": "whether the model called by itself or in code that it wrote",
    "/message/content/*/source/type": _DATA,
    "/message/content/*/source/data": _BYTES,
    "/message/content/*/content/*/type": "texts are told as text, pictures by their type",
    "/message/content/*/content/*/source": "every such part is a tool's",
    "/message/content/*/content/*/source/type": _DATA,
    "/message/content/*/content/*/source/data": _BYTES,
    "/message/content/*/content/*/tool_name": "the call, which the result answers, has the name",
    "type=user /interruptedByShutdown": "the text says that the turn was interrupted",
    "type=user /isVisibleInTranscriptOnly": "such a line is told as a compaction",
    "type=user /origin/kind": "who wrote a turn is told, and a tool wrote a result",
    "type=user /promptSource": "by which way of the program the turn came in",
    "type=user /toolEndsTurn": "what comes next tells whether the turn ended",
    "type=user /turnCompanion": "whether the screen shows the line with the one before",
    "type=user /mcpMeta/**": "what a server adds to a result for the program, not for the model",
    "/toolUseResult": "the result's own text, with or without the frame for the model",
    **dict.fromkeys(
        (
            *("/toolUseResult/content/**", "/toolUseResult/file/**", "/toolUseResult/filenames/*"),
            *("/toolUseResult/isImage", "/toolUseResult/matches/*", "/toolUseResult/mode"),
            *("/toolUseResult/noOutputExpected", "/toolUseResult/numFiles", "/toolUseResult/type"),
            *("/toolUseResult/numLines", "/toolUseResult/stdout", "/toolUseResult/stderr"),
            *("/toolUseResult/stdoutLines", "/toolUseResult/stderrLines", "/toolUseResult/success"),
            *("/toolUseResult/status", "/toolUseResult/total_deferred_tools"),
        ),
        _SCREEN,
    ),
    **dict.fromkeys(
        (
            *("/toolUseResult/originalFile", "/toolUseResult/originalFileContents"),
            *("/toolUseResult/structuredPatch/**", "/toolUseResult/replaceAll"),
        ),
        _CHANGE,
    ),
    **dict.fromkeys(
        (
            *(
                "/toolUseResult/newTodos/**",
                "/toolUseResult/oldTodos/**",
                "/toolUseResult/tasks/**",
            ),
            *("/toolUseResult/task/*", "/toolUseResult/taskId", "/toolUseResult/updatedFields/*"),
            *("/toolUseResult/statusChange/*", "/toolUseResult/verificationNudgeNeeded"),
        ),
        _LIST,
    ),
    "/toolUseResult/shellId": "the name of the task in the background, which is kept",
    "*#/spawnDepth": "how deep a subagent stands, which the links of the runs tell",
}
