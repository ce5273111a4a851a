"""Compiles C for this machine: the headers of bpf/ run here too, without root."""

from __future__ import annotations

import subprocess
from pathlib import Path

from lb.paths import bpf_dir
from tests import machine
from tests.needed import missing

FLAGS = ("-std=gnu11", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-Wno-sign-compare")
# void pointer arithmetic, unused parameters of headers and clang's loop pragma are kernel style
FLAGS_OF_KERNEL_STYLE = ("-Wno-pointer-arith", "-Wno-unknown-pragmas", "-Wno-unused-function")


def compiler() -> str:
    """Return the C compiler; skip the test where there is none."""
    if reason := machine.why_no_c_compiler():
        missing(reason)
    return machine.c_compiler()


def compile_c(source: Path, output: Path, *flags: str) -> Path:
    """Compile one file with the headers of bpf/ at hand."""
    command = [compiler(), *FLAGS, *FLAGS_OF_KERNEL_STYLE, *flags, f"-I{bpf_dir()}"]
    done = subprocess.run(
        [*command, "-o", str(output), str(source)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return output
