"""One request after the other: answers to requests that were given up do not count."""

from __future__ import annotations

import errno

import pytest

from controlplane.domain.errors import BrigadeError
from lb.agent.netlink.links import (
    IFINFOMSG,
    IFLA_INFO_KIND,
    IFLA_LINK,
    IFLA_LINKINFO,
    LOOPBACK_INDEX,
    find_link,
    has_vlans,
    link_names,
    read_link,
)
from lb.agent.netlink.messages import HEADER, attribute, number
from lb.agent.netlink.route_socket import (
    ERROR,
    NLMSG_DONE,
    NLMSG_ERROR,
    NetlinkError,
    Request,
    RouteSocket,
    netlink_errors,
    require,
)
from tests.unit.lb.agent.fakes import FakeEvents


class Wire(FakeEvents):
    """A kernel's answers, each a buffer, to whatever is asked."""

    def send(self, _: bytes) -> None: ...


def answer(sequence: int, body: bytes, kind: int = 16) -> bytes:
    return HEADER.pack(HEADER.size + len(body), kind, 0, sequence, 0) + body


def connected(*answers: bytes) -> RouteSocket:
    made = RouteSocket()
    made._socket = Wire(*answers)  # type: ignore[assignment] # the part that is used
    made._sequence = 7
    return made


def test_a_late_answer_to_an_earlier_request_is_skipped() -> None:
    late, code = answer(7, b"late"), ERROR.pack(-errno.EBUSY)
    done = answer(8, ERROR.pack(0), NLMSG_DONE)
    assert connected(late, late + answer(8, b"link")).get(18, b"") == b"link"
    assert connected(late + answer(8, b"1234"), done).dump(18, b"") == [b"1234"]
    errors = answer(7, code, NLMSG_ERROR) + answer(8, ERROR.pack(0), NLMSG_ERROR)
    second = answer(9, code, NLMSG_ERROR)
    assert connected(errors, second).change([Request(16, b"")] * 2) == [0, errno.EBUSY]


def test_a_refusal_is_an_error_with_its_number_and_one_line() -> None:
    refused = answer(8, ERROR.pack(-errno.ENODEV), NLMSG_ERROR)
    with pytest.raises(NetlinkError) as caught:
        connected(refused).get(18, b"")
    assert caught.value.errno == errno.ENODEV
    with (
        pytest.raises(BrigadeError, match=r"^cannot look: No such device; is it gone\?$"),
        netlink_errors("look", "is it gone?"),
    ):
        require(connected(refused), Request(18, b""))
    gone = answer(8, ERROR.pack(-errno.ENOENT), NLMSG_DONE)
    assert connected(gone).dump(26, b"") == [], "no such table"


def test_vlans_are_devices_of_that_kind_on_our_interface() -> None:
    class Links(RouteSocket):
        def __init__(self, *links: bytes) -> None:
            self.links = links

        def dump(self, kind: int, body: bytes) -> list[bytes]:
            return [IFINFOMSG.pack(0, 1, 7, 0, 0) + link for link in self.links]

    def on_3(kind: bytes) -> bytes:
        return number(IFLA_LINK, 3) + attribute(IFLA_LINKINFO, attribute(IFLA_INFO_KIND, kind))

    assert has_vlans(Links(b"", on_3(b"vlan\0")), 3)
    assert not has_vlans(Links(b"", on_3(b"vlan\0")), 4)
    assert not has_vlans(Links(on_3(b"veth\0")), 3)


def test_the_kernel_answers_about_links() -> None:
    with RouteSocket() as netlink:
        loopback = find_link(netlink, "lo")
        assert loopback is not None
        assert loopback == read_link(netlink, LOOPBACK_INDEX)
        assert (loopback.name, loopback.index, loopback.mac) == ("lo", 1, bytes(6))
        assert link_names(netlink)[LOOPBACK_INDEX] == "lo"
        assert not has_vlans(netlink, LOOPBACK_INDEX)
        assert find_link(netlink, "no-such-link") is None
        assert find_link(netlink, "a-name-that-is-too-long") is None
        with pytest.raises(NetlinkError):
            read_link(netlink, 1 << 30)
