"""Loads both programs as the agent does, has the verifier speak, attaches them.

`load.py [NIC...]` runs where little else does: on Python 3.9, with nothing but bcc beside it. So it
takes the sources that the host has joined, and imports the modules of lb.dataplane without the
package around them. Prints lines of JSON behind `@@` for outcome.py.
"""

from __future__ import annotations

import ctypes
import functools
import json
import os
import platform
import re
import subprocess
import sys
import time
import types
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[3]
SOURCES = PROJECT / "build" / "programs.json"
PINS = Path("/sys/fs/bpf/load")
LOG_BYTES = 4096
STATISTICS = 4  # BPF_LOG_STATS of include/linux/bpf_verifier.h, since Linux 5.2
KINDS = {"XDP": 6, "SCHED_CLS": 3}  # enum bpf_prog_type


def say(**words: object) -> None:
    """Print one line for outcome.py."""
    print("@@", json.dumps(words), flush=True)


def import_dataplane() -> tuple[Any, Any]:
    """Import `compiling` and `bpf_syscall`, not the package, whose other modules need numpy."""
    sys.path.insert(0, str(PROJECT))
    package = types.ModuleType("lb.dataplane")
    package.__path__ = [str(PROJECT / "lb" / "dataplane")]
    sys.modules["lb.dataplane"] = package
    from lb.dataplane.load import bpf_syscall
    from lb.dataplane.load import compile as compiling

    return compiling, bpf_syscall


def verifier_statistics(
    bpf_syscall: Any, bcc: Any, module: Any, name: bytes, kind: int, attach_type: int
) -> str:
    """Load a program once more, asking for the verifier's statistics, and return them."""
    size = bcc.lib.bpf_function_size(module, name)
    code = ctypes.string_at(bcc.lib.bpf_function_start(module, name), size)
    program = ctypes.create_string_buffer(code, size)
    licence = ctypes.create_string_buffer(b"GPL")
    log = ctypes.create_string_buffer(LOG_BYTES)
    # prog_type, insn_cnt, insns, license, log_level, log_size, log_buf, kern_version, prog_flags,
    # prog_name, prog_ifindex, expected_attach_type
    attribute = bpf_syscall._attribute(
        "IIQQIIQII16sII",
        *(kind, size // 8, ctypes.addressof(program), ctypes.addressof(licence)),
        *(STATISTICS, LOG_BYTES, ctypes.addressof(log), 0, 0, b"lb_statistics"),
        *(0, attach_type),
    )
    os.close(bpf_syscall.bpf(5, attribute))  # BPF_PROG_LOAD
    return log.value.decode()


def listen_to_verifier(bpf_syscall: Any, bcc: Any, found: dict[str, dict[str, int]]) -> None:
    """Have every program that bcc loads leave its statistics in ``found``."""
    usual = bcc.BPF.load_func

    @functools.wraps(usual)
    def load_func(self: Any, name: bytes, kind: int, *rest: Any, **more: Any) -> Any:
        module, attach_type = ctypes.c_void_p(self.module), more.get("attach_type", 0)
        text = verifier_statistics(bpf_syscall, bcc, module, name, kind, attach_type)
        numbers = found.setdefault(name.decode(), {})
        if processed := re.search(r"processed (\d+) insns", text):
            numbers["verified"] = int(processed[1])
        if spent := re.search(r"verification time (\d+) usec", text):
            numbers["verifier_us"] = int(spent[1])
        return usual(self, name, kind, *rest, **more)

    bcc.BPF.load_func = load_func


def compile_programs(compiling: Any, bpf_syscall: Any, spec: Any) -> Any:
    """Compile and load all programs, with the maps whose descriptors they are compiled with."""
    compiling.check_kernel()
    kind, flags = bpf_syscall.MAP_TYPE_ARRAY, bpf_syscall.F_MMAPABLE
    defines = {
        define: bpf_syscall.map_create(kind, 4, size, 1, flags=flags, name=name)
        for name, (size, define) in spec["values"].items()
    }
    define, entries = spec["root"]
    kind = bpf_syscall.MAP_TYPE_PROG_ARRAY
    defines[define] = bpf_syscall.map_create(kind, 4, 4, entries, name="lb_root_slots")
    attach_type = compiling.xdp_attach_types(bpf_syscall.ATTACH_TYPE_XDP)[0]
    arguments: dict[str, Any] = {key: spec[key] for key in ("programs", "maps")}
    if defines:
        arguments["defines"] = defines
    return compiling.compile_and_load(
        spec["source"], include=PROJECT / "bpf", xdp_attach_type=attach_type, **arguments
    )


def load(compiling: Any, bpf_syscall: Any) -> dict[str, int]:
    """Load the programs, say how long it took, what they are; return those to attach."""
    bcc = compiling.import_bcc()
    spec = json.loads(SOURCES.read_text(encoding="ascii"))
    versions = {"bcc": bcc.__version__, "python": platform.python_version()}
    say(kernel=platform.release(), bcc_file=bcc.__file__, **versions)
    began = time.monotonic()
    loaded = compile_programs(compiling, bpf_syscall, spec)
    say(load_seconds=round(time.monotonic() - began, 2))
    found: dict[str, dict[str, int]] = {}
    listen_to_verifier(bpf_syscall, bcc, found)
    compile_programs(compiling, bpf_syscall, spec).close()
    for name, descriptor in loaded.programs.items():
        info = bpf_syscall.prog_info(descriptor)
        numbers = {"verified": info.verified, **found.get(name, {})}
        size = {"instructions": info.instructions, "jited_bytes": info.jited_bytes}
        say(program=name, kind=spec["programs"][name], **size, **numbers)
    return {spec["programs"][name]: loaded.programs[name] for name in spec["entries"]}


def run(*words: str) -> str:
    """Run a program to its end and return what it printed."""
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


def attach(interface: str, pins: dict[str, Path]) -> None:
    """Attach and detach both, in native mode, and say what the kernel shows between."""
    run("ip", "link", "set", interface, "up")
    run("tc", "qdisc", "add", "dev", interface, "clsact")
    redirector = ("bpf", "direct-action", "pinned", str(pins["SCHED_CLS"]))
    run("tc", "filter", "add", "dev", interface, "ingress", *redirector)
    run("ip", "link", "set", "dev", interface, "xdpdrv", "pinned", str(pins["XDP"]))
    shown = run("ip", "-details", "link", "show", "dev", interface)
    filters = run("tc", "filter", "show", "dev", interface, "ingress")
    if "prog/xdp" not in shown or "xdpgeneric" in shown or "direct-action" not in filters:
        raise SystemExit(f"not attached natively to {interface}:\n{shown}{filters}")
    run("ip", "link", "set", "dev", interface, "xdpdrv", "off")
    run("tc", "qdisc", "del", "dev", interface, "clsact")
    driver = Path(f"/sys/class/net/{interface}/device/driver")
    say(attached=driver.resolve().name if driver.exists() else "veth")


def attach_everywhere(bpf_syscall: Any, descriptors: dict[str, int], cards: list[str]) -> None:
    """Attach to a veth pair made for it and to the network cards named."""
    PINS.mkdir()
    pins = {kind: PINS / kind for kind in descriptors}
    for kind, descriptor in descriptors.items():
        bpf_syscall.obj_pin(descriptor, pins[kind])
    run("ip", "link", "add", "veth0", "type", "veth", "peer", "name", "veth1")
    for interface in ("veth0", *cards):
        attach(interface, pins)
    run("ip", "link", "del", "veth0")
    for pin in pins.values():
        pin.unlink()
    PINS.rmdir()


def main(cards: list[str]) -> None:
    """Do all of it."""
    compiling, bpf_syscall = import_dataplane()
    attach_everywhere(bpf_syscall, load(compiling, bpf_syscall), cards)


if __name__ == "__main__":
    main(sys.argv[1:])
