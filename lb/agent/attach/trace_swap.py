"""Swaps the agent's programs for traced ones, and back: one step each.

Everything needed to undo it is in the kernel: pins beside the agent's own mark what is ours, so a
trace that was killed is removed by the next one, by `lbctl trace --off`, `lbctl up` or `down`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from controlplane.domain.errors import BrigadeError
from lb.agent.attach import bpffs, clsact, xdp
from lb.agent.attach.program_info import open_pin, pinned_program
from lb.agent.config import XDP_MODES, AgentConfig
from lb.agent.netlink.route_socket import RouteSocket
from lb.dataplane.load import bpf_syscall
from lb.dataplane.maps.grace import GRACE_SECONDS
from lb.dataplane.traced import TracedPrograms, empty_slots

TRACED = (bpffs.TRACED_FORWARDER, bpffs.TRACED_REDIRECTOR)


def pins_of(config: AgentConfig) -> Path:
    """Return the directory of an agent's pins."""
    return config.bpffs / bpffs.pin_name(config.interface)


def is_on(config: AgentConfig) -> bool:
    """Whether traced programs are, or may be, attached."""
    pins = pins_of(config)
    try:
        return any((pins / name).exists() for name in TRACED)
    except PermissionError:
        return False


@contextmanager
def attached(
    netlink: RouteSocket, ifindex: int, config: AgentConfig, programs: TracedPrograms
) -> Iterator[None]:
    """Have the traced programs instead of the agent's while the block runs.

    Raises:
        BrigadeError: the agent's programs are not attached, or the kernel refuses.

    """
    try:
        with bpffs.swapping(config.bpffs):
            _swap_in(netlink, ifindex, config, programs)
        yield
    finally:
        remove(netlink, ifindex, config)


def _swap_in(
    netlink: RouteSocket, ifindex: int, config: AgentConfig, programs: TracedPrograms
) -> None:
    pins = pins_of(config)
    forwarder, redirector = (
        pinned_program(pins / name) for name in (bpffs.FORWARDER, bpffs.REDIRECTOR)
    )
    if forwarder is None or redirector is None:
        raise BrigadeError(f"nothing is pinned in {pins}: is the agent up (lbctl up)?")
    now = xdp.query_xdp(netlink, ifindex)
    mode = next((mode for mode in XDP_MODES if now.of(mode) == forwarder.id), None)
    if mode is None or not clsact.has_our_filter(netlink, ifindex, {redirector.id}):
        raise BrigadeError(f"the agent's programs are not on {config.interface}: lbctl up again")
    bpf_syscall.obj_pin(programs.root_fd, pins / bpffs.TRACED_FORWARDER)
    bpf_syscall.obj_pin(programs.redirector_fd, pins / bpffs.TRACED_REDIRECTOR)
    programs.fill_slots()
    clsact.attach_filter(netlink, ifindex, programs.redirector_fd)
    xdp.attach_xdp(netlink, ifindex, programs.root_fd, mode, forwarder.id)


def remove(netlink: RouteSocket, ifindex: int, config: AgentConfig) -> bool:
    """Replace traced programs by the agent's; return whether there was a trace.

    Programs that a new agent has attached since stay; so does an interface from which somebody
    has detached them.
    """
    if not is_on(config):
        return False
    with bpffs.swapping(config.bpffs):
        if not is_on(config):
            return False
        pins = pins_of(config)
        _swap_back(netlink, ifindex, pins)
        time.sleep(GRACE_SECONDS)  # packets in flight may still jump to what the slots hold
        empty_slots(pins)
        for name in TRACED:
            (pins / name).unlink(missing_ok=True)
    return True


def still_attached(netlink: RouteSocket, ifindex: int, config: AgentConfig) -> bool:
    """Whether the traced programs are still on the interface."""
    traced = pinned_program(pins_of(config) / bpffs.TRACED_FORWARDER)
    return traced is not None and traced.id in xdp.query_xdp(netlink, ifindex).ids


def _swap_back(netlink: RouteSocket, ifindex: int, pins: Path) -> None:
    traced = pinned_program(pins / bpffs.TRACED_FORWARDER)
    now = xdp.query_xdp(netlink, ifindex)
    for mode in XDP_MODES:
        if traced is not None and now.of(mode) == traced.id:
            with open_pin(pins / bpffs.FORWARDER) as descriptor:
                xdp.attach_xdp(netlink, ifindex, descriptor, mode, traced.id)
    traced = pinned_program(pins / bpffs.TRACED_REDIRECTOR)
    if traced is not None and clsact.has_our_filter(netlink, ifindex, {traced.id}):
        with open_pin(pins / bpffs.REDIRECTOR) as descriptor:
            clsact.attach_filter(netlink, ifindex, descriptor)
