"""Whether a packet is of a socket's connection: wire.md, section 6.5."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Address

import pytest

from tests.model import (
    Address,
    Flow,
    Memory,
    Outcome,
    SameSocket,
    Server,
    SocketState,
    numbers_fit,
    redirect,
    trace,
)
from tests.model.frames import ethernet, fragments_of, icmp_error, tcp_packet
from tests.packets.judge import NeverAsked
from tests.packets.redirector import FORWARD_SYN, C, D, gue
from tests.packets.world import (
    ACK,
    ANSWER,
    ANSWER6,
    AT_HOP,
    CLIENT,
    CLIENT6,
    FIN,
    ROUTER,
    ROUTER6,
    RST,
    SYN,
    UDP,
    VIP,
    VIP6,
    config,
    dip,
)

TURN = 1 << 32
BOUND = 1 << 28
WINDOW = 65535
FLOW = Flow(6, CLIENT, 40000, VIP, 80)
FAMILIES: list[tuple[Address, Address]] = [(CLIENT, VIP), (CLIENT6, VIP6)]
NUMBERS = [0, 1, 1000, WINDOW, BOUND, TURN // 2, TURN - BOUND, TURN - 1]
REMEMBERING = [
    SocketState.NONE,
    SocketState.LISTEN,
    SocketState.LISTEN_COOKIE,
    SocketState.TIME_WAIT,
]
NOT_REMEMBERING = [SocketState.REQUEST, SocketState.KNOWN, SocketState.OTHER_NUMBERS]


def _segment(
    flags: int, sequence: int = 1000, client: Address = CLIENT, vip: Address = VIP
) -> bytes:
    return tcp_packet(client, 40000, vip, 80, flags=flags, numbers=(sequence, 2000))


@dataclass
class _Here:
    """One server, and what it remembers."""

    memory: Memory = field(default_factory=Memory)

    def first(self, inner: bytes, state: SocketState = SocketState.NONE, flags: int = 0) -> str:
        """The counter of a packet that has another hop left."""
        return self._ends(gue(inner, C, private_flags=flags), state)

    def last(self, inner: bytes, state: SocketState = SocketState.NONE, flags: int = 0) -> str:
        """The counter of a packet whose last hop this server is."""
        return self._ends(gue(inner, C, D, next_hop=2, private_flags=flags), state)

    def _ends(self, packet: bytes, state: SocketState) -> str:
        return redirect(ethernet(packet), AT_HOP, SameSocket(state), self.memory).counter

    @property
    def opening(self) -> int | None:
        """What is remembered of the flow that this page is about."""
        return self.memory.openings.recall(FLOW)


@pytest.mark.parametrize("rcv_nxt", NUMBERS)
@pytest.mark.parametrize(
    ("ahead", "fits"),
    [
        (0, True),
        (-BOUND, True),
        (-BOUND - 1, False),
        (BOUND, True),
        (BOUND + 1, False),
        (TURN // 2, False),
    ],
)
def test_the_bounds_of_the_sequence_number(rcv_nxt: int, ahead: int, *, fits: bool) -> None:
    sequence = (rcv_nxt + ahead) % TURN
    for flags in (0, RST, FIN, ACK, ACK | RST, SYN | ACK):
        assert numbers_fit(sequence, 77, flags, rcv_nxt, 77) is fits


@pytest.mark.parametrize("snd_nxt", NUMBERS)
@pytest.mark.parametrize(
    ("behind", "fits"),
    [
        *((0, True), (-1, True), (BOUND, True), (-BOUND, True)),
        *((BOUND + 1, False), (-BOUND - 1, False), (TURN // 2, False)),
    ],
)
def test_the_bounds_of_the_acknowledgement_number(snd_nxt: int, behind: int, *, fits: bool) -> None:
    acknowledgement = (snd_nxt - behind) % TURN
    for flags in (ACK, ACK | FIN, ACK | RST, SYN | ACK, 0xFF):
        assert numbers_fit(5, acknowledgement, flags, 5, snd_nxt) is fits
    for flags in (0, FIN, RST, SYN | RST, 0xFF - ACK):
        assert numbers_fit(5, acknowledgement, flags, 5, snd_nxt)


@pytest.mark.parametrize(
    ("state", "flags", "counter"),
    [
        (SocketState.NONE, ACK, "pass_on"),
        (SocketState.LISTEN, ACK, "pass_on"),
        (SocketState.LISTEN, RST, "pass_on"),
        (SocketState.LISTEN_COOKIE, ACK, "accept_syncookie"),
        (SocketState.TIME_WAIT, ACK, "pass_on"),
        (SocketState.TIME_WAIT, FIN | ACK, "pass_on"),
        (SocketState.TIME_WAIT, RST, "accept_socket"),
        (SocketState.TIME_WAIT, RST | ACK, "accept_socket"),
        (SocketState.TIME_WAIT, RST | SYN, "accept_socket"),
        (SocketState.REQUEST, ACK, "accept_socket"),
        (SocketState.REQUEST, RST, "accept_socket"),
        (SocketState.KNOWN, ACK, "accept_socket"),
        (SocketState.KNOWN, RST, "accept_socket"),
        (SocketState.OTHER_NUMBERS, ACK, "pass_on"),
        (SocketState.OTHER_NUMBERS, RST, "pass_on"),
        (SocketState.OTHER_NUMBERS, SYN | ACK, "pass_on"),
    ],
)
def test_each_kind_of_socket(state: SocketState, flags: int, counter: str) -> None:
    for client, vip in FAMILIES:
        segment = _segment(flags, client=client, vip=vip)
        assert _Here().first(segment, state) == counter
        assert _Here().last(segment, state) == "accept_last_hop"


@pytest.mark.parametrize("opening", NUMBERS)
@pytest.mark.parametrize(
    ("ahead", "counter"),
    [
        (0, "accept_socket"),
        (1, "accept_socket"),
        (WINDOW, "accept_socket"),
        (-1, "pass_on"),
        (WINDOW + 1, "pass_on"),
        (TURN // 2, "pass_on"),
    ],
)
def test_the_bounds_of_a_request(opening: int, ahead: int, counter: str) -> None:
    for client, vip in FAMILIES:
        here = _Here()
        here.first(_segment(SYN, opening, client, vip))
        for flags in (0, ACK, ACK | FIN, RST, ACK | RST, SYN | ACK):
            segment = _segment(flags, opening + ahead, client, vip)
            assert here.first(segment, SocketState.REQUEST) == counter


def test_only_a_request_is_asked_about_its_opening() -> None:
    for state in (SocketState.KNOWN, SocketState.TIME_WAIT):
        here = _Here()
        here.first(_segment(SYN))
        assert here.first(_segment(RST, 999), state) == "accept_socket"


def test_openings_that_are_forgotten_hold_nothing_back() -> None:
    here = _Here()
    here.first(_segment(SYN))
    assert here.first(_segment(ACK, 999), SocketState.REQUEST) == "pass_on"
    here.memory.openings.forget()  # what 64 seconds do
    assert here.first(_segment(ACK, 999), SocketState.REQUEST) == "accept_socket"


def test_another_flows_opening_is_another_matter() -> None:
    here = _Here()
    here.first(tcp_packet(CLIENT, 40001, VIP, 80, flags=SYN))
    assert here.first(_segment(ACK, 999), SocketState.REQUEST) == "accept_socket"


@pytest.mark.parametrize("state", REMEMBERING)
def test_a_syn_is_remembered_where_it_can_open_a_connection(state: SocketState) -> None:
    first, last = _Here(), _Here()
    assert first.first(_segment(SYN, 7), state) == "accept_syn"
    assert last.last(_segment(SYN, 7), state) == "accept_last_hop"
    assert (first.opening, last.opening) == (7, 7)


@pytest.mark.parametrize("state", NOT_REMEMBERING)
def test_a_syn_is_not_remembered_where_a_socket_has_the_flow(state: SocketState) -> None:
    here = _Here()
    here.first(_segment(SYN, 7))
    assert here.first(_segment(SYN, 8), state) == "accept_syn"
    assert here.last(_segment(SYN, 9), state) == "accept_last_hop"
    assert here.opening == 7


def test_a_later_syn_takes_the_place_of_an_earlier_one() -> None:
    here = _Here()
    here.first(_segment(SYN, 7))
    here.last(_segment(SYN, 100_000), SocketState.LISTEN)
    assert here.opening == 100_000
    assert here.first(_segment(ACK, 8), SocketState.REQUEST) == "pass_on"
    assert here.first(_segment(ACK, 100_001), SocketState.REQUEST) == "accept_socket"


def test_a_syn_under_forward_syn_is_remembered_where_it_ends() -> None:
    here = _Here()
    assert here.first(_segment(SYN, 7), flags=FORWARD_SYN) == "pass_on"
    assert here.opening is None
    assert here.last(_segment(SYN, 7), flags=FORWARD_SYN) == "accept_last_hop"
    assert here.opening == 7


def test_a_bucket_at_rest_remembers_no_syn() -> None:
    memory = Memory()
    frame = ethernet(gue(_segment(SYN)))
    assert redirect(frame, AT_HOP, NeverAsked(), memory).counter == "accept_last_hop"
    assert len(memory.openings) == 0


@pytest.mark.parametrize("flags", [ACK, RST, FIN, SYN | ACK, SYN | RST, SYN | ACK | RST, 0])
def test_only_a_syn_is_remembered(flags: int) -> None:
    here = _Here()
    here.first(_segment(SYN, 7))
    for state in SocketState:
        here.first(_segment(flags, 8), state)
        here.last(_segment(flags, 9), state)
    assert here.opening == 7
    assert len(here.memory.openings) == 1


def test_a_datagram_and_an_error_about_a_syn_are_not_remembered() -> None:
    here = _Here()
    for inner in (UDP, icmp_error(ROUTER, tcp_packet(VIP, 80, CLIENT, 40000, flags=SYN))):
        here.first(inner)
        here.last(inner)
    assert len(here.memory.openings) == 0


def test_a_syn_with_other_flags_is_remembered() -> None:
    here = _Here()
    here.first(_segment(0xFF - ACK - RST, 7))
    assert here.opening == 7


def test_a_first_fragment_is_remembered_like_a_whole_packet() -> None:
    whole = tcp_packet(CLIENT, 40000, VIP, 80, flags=SYN, numbers=(7, 2000), payload=bytes(40))
    first, later = fragments_of(whole, 40)
    for_r18, for_r16 = _Here(), _Here()
    assert [for_r18.first(first), for_r18.first(later)] == ["accept_syn", "accept_syn"]
    for_r16.last(first)
    assert (for_r18.opening, for_r16.opening) == (7, 7)
    for_r18.first(_segment(SYN, 8))
    for_r18.first(later)
    assert for_r18.opening == 8


def test_a_syn_that_ecn_drops_is_remembered() -> None:
    memory = Memory()
    frame = ethernet(gue(_segment(SYN, 7), C, tos=3))
    assert redirect(frame, AT_HOP, SameSocket(), memory).counter == "drop_ecn"
    assert memory.openings.recall(FLOW) == 7


def test_8192_syns_are_remembered_and_the_one_unused_for_longest_forgotten() -> None:
    def client(number: int) -> IPv4Address:
        return IPv4Address("198.18.0.0") + number

    here = _Here()
    for number in range(8192):
        here.first(_segment(SYN, 7, client(number)))
    stray = [_segment(ACK, 6, client(number)) for number in range(8193)]
    assert here.first(stray[0], SocketState.REQUEST) == "pass_on"  # a use
    here.first(_segment(SYN, 7, client(8192)))
    assert len(here.memory.openings) == 8192
    found = [here.first(stray[number], SocketState.REQUEST) for number in (0, 1, 2, 8192)]
    assert found == ["pass_on", "accept_socket", "pass_on", "pass_on"]


@pytest.mark.parametrize("state", SocketState)
def test_an_icmp_error_goes_to_a_full_socket_whatever_the_numbers(state: SocketState) -> None:
    owners = {SocketState.KNOWN, SocketState.OTHER_NUMBERS}
    wanted = "accept_icmp_error" if state in owners else "pass_on"
    for error in (icmp_error(ROUTER, ANSWER), icmp_error(ROUTER6, ANSWER6)):
        assert _Here().first(error, state) == wanted


def test_an_icmp_error_about_a_request_goes_on_also_when_its_syn_is_remembered() -> None:
    here = _Here()
    here.first(_segment(SYN))
    assert here.first(icmp_error(ROUTER, ANSWER), SocketState.REQUEST) == "pass_on"


@pytest.mark.parametrize("state", NOT_REMEMBERING)
def test_at_the_end_of_its_way_a_socket_has_every_packet_of_its_flow(state: SocketState) -> None:
    servers = {
        dip(2): Server(config(2, (2, 3)), SameSocket(SocketState.NONE)),
        dip(3): Server(config(3, (2, 3)), SameSocket(state)),
    }
    for inner in (_segment(ACK), icmp_error(ROUTER, ANSWER)):
        path = trace(ethernet(inner), dip(2), servers)
        assert (path.last_server, path.outcome) == (dip(3), Outcome.DELIVERED)
