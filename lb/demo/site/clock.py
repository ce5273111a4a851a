"""A wall clock that can be stepped for one process; the machine's clock is never touched."""

from __future__ import annotations

import shutil
import struct
import subprocess
from collections.abc import Mapping
from pathlib import Path

from controlplane.domain.errors import BrigadeError

SOURCE = Path(__file__).with_name("stepped_clock.c")
COMPILERS = ("cc", "gcc", "clang")


class SteppedClock:
    """The wall clock of processes that are started with ``environment``.

    A library that is loaded before all others answers what the C library would; the offset is in a
    file that it maps. Raises ``BrigadeError`` without a C compiler.
    """

    def __init__(self, directory: Path) -> None:
        compiler = next(filter(None, map(shutil.which, COMPILERS)), None)
        if compiler is None:
            raise BrigadeError("stepping a clock needs a C compiler: apt-get install gcc libc6-dev")
        self._offset = directory / "clock-offset"
        self._offset.write_bytes(struct.pack("=q", 0))
        library = directory / "stepped_clock.so"
        done = subprocess.run(
            [compiler, "-O1", "-shared", "-fPIC", "-o", str(library), str(SOURCE)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise BrigadeError(f"{SOURCE.name} cannot be compiled: {done.stderr.strip()}")
        self.environment: Mapping[str, str] = {
            "LD_PRELOAD": str(library),
            "STEPPED_CLOCK": str(self._offset),
        }

    def step(self, seconds: int) -> None:
        """Make the clock show so much more than that of the machine, from now on."""
        with self._offset.open("r+b") as file:
            file.write(struct.pack("=q", seconds))
