"""Builds the programs of bpf/ as ordinary C: all of their code, without a kernel."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from lb import abi
from lb.dataplane.dataplane import FORWARDER_SLOTS, REDIRECTOR_RARE, SOURCES
from lb.paths import bpf_dir

HERE = Path(__file__).parent / "host"
# usual in code for BPF, but not in C for the host
FLAGS = (
    *("-std=gnu11", "-O1", "-g", "-Wall", "-Werror"),
    *("-Wno-pointer-arith", "-Wno-unknown-pragmas", "-Wno-unused-function", "-Wno-unused-variable"),
)


class BuildError(RuntimeError):
    """The compiler refused the sources, or is not there."""


def source(target: str) -> str:
    """The programs behind a stand-in for the kernel, and a target behind them."""
    files = ["kernel.h", *(str(bpf_dir() / name) for name in SOURCES)]
    lines = [f'#include "{name}"' for name in files]
    return "\n".join([*lines, install_function(), f'#include "{target}"', ""])


def install_function() -> str:
    """C that puts programs into their slots, as the loader does.

    Slots hold functions of `void *`. Each program gets one, because a call through a pointer of
    another type than the function's is undefined, and clang 17 and later check it.
    """
    slots = {f"lb_forwarder_programs_values[{n:d}]": name for name, n in FORWARDER_SLOTS.items()}
    slots[f"lb_redirector_programs_values[{abi.RedirectorSlot.RARE:d}]"] = REDIRECTOR_RARE
    lines = [
        f"static int host_{name}(void *context)\n{{\n\treturn {name}(context);\n}}"
        for name in slots.values()
    ]
    lines += ["static void host_install(void)", "{"]
    lines += [f"\t{slot} = host_{name};" for slot, name in slots.items()]
    return "\n".join([*lines, "}"])


def build(target: str, output: Path, compiler: str, *flags: str) -> Path:
    """Compile a target of tests/fuzz/host with the programs.

    Raises:
        BuildError: the compiler is missing or refuses.

    """
    if shutil.which(compiler) is None:
        raise BuildError(f"{compiler} is missing: make setup installs it")
    generated = output.with_suffix(".c")
    generated.write_text(source(target), encoding="ascii")
    command = [compiler, *FLAGS, *flags, f"-I{HERE}", f"-I{bpf_dir()}"]
    done = subprocess.run(
        [*command, "-o", str(output), str(generated)], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise BuildError(f"{target} does not compile:\n{done.stderr}")
    return output
