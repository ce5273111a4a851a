"""Programs that are run to their end, within a time, and leave nothing when it is over."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from threading import Timer

from tests.vm.errors import TrialError


def run(command: Sequence[str | Path], timeout_seconds: float, *, env: Mapping[str, str]) -> str:
    """Run a program and return its standard output.

    Raises:
        TrialError: it failed, or took too long.

    """
    output: list[str] = []
    words = [str(word) for word in command]
    code = follow(words, output.append, timeout_seconds, env=env)
    if code != 0:
        tail = "\n".join(output[-15:])
        raise TrialError(f"{words[0]} failed (exit code {code}): {' '.join(words)}\n{tail}")
    return "\n".join(output)


def follow(
    command: Sequence[str],
    take: Callable[[str], None],
    timeout_seconds: float,
    *,
    env: Mapping[str, str],
) -> int:
    """Run a program, hand over each line that it prints, and return its exit code.

    Whatever happens, its whole session is ended when this returns.

    Raises:
        TrialError: it took too long.

    """
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=dict(env),
        start_new_session=True,
    ) as popen:
        late: list[bool] = []

        def end() -> None:
            late.append(True)
            os.killpg(popen.pid, signal.SIGKILL)

        timer = Timer(timeout_seconds, end)
        timer.start()
        try:
            assert popen.stdout is not None
            for raw in popen.stdout:
                take(raw.decode(errors="replace").rstrip("\r\n"))
            code = popen.wait()
        finally:
            timer.cancel()
            _kill_session(popen)
    if late:
        raise TrialError(f"{command[0]}: no end after {timeout_seconds:g} s")
    return code


def _kill_session(popen: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(popen.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
