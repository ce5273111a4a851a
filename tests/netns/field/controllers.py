"""Real `lbctl control` processes over simulated agents, with a wall clock that can be stepped."""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lb.demo.site.clock import SOURCE
from netns.polling import wait_until
from tests.host_compiler import compile_c
from tests.unit.controlplane.controller.test_process import free_port

LBCTL = (sys.executable, "-c", "from lb.cli.main import main; main()")
PREFIX = "bucket_brigade_controller"


class SteppedClock:
    """The wall clock of processes that are started with its environment."""

    def __init__(self, directory: Path) -> None:
        self._offset = directory / "clock-offset"
        self._offset.write_bytes(struct.pack("=q", 0))
        library = compile_c(SOURCE, directory / "stepped_clock.so", "-shared", "-fPIC")
        self.environment: Mapping[str, str] = {
            "LD_PRELOAD": str(library),
            "STEPPED_CLOCK": str(self._offset),
        }

    def step(self, seconds: int) -> None:
        """Have the clock show so much more than the machine's, from now on."""
        with self._offset.open("r+b") as file:
            file.write(struct.pack("=q", seconds))


class Controllers:
    """`lbctl control`, one process after the other, on one store, ``directory/store``."""

    def __init__(self, directory: Path, settings: str) -> None:
        self.directory = directory
        self.store = directory / "store"
        self.clock = SteppedClock(directory)
        self._metrics = free_port()
        self.settings = directory / "control.toml"
        self.settings.write_text(
            f'store = "file:{self.store}"\nlog_format = "json"\n'
            + settings.replace("[[server]]", f"[metrics]\nport = {self._metrics}\n[[server]]", 1)
        )
        self._log = directory / "control.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *words: str) -> None:
        """Start one and wait until it leads."""
        before = self.events().count("leading")
        with self._log.open("a") as log:
            self._process = subprocess.Popen(
                [*LBCTL, "control", "--config", str(self.settings), *words],
                stdout=log,
                stderr=log,
                env={**os.environ, **self.clock.environment},
            )
        wait_until(lambda: self.events().count("leading") > before, "a controller leads", 30)
        wait_until(self._has_done_a_round, "its first round", 30)

    def kill(self) -> None:
        """Kill it with SIGKILL."""
        if self._process:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait(10)
            self._process = None

    def run(self, *words: str) -> str:
        """Run another command as an operator would; return what it prints."""
        done = subprocess.run(
            [*LBCTL, *words, "--config", str(self.settings)],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        return done.stdout

    def lines(self, event: str) -> list[dict[str, Any]]:
        """Return the lines of the log with this event."""
        text = self._log.read_text() if self._log.exists() else ""
        lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == event]

    def events(self) -> list[str]:
        """Return the events of the log so far."""
        text = self._log.read_text() if self._log.exists() else ""
        lines = text.splitlines()
        return [json.loads(line)["event"] for line in lines if line.startswith("{")]

    def metric(self, name: str) -> float:
        """Return the sum of a metric's samples."""
        url = f"http://127.0.0.1:{self._metrics}/metrics"
        with urllib.request.urlopen(url, timeout=5) as page:
            text = page.read().decode()
        samples = [line for line in text.splitlines() if line.startswith(f"{PREFIX}_{name}")]
        return sum(float(line.rpartition(" ")[2]) for line in samples)

    def _has_done_a_round(self) -> bool:
        try:
            return self.metric("rounds_total") > 0
        except OSError:  # it does not serve its metrics yet
            return False

    def rounds(self, count: int) -> None:
        """Wait until it has done so many more rounds."""
        before = self.metric("rounds_total")
        wait_until(lambda: self.metric("rounds_total") >= before + count, f"{count} rounds", 60)
