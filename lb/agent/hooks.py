"""The commands that announce and withdraw this server's routes."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence

from controlplane.errors import BrigadeError

LAST_WORDS_BYTES = 200


def run_hook(
    name: str, command: Sequence[str], timeout_seconds: float, variables: Mapping[str, str]
) -> None:
    """Run a hook to its end, in a process group of its own, with more variables in its environment.

    Raises:
        BrigadeError: it cannot be started, fails, or does not end in time (and is then killed).

    """
    try:
        process = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={**os.environ, **variables},
            start_new_session=True,
        )
    except OSError as error:
        raise BrigadeError(f"{name}: cannot run {command[0]}: {error.strerror}") from error
    try:
        _, words = process.communicate(timeout=timeout_seconds)
    except subprocess.TimeoutExpired as error:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise BrigadeError(
            f"{name}: {command[0]} did not end within {timeout_seconds:g} s"
        ) from error
    if process.returncode != 0:
        said = words[-LAST_WORDS_BYTES:].decode(errors="replace").strip()
        raise BrigadeError(f"{name}: {command[0]} ended with {process.returncode}: {said}")
