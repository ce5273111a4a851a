"""Packets followed through a small fleet: the picture of a daisy chain, step by step."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Address

import pytest

from tests.model import Flow, Outcome, Path, SameSocket, Server, SocketState, SocketTable, trace
from tests.model.frames import ethernet, gue_packet, icmp_packet, tcp_packet, udp_packet
from tests.packets.world import CLIENT, DNS, HTTP, PROBER, VIP, config, dip, flow

ACK, SYN = 0x10, 0x02
LISTENING = SocketTable({}, SocketState.LISTEN)
UNCONNECTED = SocketTable({}, SocketState.UDP_UNCONNECTED)
CONNECTION = flow(HTTP)
EXCHANGE = flow(DNS)


def _fleet(
    chains: Mapping[int, tuple[int, ...]],
    owner: int | None = None,
    sockets: SocketTable = LISTENING,
) -> dict[IPv4Address, Server]:
    """One server per chain, each with the chain it has loaded; the owner has the connection."""
    known: dict[Flow, SocketState] = {
        CONNECTION: SocketState.KNOWN,
        EXCHANGE: SocketState.UDP_CONNECTED,
    }
    return {
        dip(number): Server(
            config(number, chain),
            SocketTable(known, sockets.otherwise) if number == owner else sockets,
        )
        for number, chain in chains.items()
    }


def _everywhere(chain: tuple[int, ...]) -> dict[int, tuple[int, ...]]:
    return dict.fromkeys(range(1, 5), chain)


def _tcp(flags: int) -> bytes:
    return ethernet(tcp_packet(CLIENT, CONNECTION.source_port, VIP, 80, flags=flags))


def _udp() -> bytes:
    return ethernet(udp_packet(CLIENT, EXCHANGE.source_port, VIP, 53, payload=b"question"))


def _end(path: Path) -> tuple[Outcome, IPv4Address]:
    return path.outcome, path.last_server


def test_a_packet_at_its_own_server() -> None:
    path = trace(_tcp(ACK), dip(1), _fleet(_everywhere((1,)), owner=1))
    assert path.counters == ("pass_local", "ok_not_gue")
    assert _end(path) == (Outcome.DELIVERED, dip(1))


def test_a_packet_at_rest_goes_to_its_server() -> None:
    path = trace(_tcp(ACK), dip(1), _fleet(_everywhere((2,)), owner=2))
    assert path.counters == ("tx_forward", "pass_no_service", "accept_last_hop")
    assert _end(path) == (Outcome.DELIVERED, dip(2))
    assert path.frame is not None
    assert path.frame[14:] == _tcp(ACK)[14:]


def test_the_first_hop_has_no_socket_so_the_second_gets_it() -> None:
    path = trace(_tcp(ACK), dip(1), _fleet(_everywhere((2, 3)), owner=3))
    assert path.counters == (
        "tx_forward_chain",
        "pass_no_service",
        "pass_on",
        "pass_no_service",
        "accept_last_hop",
    )
    assert _end(path) == (Outcome.DELIVERED, dip(3))


def test_the_first_hop_has_the_socket() -> None:
    path = trace(_tcp(ACK), dip(1), _fleet(_everywhere((2, 3)), owner=2))
    assert path.counters[-1] == "accept_socket"
    assert _end(path) == (Outcome.DELIVERED, dip(2))


@pytest.mark.parametrize("owner", [1, 2, 3, 4])
@pytest.mark.parametrize("at", [1, 2, 3, 4])
def test_a_chain_of_four_finds_the_owner_from_everywhere(at: int, owner: int) -> None:
    path = trace(_tcp(ACK), dip(at), _fleet(_everywhere((4, 2, 1, 3)), owner))
    assert _end(path) == (Outcome.DELIVERED, dip(owner))


def test_a_new_connection_stays_at_the_current_server() -> None:
    path = trace(_tcp(SYN), dip(1), _fleet(_everywhere((2, 3))))
    assert path.counters[-1] == "accept_syn"
    assert _end(path) == (Outcome.OPENED, dip(2))


def test_a_server_that_is_its_own_first_hop_asks_its_sockets_first() -> None:
    fleet = _fleet(_everywhere((1, 2)), owner=1)
    here = trace(_tcp(ACK), dip(1), fleet)
    assert here.counters == ("pass_to_self", "accept_socket")
    away = trace(_tcp(ACK), dip(1), _fleet(_everywhere((1, 2)), owner=2))
    assert away.counters == ("pass_to_self", "pass_on", "pass_no_service", "accept_last_hop")
    assert _end(away) == (Outcome.DELIVERED, dip(2))


def test_a_valid_cookie_stays_and_another_ack_goes_on() -> None:
    fleet = _fleet(_everywhere((2, 3)), owner=3)
    fleet[dip(2)] = Server(config(2, (2, 3)), SameSocket(SocketState.LISTEN_COOKIE))
    assert _end(trace(_tcp(ACK), dip(1), fleet)) == (Outcome.DELIVERED, dip(2))
    fleet[dip(2)] = Server(config(2, (2, 3)), SameSocket(SocketState.LISTEN))
    assert _end(trace(_tcp(ACK), dip(1), fleet)) == (Outcome.DELIVERED, dip(3))


def test_a_connection_that_nobody_knows_is_refused_by_the_last_hop() -> None:
    path = trace(_tcp(ACK), dip(1), _fleet(_everywhere((2, 3))))
    assert _end(path) == (Outcome.REFUSED, dip(3))


def test_udp_stays_at_the_old_server_if_that_is_connected() -> None:
    path = trace(_udp(), dip(1), _fleet(_everywhere((2, 3)), owner=3, sockets=UNCONNECTED))
    assert path.counters[-1] == "accept_udp_socket"
    assert _end(path) == (Outcome.DELIVERED, dip(3))


def test_a_new_udp_flow_ends_at_the_current_server() -> None:
    path = trace(_udp(), dip(1), _fleet(_everywhere((2, 3)), sockets=UNCONNECTED))
    assert path.counters[-1] == "accept_last_hop"
    assert _end(path) == (Outcome.OPENED, dip(2))


def test_an_echo_is_answered_where_the_router_sends_it() -> None:
    frame = ethernet(icmp_packet(CLIENT, VIP))
    path = trace(frame, dip(4), _fleet(_everywhere((2, 3))))
    assert path.counters == ("pass_vip_icmp", "ok_not_gue")
    assert _end(path) == (Outcome.DELIVERED, dip(4))


def test_an_empty_bucket_is_a_drop_and_never_a_reset() -> None:
    path = trace(_tcp(ACK), dip(1), _fleet(_everywhere(())))
    assert path.outcome is Outcome.DROPPED
    assert path.frame is None


def test_a_server_that_is_gone() -> None:
    path = trace(_tcp(ACK), dip(1), _fleet({1: (4,)}))
    assert _end(path) == (Outcome.LOST, dip(1))


def test_a_probe_opens_a_connection_at_the_server_under_test() -> None:
    syn = tcp_packet(PROBER, 50000, VIP, 80)
    frame = ethernet(gue_packet(PROBER, dip(3), syn))
    path = trace(frame, dip(3), _fleet(_everywhere((1, 2))))
    assert path.counters == ("pass_no_service", "accept_last_hop")
    assert _end(path) == (Outcome.OPENED, dip(3))


def test_a_forged_packet_from_a_servers_own_dip() -> None:
    inner = tcp_packet(CLIENT, 1, VIP, 80, flags=ACK)
    frame = ethernet(gue_packet(dip(3), dip(3), inner))
    path = trace(frame, dip(3), _fleet(_everywhere((1, 2))))
    assert path.counters == ("drop_spoofed",)
    assert path.outcome is Outcome.DROPPED


def test_something_else_is_none_of_our_business() -> None:
    path = trace(ethernet(bytes(46), kind=0x0806), dip(1), _fleet(_everywhere((2,))))
    assert _end(path) == (Outcome.OTHER, dip(1))
