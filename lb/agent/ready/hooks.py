"""The commands that announce and withdraw this server's routes."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence

from controlplane.domain.errors import BrigadeError

STDERR_BYTES = 200


def run_hook(
    name: str, command: Sequence[str], timeout_seconds: float, variables: Mapping[str, str]
) -> None:
    """Run a hook to its end, in a process group of its own, with these variables added.

    Raises:
        BrigadeError: it cannot be started, fails, or does not end in time (and is then killed).

    """
    # A file, not a pipe: a process that a hook leaves running may hold a pipe open for ever.
    with tempfile.TemporaryFile() as stderr:
        try:
            process = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                env={**os.environ, **variables},
                start_new_session=True,
            )
            code = process.wait(timeout_seconds)
        except OSError as error:
            raise BrigadeError(f"{name}: cannot run {command[0]}: {error.strerror}") from error
        except subprocess.TimeoutExpired as error:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise BrigadeError(
                f"{name}: {command[0]} did not end within {timeout_seconds:g} s"
            ) from error
        if code != 0:
            stderr.seek(-min(STDERR_BYTES, stderr.seek(0, os.SEEK_END)), os.SEEK_END)
            last = stderr.read(STDERR_BYTES).decode(errors="replace").strip()
            raise BrigadeError(f"{name}: {command[0]} ended with {code}: {last}")
