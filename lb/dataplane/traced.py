"""The programs of `lbctl trace`: the same code, on the agent's maps, which also reports packets."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import numpy as np

from lb import abi
from lb.dataplane.dataplane import (
    FORWARDER,
    FORWARDER_PROGRAMS,
    FORWARDER_RARE,
    MAPS,
    PIN_NAMES,
    PROGRAMS,
    REDIRECTOR,
    REDIRECTOR_PROGRAMS,
    REDIRECTOR_RARE,
    ROOT,
    TOO_BIG,
    VALUES,
    source_text,
    sources_digest,
)
from lb.dataplane.errors import DataplaneError
from lb.dataplane.load import bpf_syscall, root_array
from lb.dataplane.load.compile import check_kernel, compile_and_load, xdp_attach_types
from lb.dataplane.load.root_array import program_in, put_program, uses_map
from lb.dataplane.maps.counters import possible_cpus
from lb.dataplane.pinned import PinnedDataplane
from lb.dataplane.ring import RingReader
from lb.paths import bpf_dir

RING_BYTES = 4 << 20
LOST = "lb_trace_lost"
TRACED_SLOTS = {
    FORWARDER_RARE: abi.ForwarderSlot.TRACED_RARE,
    TOO_BIG: abi.ForwarderSlot.TRACED_TOO_BIG,
}


def check_sources(plane: PinnedDataplane, directory: Path) -> None:
    """Refuse unless the programs in use were compiled from the sources that we have.

    Raises:
        DataplaneError: they were not.

    """
    if plane.sources() != sources_digest():
        raise DataplaneError(
            f"the programs of {directory} were compiled from other sources than this lbctl has: "
            "lbctl up again with this one (packets go on meanwhile), then trace"
        )


def _opened(directory: Path, name: str) -> AbstractContextManager[int]:
    return bpf_syscall.closing(bpf_syscall.obj_get(directory / PIN_NAMES[name]))


class TracedPrograms(ExitStack):
    """Owner of the traced programs and of the ring that they write into; attaches nothing.

    `directory` has the agent's pins; `defines` comes from `Filter.defines()`.
    """

    def __init__(self, directory: Path, defines: Mapping[str, int]) -> None:
        super().__init__()
        check_kernel()
        with ExitStack() as stack:
            maps = {}
            for name in (*MAPS, *VALUES, root_array.NAME):
                maps[name] = stack.enter_context(_opened(directory, name))
            ring = bpf_syscall.map_create(
                bpf_syscall.MAP_TYPE_RINGBUF, 0, 0, RING_BYTES, name="lb_trace_ring"
            )
            stack.callback(os.close, ring)
            types = xdp_attach_types(bpf_syscall.ATTACH_TYPE_XDP)
            fitting = root_array.fitting_type(maps[root_array.NAME], types)
            if fitting is None:
                raise DataplaneError(
                    f"{directory / PIN_NAMES[root_array.NAME]} takes no programs "
                    "of this version: lbctl up again with this lbctl, then trace"
                )
            loaded = compile_and_load(
                source_text(trace=True),
                include=bpf_dir(),
                programs=PROGRAMS,
                maps=(LOST,),
                defines={
                    **{define: maps[name] for name, (_, define) in VALUES.items()},
                    **defines,
                    root_array.DEFINE: maps[root_array.NAME],
                    "LB_TRACE_RING": ring,
                },
                instead={name: maps[name] for name in MAPS},
                xdp_attach_type=fitting,
            )
            stack.callback(loaded.close)
            self.ring = RingReader(ring)
            stack.callback(self.ring.close)
            self._loaded = loaded
            self._maps = maps
            self._directory = directory
            self.push(stack.pop_all())

    @property
    def root_fd(self) -> int:
        """The XDP program that is attached."""
        return self._loaded.programs[ROOT]

    @property
    def redirector_fd(self) -> int:
        """The TC program that is attached."""
        return self._loaded.programs[REDIRECTOR]

    def fill_slots(self) -> None:
        """Put the programs that others call into the agent's arrays, beside its own.

        Raises:
            DataplaneError: another agent has taken over, whose maps these programs do not use.

        """
        root, forwarder_programs = self._maps[root_array.NAME], self._maps[FORWARDER_PROGRAMS]
        programs = self._loaded.programs
        with _opened(self._directory, FORWARDER_PROGRAMS) as now:
            if bpf_syscall.map_info(now).map_id != bpf_syscall.map_info(forwarder_programs).map_id:
                raise DataplaneError("a new agent has come meanwhile: trace again")
        plain = program_in(root, abi.Slot.FORWARDER)
        if plain is None:
            raise DataplaneError("the agent's program array has no forwarder: lbctl up again")
        with bpf_syscall.closing(bpf_syscall.prog_fd_by_id(plain)) as fd:
            put_program(forwarder_programs, abi.ForwarderSlot.UNTRACED, fd)
        redirector_programs = self._maps[REDIRECTOR_PROGRAMS]
        put_program(redirector_programs, abi.RedirectorSlot.TRACED_RARE, programs[REDIRECTOR_RARE])
        for name, slot in TRACED_SLOTS.items():
            put_program(forwarder_programs, slot, programs[name])
        put_program(root, abi.Slot.FORWARDER, programs[FORWARDER])

    def lost(self) -> int:
        """How many events were lost because the ring was full."""
        raw = bpf_syscall.map_lookup(self._loaded.maps[LOST], 0, 8 * possible_cpus())
        return int(np.frombuffer(raw, "<u8").sum())


def empty_slots(directory: Path) -> None:
    """Take traced programs out of the arrays of some pins, and put the plain forwarder back.

    All agents of an interface share the root array. A new agent may have put its own forwarder
    there: it stays. A forwarder of these pins' agent uses its array of other programs.
    """
    with ExitStack() as stack:
        root, forwarder_programs, redirector_programs = (
            stack.enter_context(_opened(directory, name))
            for name in (root_array.NAME, FORWARDER_PROGRAMS, REDIRECTOR_PROGRAMS)
        )
        plain = program_in(forwarder_programs, abi.ForwarderSlot.UNTRACED)
        now = program_in(root, abi.Slot.FORWARDER)
        if plain is not None and now is not None and uses_map(now, forwarder_programs):
            with bpf_syscall.closing(bpf_syscall.prog_fd_by_id(plain)) as fd:
                put_program(root, abi.Slot.FORWARDER, fd)
        for slot in (*TRACED_SLOTS.values(), abi.ForwarderSlot.UNTRACED):
            if program_in(forwarder_programs, slot) is not None:
                bpf_syscall.map_delete(forwarder_programs, slot)
        if program_in(redirector_programs, abi.RedirectorSlot.TRACED_RARE) is not None:
            bpf_syscall.map_delete(redirector_programs, abi.RedirectorSlot.TRACED_RARE)
