"""A snapshot of the machine, to compare its state before and after a run.

From the machine's own network namespace: links, addresses, routes, rules, sysctls. From the whole
machine: names of namespaces, BPF programs and maps, pins, mounts, cgroups, and the processes and
files of Bucket Brigade. Values that change by themselves (counters, lifetimes, timers) are
excluded.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute

from netns import bpf
from netns.process import processes
from netns.record import NAMESPACE_PREFIX, NAMESPACES, ROOT

OURS = (ROOT, Path("/run/bucket-brigade"), Path("/var/lib/bucket-brigade"))
"""The default folders of Bucket Brigade."""

OUR_PROGRAMS = ("lbctl", "lb.demo.", "nginx: ", str(ROOT))
OUR_CGROUPS = ("bucket-brigade", NAMESPACE_PREFIX)
COMMAND_CHARACTERS = 120

CHANGING_SYSCTLS = ("nf_conntrack_count", "fib_info_count", "/neigh/", "_count", "random")
CHANGING_ATTRIBUTES = frozenset({
    "IFLA_STATS", "IFLA_STATS64", "IFLA_AF_SPEC", "IFLA_CARRIER_CHANGES", "IFLA_CARRIER_UP_COUNT",
    "IFLA_CARRIER_DOWN_COUNT", "IFA_CACHEINFO", "RTA_CACHEINFO", "RTA_EXPIRES",
})  # fmt: skip


@dataclass(frozen=True)
class Snapshot:
    """The lines of text of each kind of object, one line for each."""

    found: dict[str, frozenset[str]]

    def difference(self, after: Snapshot) -> list[str]:
        """Return a line for each object that is new (+) or missing (-) in `after`."""
        lines = []
        for kind, old in self.found.items():
            new = after.found[kind]
            lines += [f"- {kind}: {item}" for item in sorted(old - new)]
            lines += [f"+ {kind}: {item}" for item in sorted(new - old)]
        return lines


def take() -> Snapshot:
    """Take a snapshot of the machine now."""
    mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    with IPRoute() as netlink:
        found: dict[str, Iterable[object]] = {
            "namespaces": _files_below(NAMESPACES),
            "links": map(_line, netlink.get_links()),
            "addresses": map(_line, netlink.get_addr()),
            "routes": map(_line, netlink.get_routes()),
            "rules": map(_line, netlink.get_rules()),
            "sysctls": _sysctls(),
            "programs": bpf.program_ids(),
            "maps": bpf.map_ids(),
            "pins": _pins(mounts),
            # From field 5 on: mount ids and parent ids differ each time.
            "mounts": (" ".join(line.split()[4:]) for line in mounts),
            "cgroups": _cgroups(),
            "processes": _our_processes(),
            "files": (path for root in OURS for path in _files_below(root)),
        }
        return Snapshot({kind: frozenset(map(str, items)) for kind, items in found.items()})


def _line(message: Any) -> str:
    header = {
        name: message[name] for name in ("index", "family", "table", "flags") if name in message
    }
    attributes = sorted(
        f"{name}={value}" for name, value in message["attrs"] if name not in CHANGING_ATTRIBUTES
    )
    return f"{header} {' '.join(attributes)}"


def _sysctls() -> Iterator[str]:
    for folder, _folders, names in os.walk("/proc/sys/net"):
        for name in names:
            path = os.path.join(folder, name)  # noqa: PTH118 (faster, for a thousand files)
            if any(word in path for word in CHANGING_SYSCTLS):
                continue
            try:
                with open(path, "rb") as file:  # noqa: PTH123 (the same)
                    value = file.read(4096)
            except OSError:
                # Some can only be written, others only be read while their feature is on.
                continue
            yield f"{path} {value.decode(errors='replace').strip()}"


def _pins(mounts: list[str]) -> Iterator[Path]:
    for line in mounts:
        before, _, after = line.partition(" - ")
        if after.split()[0] == "bpf":
            yield from _files_below(Path(before.split()[4]))


def _cgroups() -> Iterator[str]:
    """Yield the cgroups with our names; others change with every session and unit."""
    for folder, _folders, _names in os.walk("/sys/fs/cgroup"):
        if any(name in folder for name in OUR_CGROUPS):
            yield folder


def _our_processes() -> Iterator[str]:
    """Yield processes that belong to a run, or look like programs that runs start."""
    for process in processes():
        try:
            words = Path(f"/proc/{process.id.pid}/cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue
        line = words.replace(b"\0", b" ").decode(errors="replace")
        if process.run or any(word in line for word in OUR_PROGRAMS):
            identity = f"{process.id.pid} started {process.id.start}"
            yield f"{identity} run {process.run!r}: {line[:COMMAND_CHARACTERS]}"


def _files_below(root: Path) -> Iterator[Path]:
    if root.is_dir():
        yield from root.rglob("*")
