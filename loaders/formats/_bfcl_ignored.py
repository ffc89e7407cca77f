"""What of BFCL's files is left out of the tables, and why; ``*#`` is the score file."""

from __future__ import annotations

PATHS = {
    "*#/inference_log/**": "the log of the run as the result file has it, copied",
    "*#/model_result/**": "the replies of the result file, copied",
    "*#/model_result_raw/**": "the replies of the result file, copied",
    "*#/model_result_decoded/**": "the replies of the result file, written as Python calls",
    "*#/prompt/initial_config/**": (
        "the states before the first turn show all of it that the environment has read"
    ),
    "*#/prompt/id": "the id of the task, as the row has it",
    "*#/error/details/*_instance_state/**": (
        "the model's is among the states told, and the differences say what the other has instead"
    ),
    "*#/accuracy": "the share of the two counts beside it, which are checked",
    "/result/*/*/*/*": "the log of the turns has the same calls; where there is none, they are told",
    "role=handler_log /inference_log/*/*/*/model_response_decoded/*": (
        "the calls of the reply once more; where the reply is text alone, they are told"
    ),
    "role=handler_log /inference_log/*/*/*/content": (
        "that a reply was decoded, which its calls show; any other note is an event"
    ),
    "role=inference_input /inference_log/*/*/*/content/**": (
        "the first request of a run is in its metadata, the later ones repeat it and the turns since"
    ),
}
