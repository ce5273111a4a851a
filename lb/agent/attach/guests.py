"""The root program array: other people's XDP programs before and after the forwarder.

The attached program looks into an array that is pinned as ``<bpffs>/<interface>/root``;
docs/running.md describes its slots. The kernel empties such an array when nobody holds or
pins it, so the pin stays for as long as a program is attached, and each new agent takes the same
array: others' programs jump through it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from lb.abi import Slot
from lb.agent.attach import bpffs
from lb.agent.attach.program_info import ProgramInfo, describe_program, open_pin
from lb.dataplane.load import bpf_syscall
from lb.dataplane.load.root_array import NOT_THERE, program_in

ROOT = "root"
GUEST_SLOTS = (Slot.BEFORE, Slot.BEFORE_2, Slot.AFTER, Slot.AFTER_2)


def root_pins(base: Path, interface: str) -> tuple[Path, ...]:
    """Return where an interface's array may be pinned, also if an agent was killed."""
    return tuple(directory / ROOT for directory in bpffs.pin_directories(base, interface))


@contextmanager
def _opened(pin: Path) -> Iterator[int | None]:
    """Hold the program array that is pinned at a path, ``None`` if there is none."""
    with ExitStack() as stack:
        try:
            array = stack.enter_context(open_pin(pin))
        except OSError as error:
            if error.errno not in NOT_THERE:
                raise
            yield None
            return
        kind = bpf_syscall.map_info(array).map_type
        yield array if kind == bpf_syscall.MAP_TYPE_PROG_ARRAY else None


def guest_programs(pin: Path) -> Mapping[Slot, ProgramInfo]:
    """Return others' programs in the slots of a pinned array, by slot."""
    with _opened(pin) as array:
        if array is None:
            return {}
        found = {slot: program_in(array, slot) for slot in GUEST_SLOTS}
    return {slot: describe_program(number) for slot, number in found.items() if number is not None}


def abandoned_programs(old: Path, new: Path) -> Mapping[Slot, ProgramInfo]:
    """Return others' programs in an old array, by slot, if another array replaces it."""
    with _opened(old) as before, _opened(new) as after:
        if before is None or after is None:
            return {}
        if bpf_syscall.map_info(before).map_id == bpf_syscall.map_info(after).map_id:
            return {}
    return guest_programs(old)


def keep_for_guests(base: Path, interface: str) -> Path | None:
    """Take our program out of the array if it has others' programs; return its pin then."""
    for pin in root_pins(base, interface):
        if not guest_programs(pin):
            continue
        with _opened(pin) as array:
            if array is not None and program_in(array, Slot.FORWARDER) is not None:
                bpf_syscall.map_delete(array, Slot.FORWARDER)
        return pin
    return None
