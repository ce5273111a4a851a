"""Frames as `lbctl trace` reads them, shows them and chooses among them."""

from __future__ import annotations

import json
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address
from typing import Any

import numpy as np
import pytest

from controlplane.domain.errors import UsageError
from lb import abi
from lb.dataplane.maps.tables import PoolWord, key_of_schedule, key_schedule
from lb.dataplane.objects import ServiceEntry
from lb.trace.event import Event, as_data, line, read_event
from lb.trace.explain import Explainer, Place
from lb.trace.filters import UNINTERESTING, Filter, parse_network, wanted_counters
from lb.trace.packet import Packet, read_frame
from tests.model.frames import (
    ethernet,
    fragments_of,
    framed,
    gue_packet,
    hop_by_hop,
    icmp_error,
    tcp_packet,
    udp_packet,
)

CLIENT, VIP = IPv4Address("198.51.100.7"), IPv4Address("192.0.2.10")
CLIENT6, VIP6 = IPv6Address("2001:db8:c::7"), IPv6Address("2001:db8::10")
S1, S2, S3 = (IPv4Address(f"10.0.0.{n}") for n in (1, 2, 3))
NAMES = {S1: "s1", S2: "s2", S3: "s3"}
KEY = bytes(range(16))
SYN, ACK = 2, 16
ALL = frozenset(abi.COUNTERS)


def name(dip: IPv4Address) -> str:
    return NAMES.get(dip, str(dip))


def tcp(flags: int = ACK, port: int = 80) -> bytes:
    return tcp_packet(CLIENT, 40000, VIP, port, flags=flags)


def wrapped(packet: bytes, hops: tuple[IPv4Address, ...] = (), next_hop: int = 0) -> bytes:
    return ethernet(gue_packet(S1, S2, packet, hops=hops, next_hop=next_hop))


def record(frame: bytes, counter: str, program: int = 0, captured: int = 192) -> bytes:
    event = np.zeros((), dtype=abi.TRACE_EVENT)
    data = frame[: min(captured, abi.TRACE_BYTES)]
    event["time"], event["counter"] = 2_500_000_000, abi.COUNTERS.index(counter)
    event["program"], event["verdict"], event["ifindex"] = program, 3, 7
    event["length"], event["captured"] = len(frame), len(data)
    event["data"][: len(data)] = np.frombuffer(data, np.uint8)
    return event.tobytes()


def test_a_plain_packet() -> None:
    packet = read_frame(ethernet(tcp(SYN)), wrapped=False)
    assert packet.flow is not None
    assert (packet.client, packet.flow.source_port) == (CLIENT, 40000)
    assert (packet.vip, packet.vip_port) == (VIP, 80)
    assert (packet.flags, packet.gue, packet.fragment) == ("S", None, False)


def test_a_wrapped_packet_with_hops() -> None:
    packet = read_frame(wrapped(tcp(), (S3, S1), next_hop=1), wrapped=True)
    assert packet.flow is not None
    assert packet.flow.source == CLIENT
    assert packet.gue is not None
    assert (packet.gue.source, packet.gue.destination) == (S1, S2)
    assert (packet.gue.hops, packet.gue.next_hop) == ((S3, S1), 1)


def test_ipv6_behind_tags_and_extension_headers() -> None:
    packet = tcp_packet(CLIENT6, 40001, VIP6, 443, flags=SYN, headers=[hop_by_hop()])
    read = read_frame(framed(packet, tags=[b"\x81\x00\x00\x05"]), wrapped=False)
    assert read.flow is not None
    assert (read.vip, read.vip_port, read.flags) == (VIP6, 443, "S")


def test_an_error_belongs_to_the_flow_that_it_speaks_of() -> None:
    router = IPv4Address("203.0.113.1")
    sent = tcp_packet(VIP, 80, CLIENT, 40000, flags=ACK)
    packet = read_frame(ethernet(icmp_error(router, sent)), wrapped=False)
    assert packet.flow is not None
    assert (packet.flow.source, packet.flow.source_port) == (CLIENT, 40000)
    assert (packet.vip, packet.vip_port) == (VIP, 80)
    assert packet.icmp is not None
    assert packet.icmp[0] == 3
    assert Filter(ALL, client=IPv4Network(CLIENT), protocol="icmp").shows("tx_forward", packet)
    assert Filter(ALL, protocol="tcp").shows("tx_forward", packet)
    assert not Filter(ALL, protocol="udp").shows("tx_forward", packet)


def test_later_fragments_have_no_ports() -> None:
    first, later, *_ = fragments_of(udp_packet(CLIENT, 40000, VIP, 53, payload=bytes(64)), 32)
    assert read_frame(ethernet(first), wrapped=False).vip_port == 53
    packet = read_frame(ethernet(later), wrapped=False)
    assert (packet.flow, packet.fragment, packet.vip) == (None, True, VIP)


@pytest.mark.parametrize("is_wrapped", [False, True])
def test_any_prefix_of_a_frame_is_read_as_far_as_it_goes(is_wrapped: bool) -> None:
    inner6 = tcp_packet(CLIENT6, 40001, VIP6, 443, flags=SYN, headers=[hop_by_hop()])
    error = icmp_error(S3, tcp_packet(VIP, 80, CLIENT, 40000, flags=ACK))
    for inner in (tcp(), inner6, error):
        frame = wrapped(inner, (S3,)) if is_wrapped else framed(inner)
        for length in range(len(frame) + 1):
            read_frame(frame[:length], wrapped=is_wrapped)


# ------------------------------------------------------------------ telling


def test_a_line_says_all_of_it() -> None:
    event = read_event(record(wrapped(tcp(SYN), (S3,)), "tx_forward_chain"), boot=1000.0)
    place = Place("web", 17, ("s2", "s3"))
    when, *words = line(event, place, name).split()
    assert when.endswith(":42.500000")
    assert " ".join(words) == (
        "forwarder tx_forward_chain 198.51.100.7:40000 -> 192.0.2.10:80 tcp S "
        "| web bucket 17: s2 > s3 | GUE to s2, then s3 | 94 bytes"
    )


def test_what_the_redirector_took_in_names_the_sender() -> None:
    event = read_event(record(wrapped(tcp(SYN), (S3,), 1), "accept_syn", program=1), boot=0.0)
    text = line(event, None, name)
    assert "redirector accept_syn" in text
    assert "GUE from s1 to s2 |" in text


def test_json_says_the_same_to_programs() -> None:
    event = read_event(record(wrapped(tcp(SYN), (S3,)), "tx_forward_chain"), boot=1000.0)
    data = json.loads(json.dumps(as_data(event, Place("web", 17, ("s2", "s3")), name)))
    assert data["time"] == "1970-01-01T00:16:42.500000+00:00"
    assert (data["program"], data["counter"], data["verdict"]) == (
        "forwarder",
        *("tx_forward_chain", 3),
    )
    assert (data["client"], data["client_port"]) == (str(CLIENT), 40000)
    assert (data["vip"], data["vip_port"], data["flags"]) == (str(VIP), 80, "S")
    assert (data["pool"], data["bucket"], data["chain"]) == ("web", 17, ["s2", "s3"])
    assert data["gue"] == {"source": "s1", "destination": "s2", "hops": ["s3"], "next_hop": 0}


def test_what_cannot_be_read_is_said_to_be_so() -> None:
    event = read_event(record(b"\xff" * 20, "pass_not_ip"), boot=0.0)
    assert event.packet == Packet()
    assert "no IP packet" in line(event, None, name)
    assert as_data(event, None, name)["client"] is None


def test_addresses_of_ipv6_stand_in_brackets() -> None:
    frame = framed(udp_packet(CLIENT6, 40001, VIP6, 53))
    text = line(read_event(record(frame, "pass_local"), boot=0.0), None, name)
    assert "[2001:db8:c::7]:40001 -> [2001:db8::10]:53 udp" in text


# ------------------------------------------------------------------ choosing


def shown(**wishes: Any) -> bool:
    packet = read_frame(ethernet(tcp(SYN)), wrapped=False)
    return Filter(ALL, **wishes).shows("tx_forward", packet)


def test_filters() -> None:
    assert shown()
    assert shown(
        vip=IPv4Network("192.0.2.0/24"), client=IPv4Network(CLIENT), protocol="tcp", port=80
    )
    assert not shown(vip=IPv4Network("192.0.3.0/24"))
    assert not shown(client=IPv4Network(VIP))
    assert not shown(protocol="udp")
    assert not shown(protocol="icmp")
    assert not shown(port=443)
    assert not Filter(ALL - {"tx_forward"}).shows("tx_forward", Packet())


def test_counters_are_chosen_by_patterns() -> None:
    assert wanted_counters([]) == ALL - UNINTERESTING
    assert wanted_counters(["ok_not_gue"]) == {"ok_not_gue"}
    assert wanted_counters(["drop_e*", "pass_on"]) == {
        "drop_ext_headers",
        "drop_ecn",
        "drop_error",
        "pass_on",
    }
    with pytest.raises(UsageError, match="drop_evrything"):
        wanted_counters(["drop_evrything"])


def test_a_filter_that_cannot_fit_is_refused() -> None:
    with pytest.raises(UsageError, match="two IP versions"):
        Filter(ALL, vip=parse_network("192.0.2.10"), client=parse_network("2001:db8::/32"))
    with pytest.raises(UsageError, match="neither an address nor a prefix"):
        parse_network("192.0.2.10/24")


def test_the_kernel_is_told_what_it_can_ask_cheaply() -> None:
    plain = Filter(frozenset({"pass_not_ip", "tx_forward"})).defines()
    assert plain == {"LB_TRACE": 1, "LB_TRACE_VERDICTS": 1 | 1 << abi.COUNTERS.index("tx_forward")}
    told = Filter(ALL, vip=parse_network("192.0.2.0/24"), protocol="tcp", port=443).defines()
    assert told["LB_TRACE_FILTERED"] == 1
    assert (told["LB_TRACE_VERSION"], told["LB_TRACE_PROTOCOL"]) == (4, 6)
    assert told["LB_TRACE_PORT"] == 0xBB01
    assert (told["LB_TRACE_VIP0"], told["LB_TRACE_VIP_MASK0"]) == (0x000200C0, 0x00FFFFFF)
    assert (told["LB_TRACE_CLIENT0"], told["LB_TRACE_CLIENT_MASK0"]) == (0, 0)


# ------------------------------------------------------------------ explaining


class Tables:
    """A kernel with one pool: every bucket's chain is 2, 3 and 9."""

    def services(self) -> tuple[ServiceEntry, ...]:
        wide = ServiceEntry(IPv4Network("192.0.2.0/24"), 6, None, "wide")
        return wide, ServiceEntry(IPv4Network(VIP), 6, 80, "web")

    def pool_words(self) -> dict[str, PoolWord]:
        return {"web": PoolWord(65536, 0, 3, 4)}

    def pool_key(self, pool: str) -> bytes | None:
        return KEY

    def chain(self, pool: str, bucket: int) -> tuple[int, ...]:
        return 2, 3, 9

    def dips(self) -> dict[int, tuple[IPv4Address, bytes | None]]:
        return {2: (S2, None), 3: (IPv4Address("10.0.0.77"), None)}


def test_a_flow_is_explained_by_the_kernels_tables() -> None:
    """The golden flow of docs/wire.md."""
    tables: Any = Tables()
    explainer = Explainer(tables, NAMES)
    explainer.refresh()
    flow = read_frame(ethernet(tcp()), wrapped=False).flow
    assert flow is not None
    assert explainer.place(flow) == Place("web", 42598, ("s2", "10.0.0.77", "index 9"))
    assert explainer.place(replace(flow, destination_port=81)) is None, "its pool has no table"
    assert explainer.place(replace(flow, protocol=17)) is None


def test_a_key_is_read_from_the_state_that_the_kernel_has() -> None:
    assert key_of_schedule(key_schedule(KEY)[0]) == KEY


def test_events_are_those_of_the_ring() -> None:
    event = read_event(record(ethernet(tcp()), "pass_local", captured=60), boot=10.0)
    assert isinstance(event, Event)
    assert (event.time, event.ifindex, event.length) == (12.5, 7, 54)
