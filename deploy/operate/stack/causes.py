"""Why a container does not become well: the line of its log that says so, and what to do."""

from __future__ import annotations

import re
from typing import Any

_MODELS = "mend models.config; `python -m deploy check` says where it is and what is wrong in it"
# Of several that a log holds, the first here is told: those below it follow from those above.
_KNOWN = [
    (re.compile(text), advice)
    for text, advice in (
        (r"Request to assign label to version \d+ of model .*", _MODELS),
        (r"Illegal to list model .*|Expected model .* absolute path.*", _MODELS),
        (r"Invalid protobuf file.*|No request-logger-creator.*|Illegal setting .*", _MODELS),
        (r"Could not find base path \S+ for servable \S+", _MODELS),
        (r"No versions of servable \S+ found under base path \S+", "publish one"),
        (
            r"Loading servable.* failed: .*",
            "move that version's folder out of the models' folder, or publish a new one",
        ),
        (r"libcuda\.so.*", "this image wants a GPU: `python -m deploy up --cpu` takes the other"),
        (r"Illegal instruction", "the image wants a processor with AVX"),
        (r"(?<=\[emerg\] ).*", "mend that file; `python -m deploy check` tries it out"),
        (r"Failed to start server.*", "mend the server's configuration"),
        (r"(?:parsing YAML file|loading config).*", "mend deploy/monitoring/"),
        (r".*(?:not found|No such file or directory|exec format error).*", "is this the image?"),
    )
]
_KILLED = 137  # 128 + SIGKILL


def why(log: str, state: dict[str, Any]) -> str:
    """In half a sentence: the cause, and the remedy.

    Args:
        log: the end of what the container wrote.
        state: the engine's `State` of it.
    """
    if state.get("OOMKilled"):
        return "it ran out of memory; give it more (SERVING_MEMORY for the server)"
    for pattern, advice in _KNOWN:
        if found := list(pattern.finditer(log)):
            return f"{found[-1][0].strip()}; {advice}"
    last = next((line for line in reversed(log.splitlines()) if line.strip()), "it wrote nothing")
    status = state.get("ExitCode")
    if status == _KILLED:
        return f"it was killed; its last words: {last.strip()}"
    ended = f" (exit status {status})" if status else ""
    return f"{last.strip()}{ended}; all of it: `docker compose logs`"
