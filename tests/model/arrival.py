"""A frame that the forwarder can look at: lines F1 to F4 of wire.md behind it."""

from __future__ import annotations

from dataclasses import dataclass

from tests.model.config import MAC_LENGTH, Config
from tests.model.flow import Flow
from tests.model.headers import ETHERNET_LENGTH, ETHERTYPE_IPV4, ETHERTYPE_IPV6
from tests.model.link import l3_offset
from tests.model.packet import IpPacket, read_packet
from tests.model.result import Result, Verdict

_VERSIONS = {ETHERTYPE_IPV4: 4, ETHERTYPE_IPV6: 6}


@dataclass(frozen=True)
class Arrival:
    """A frame, the offset of its IP header (14, 18 or 22), and what is read of that packet."""

    frame: bytes
    l3: int
    packet: IpPacket

    @property
    def data(self) -> bytes:
        """From the IP header to the frame's end, Ethernet padding included."""
        return self.frame[self.l3 :]

    @property
    def upper(self) -> bytes:
        """From the upper-layer header to the frame's end."""
        return self.data[self.packet.upper_at :]

    def passed(self, counter: str) -> Result:
        """Pass, untouched."""
        return Result("pass", counter, self.frame)

    def is_for_another_host(self, config: Config) -> bool:
        """Whether the frame only passes by this interface (section 4.2). Tags do not matter."""
        return self.frame[:MAC_LENGTH] != config.mac

    def if_for_vip(self, verdict: Verdict, counter: str, config: Config) -> Result:
        """The "VIP?" of section 4.2."""
        if not config.is_vip(self.packet.destination):
            return self.passed("pass_no_service")
        if self.is_for_another_host(config):
            return self.passed("pass_other_host")
        return Result(verdict, counter, None if verdict == "drop" else self.frame)


@dataclass(frozen=True)
class Found:
    """An arrival's flow and service: what lines F14 to F22 need beside the arrival itself.

    ``service`` is the place in ``Config.services``, ``read`` the bytes of "what was read" in line
    F14, counted from the IP header. ``answerable`` is False where section 4.5 never answers because
    of what the packet is: a later fragment or an ICMP error.
    """

    flow: Flow
    service: int
    read: int
    answerable: bool = True


def read_arrival(frame: bytes) -> Arrival | str:
    """Lines F1 to F4: the arrival, or the counter of a frame to pass."""
    if len(frame) < ETHERNET_LENGTH:  # F1
        return "pass_not_ip"
    l3 = l3_offset(frame)
    if l3 is None:  # F2
        return "pass_malformed"
    version = _VERSIONS.get(int.from_bytes(frame[l3 - 2 : l3], "big"))
    if version is None:  # F3
        return "pass_not_ip"
    packet = read_packet(frame[l3:], version)
    if packet is None:  # F4
        return "pass_malformed"
    return Arrival(frame, l3, packet)
