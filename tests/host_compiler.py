"""Compiles C for this machine: the headers of bpf/ run here too, without root."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from lb.paths import bpf_dir

FLAGS = ("-std=gnu11", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-Wno-sign-compare")
# void pointer arithmetic, unused parameters of headers and clang's loop pragma are kernel style
FLAGS_OF_KERNEL_STYLE = ("-Wno-pointer-arith", "-Wno-unknown-pragmas", "-Wno-unused-function")


def compiler() -> str:
    """The C compiler; the test is skipped where there is none."""
    for name in ("cc", "gcc", "clang"):
        if found := shutil.which(name):
            return found
    pytest.skip("no C compiler: apt-get install gcc")


def compile_c(source: Path, output: Path, *flags: str) -> Path:
    """Compile one file with the headers of bpf/ at hand."""
    command = [compiler(), *FLAGS, *FLAGS_OF_KERNEL_STYLE, *flags, f"-I{bpf_dir()}"]
    done = subprocess.run(
        [*command, "-o", str(output), str(source)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return output
