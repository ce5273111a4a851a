"""Whether our programs are on the interface, by the interface itself: also without an agent."""

from __future__ import annotations

from lb.agent.attach import bpffs, clsact, xdp
from lb.agent.attach.program_info import pinned_ids
from lb.agent.attach.trace_swap import pins_of
from lb.agent.config import AgentConfig
from lb.agent.netlink.links import find_link
from lb.agent.netlink.route_socket import RouteSocket


def are_attached(config: AgentConfig) -> bool | None:
    """Return whether pinned programs of this interface, a forwarder and a redirector, are on it.

    ``None``: there is no such interface, or who asks may not see the pins.
    """
    pins = pins_of(config)
    try:
        pins.exists()
    except PermissionError:
        return None
    with RouteSocket() as netlink:
        link = find_link(netlink, config.interface)
        if link is None:
            return None
        forwarders, redirectors = (
            pinned_ids([pins], names) for names in (bpffs.FORWARDERS, bpffs.REDIRECTORS)
        )
        if not forwarders & xdp.query_xdp(netlink, link.index).ids:
            return False
        return clsact.has_our_filter(netlink, link.index, redirectors)
