"""Why a container does not become healthy: the line of its log that says so, and what to do."""

from __future__ import annotations

import re
from typing import Any

_MODELS = "fix models.config; `python -m deploy check` names the file, the line and the mistake"
# If a log matches several, the first one here is reported: those below can be its consequences.
_KNOWN = [
    (re.compile(text), advice)
    for text, advice in (
        (r"Request to assign label to version \d+ of model .*", _MODELS),
        (r"Illegal to list model .*|Expected model .* absolute path.*", _MODELS),
        (r"Invalid protobuf file.*|No request-logger-creator.*|Illegal setting .*", _MODELS),
        (r"Could not find base path \S+ for servable \S+", _MODELS),
        (
            r"No versions of servable \S+ found under base path \S+",
            "publish one with `python -m export`",
        ),
        (
            r"Loading servable.* failed: .*",
            "move that version's folder out of the models folder, or publish a new version",
        ),
        (
            r"libcuda\.so.*",
            "this image needs a GPU; `python -m deploy up --cpu` uses the CPU image",
        ),
        (r"Illegal instruction", "the image needs a processor with AVX"),
        (r"(?<=\[emerg\] ).*", "fix that file; `python -m deploy check` tests it"),
        (r"Failed to start server.*", "fix the server's configuration"),
        (r"(?:parsing YAML file|loading config).*", "fix the file in deploy/monitoring/"),
        (
            r".*(?:not found|No such file or directory|exec format error).*",
            "check that the image name is right",
        ),
    )
]
_KILLED = 137  # 128 + SIGKILL


def why(log: str, state: dict[str, Any]) -> str:
    """The cause and the remedy, as half a sentence.

    Args:
        log: the end of what the container wrote.
        state: the engine's `State` of it.
    """
    if state.get("OOMKilled"):
        return "it ran out of memory; raise its limit (SERVING_MEMORY for the server)"
    for pattern, advice in _KNOWN:
        if found := list(pattern.finditer(log)):
            return f"{found[-1][0].strip()}; {advice}"
    last = next((line for line in reversed(log.splitlines()) if line.strip()), "it wrote nothing")
    status = state.get("ExitCode")
    if status == _KILLED:
        return f"it was killed; its last log line: {last.strip()}"
    ended = f" (exit status {status})" if status else ""
    return f"{last.strip()}{ended}; see `docker compose logs`"
