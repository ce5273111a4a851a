"""Congestion marks on the way out of the tunnel: RFC 6040, figure 4, as wire.md picks from it."""

from __future__ import annotations

import pytest

from tests.model import Address, SameSocket, redirect
from tests.model.checksum import internet_checksum
from tests.model.frames import ethernet, gue_packet, tcp_packet
from tests.unit.model.world import CLIENT, CLIENT6, VIP, VIP6, config, dip

NOT_ECT, ECT_1, ECT_0, CE = range(4)
DSCP = 0x2E << 2

# RFC 6040, figure 4: rows are the inner field, columns the outer one. None is "drop".
TABLE: dict[int, dict[int, int | None]] = {
    NOT_ECT: {NOT_ECT: NOT_ECT, ECT_0: NOT_ECT, ECT_1: NOT_ECT, CE: None},
    ECT_0: {NOT_ECT: ECT_0, ECT_0: ECT_0, ECT_1: ECT_1, CE: CE},
    ECT_1: {NOT_ECT: ECT_1, ECT_0: ECT_1, ECT_1: ECT_1, CE: CE},
    CE: {NOT_ECT: CE, ECT_0: CE, ECT_1: CE, CE: CE},
}
CASES = [(inner, outer, after) for inner, row in TABLE.items() for outer, after in row.items()]


def _arrives(inner: bytes, outer_ecn: int) -> bytes | None:
    """The packet in the local stack, without Ethernet."""
    frame = ethernet(gue_packet(dip(1), dip(2), inner, tos=outer_ecn))
    result = redirect(frame, config(2), SameSocket())
    if result.frame is None:
        assert (result.verdict, result.counter) == ("drop", "drop_ecn")
        return None
    assert (result.verdict, result.counter) == ("ok", "accept_last_hop")
    return result.frame[14:]


@pytest.mark.parametrize(("client", "vip"), [(CLIENT, VIP), (CLIENT6, VIP6)], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize(("inner", "outer", "after"), CASES)
def test_combination(
    inner: int, outer: int, after: int | None, client: Address, vip: Address
) -> None:
    packet = tcp_packet(client, 40000, vip, 80, tos=DSCP | inner)
    arrived = _arrives(packet, outer)
    if after is None:
        assert arrived is None
    else:
        assert arrived == tcp_packet(client, 40000, vip, 80, tos=DSCP | after)


def test_a_wrong_inner_checksum_stays_wrong_by_as_much() -> None:
    right = tcp_packet(CLIENT, 40000, VIP, 80, tos=ECT_0)
    wrong = right[:10] + bytes([right[10] ^ 0x5A, right[11]]) + right[12:]
    arrived = _arrives(wrong, CE)
    assert arrived is not None
    assert arrived[1] == CE
    assert internet_checksum(arrived[:20]) == internet_checksum(wrong[:20]) != 0


def test_a_packet_that_is_passed_on_keeps_both_fields() -> None:
    inner = tcp_packet(CLIENT, 40000, VIP, 80, flags=0x10, tos=NOT_ECT)
    frame = ethernet(gue_packet(dip(1), dip(2), inner, [dip(3)], tos=CE))
    result = redirect(frame, config(2), SameSocket())
    assert result.counter == "pass_on"
    assert result.frame is not None
    assert (result.frame[15], result.frame[14 + 40 + 1]) == (CE, NOT_ECT)
