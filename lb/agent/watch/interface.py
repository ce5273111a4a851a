"""The interface, its DIP, ``lo``, and the rule that leads to the main routing table."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator

from lb.agent.config import AgentConfig
from lb.agent.netlink.links import LOOPBACK_INDEX, LinkInfo, find_link, is_up, read_link
from lb.agent.netlink.messages import NUMBER, attributes
from lb.agent.netlink.route_socket import NetlinkError, RouteSocket
from lb.agent.netlink.routes import RT_TABLE_MAIN, RTMSG
from lb.agent.netlink.rules import FR_ACT_TO_TBL, FRA_TABLE, RTM_GETRULE, dump_request
from lb.agent.watch.preflight import DIP, INTERFACE, LO, Unfit, interface_faults
from lb.agent.watch.registry import Drift, InterfaceReplacedError, Thing

CARRIER = "carrier"
CARRIER_SECONDS = 1.0
"""Some drivers lose it for a moment when a program is attached."""
MAIN_RULE = "main_rule"


class WatchedInterface:
    """Reads the interface once a pass. ``link`` is what it was then, ``None`` if unfit or gone."""

    def __init__(self, netlink: RouteSocket, config: AgentConfig, link: LinkInfo) -> None:
        self._netlink = netlink
        self._config = config
        self._index = link.index
        self._carrier = True
        self._faults: dict[str, Unfit] = {}
        self._had_main_rule = has_main_rule(netlink)
        self.link: LinkInfo | None = link

    def things(self) -> Iterator[Thing]:
        """Yield what is watched, in the order of the looks: the first one reads."""
        yield Thing(INTERFACE, self._look)
        yield Thing(CARRIER, self._look_at_carrier, patience_seconds=CARRIER_SECONDS)
        yield Thing(DIP, lambda: self._drift(DIP))
        yield Thing(LO, lambda: self._drift(LO))
        yield Thing(MAIN_RULE, self._look_at_main_rule, patience_seconds=1.0)

    def _look(self) -> Drift | None:
        """Read the interface.

        Raises:
            InterfaceReplacedError: another one has its name.

        """
        name = self._config.interface
        self._faults, self.link, self._carrier = {}, None, True
        try:
            link = read_link(self._netlink, self._index)
        except NetlinkError as error:
            if error.errno != errno.ENODEV:
                raise
            if find_link(self._netlink, name) is not None:
                raise InterfaceReplacedError(f"interface {name} was made anew") from error
            return Drift(f"interface {name} is gone", "the agent waits until it is there again")
        if link.name != name:
            return Drift(
                f"interface {name} is called {link.name} now",
                f"ip link set dev {link.name} name {name}, or correct interface in the settings",
            )
        lo_up = is_up(self._netlink, LOOPBACK_INDEX)
        for fault in interface_faults(self._config, link, lo_up=lo_up):
            self._faults.setdefault(fault.what, fault)
        if INTERFACE not in self._faults:
            self.link = link
            self._carrier = link.carrier
        return self._drift(INTERFACE)

    def _drift(self, what: str) -> Drift | None:
        fault = self._faults.get(what)
        return Drift(fault.line, fault.remedy) if fault is not None else None

    def _look_at_carrier(self) -> Drift | None:
        if self._carrier:
            return None
        name = self._config.interface
        return Drift(f"{name} does not have a carrier", "check its cable, and the switch's port")

    def _look_at_main_rule(self) -> Drift | None:
        if not self._had_main_rule or has_main_rule(self._netlink):
            return None
        return Drift(
            "the rule that leads to the main routing table was removed (ip rule flush?)",
            "ip rule add priority 32766 lookup main",
        )


def has_main_rule(netlink: RouteSocket) -> bool:
    """Whether IPv4 packets may be routed by the main table."""
    for body in netlink.dump(RTM_GETRULE, dump_request(socket.AF_INET)):
        family, _, _, _, short_table, _, _, action, _ = RTMSG.unpack_from(body)
        if (family, action) != (socket.AF_INET, FR_ACT_TO_TBL):
            continue
        table = dict(attributes(body, RTMSG.size)).get(FRA_TABLE)
        if (NUMBER.unpack(table)[0] if table else short_table) == RT_TABLE_MAIN:
            return True
    return False
