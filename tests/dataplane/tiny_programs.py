"""XDP programs of a few instructions, assembled here: other people's, beside the forwarder."""

from __future__ import annotations

from lb.dataplane.load import bpf_syscall
from lb.dataplane.load.bpf_syscall import ATTACH_TYPE_XDP, instruction

TAIL_CALL = 12
MOVE, LOAD_64, CALL, EXIT = 0xB7, 0x18, 0x85, 0x95


def _load(code: bytes, name: str, attach_type: int) -> int:
    return bpf_syscall.prog_load(
        bpf_syscall.PROG_TYPE_XDP, code, name=name, expected_attach_type=attach_type
    )


def returns(verdict: int, attach_type: int = ATTACH_TYPE_XDP) -> int:
    """Load a program that gives every packet one verdict; as libbpf does, if not said otherwise."""
    return _load(instruction(MOVE, 0, verdict) + instruction(EXIT), "always", attach_type)


def goes_on(array: int, slot: int, verdict: int, attach_type: int = ATTACH_TYPE_XDP) -> int:
    """Load a program that jumps to a slot of an array; with a verdict if nothing is there."""
    return _load(
        instruction(LOAD_64, 2 | bpf_syscall.PSEUDO_MAP_FD << 4, array)
        + instruction(0)
        + instruction(MOVE, 3, slot)
        + instruction(CALL, 0, TAIL_CALL)
        + instruction(MOVE, 0, verdict)
        + instruction(EXIT),
        "goes_on",
        attach_type,
    )
