"""Strays: two dumps in a row have to agree, each is counted once, with the cause that is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

import numpy as np
import pytest

from controlplane.domain.objects import TCP, Pool, Server, ServerState, Service, Table
from lb.agent.report.presence.dump import Found, Strays
from lb.agent.report.presence.sorting import Sorter
from lb.agent.report.presence.strays import LAG_SECONDS, PATIENCE_SECONDS, Cause, StrayCount
from lb.led_here import PoolHere, Steering, pool_here

VIP = IPv4Network("192.0.2.10")
OWN = Server("s1", IPv4Address("10.0.0.1"), 1, ServerState.ACTIVE)
WEB = Service("web", VIP, TCP, 80, "web")
BUCKETS = 256
BUCKET = 9
KEY = bytes(16)


def here(
    chain: Sequence[int], now: float, before: PoolHere | None = None, server: Server = OWN
) -> PoolHere:
    chains = np.tile(np.array(chain, np.uint16), (BUCKETS, 1))
    table = Table("web", 1, 1, chains, np.zeros(BUCKETS, np.uint32))
    return pool_here(table, Pool("web", BUCKETS, 2), KEY, server, now, before)


def found(begun: float, *cookies: int, service: int = 0) -> Found:
    strays = Strays(
        np.array(sorted(cookies), np.uint64),
        np.full(len(cookies), service, np.int32),
        np.full(len(cookies), BUCKET, np.int64),
    )
    nothing = np.zeros(BUCKETS, np.bool_)
    return Found(begun, nothing, np.zeros(1, np.int64), len(cookies), strays)


class Server1:
    """One server's count, with a new table or a dump at a time."""

    def __init__(self) -> None:
        self.count = StrayCount()
        self.steering = Steering(1, (WEB,), {}, OWN.dip)

    def table(self, *chain: int, at: float, server: Server = OWN) -> None:
        before = self.steering.pools.get("web")
        now = here(chain, at, before, server)
        now = now if before is None else replace(now, key=before.key)
        self.steering = replace(self.steering, pools={"web": now})

    def services(self, *services: Service, pools: Mapping[str, PoolHere] | None = None) -> None:
        known = self.steering.pools if pools is None else pools
        self.steering = replace(self.steering, services=services, pools=known)

    def dump(self, at: float, *cookies: int) -> dict[str, int]:
        """Take a dump that has these strays; return how many count now, by cause."""
        self.count.follow(self.steering, at)
        self.count.add(found(at, *cookies), Sorter(self.steering))
        assert all(pool == "web" for pool, _ in self.count.now)
        return {str(cause): number for (_, cause), number in self.count.now.items()}

    @property
    def total(self) -> dict[str, int]:
        return {str(cause): number for (_, cause), number in self.count.total.items()}


@pytest.fixture
def server() -> Server1:
    """A server that has lost its place in a full chain at 10.0, after a dump without strays."""
    made = Server1()
    made.table(2, 1, at=0.0)
    made.dump(5.0)
    made.table(3, 2, at=10.0)
    return made


def test_a_stray_counts_when_two_dumps_agree(server: Server1) -> None:
    assert server.dump(10.2, 7, 8) == {}
    assert server.dump(10.7, 7) == {"forced": 1}
    assert server.dump(11.2, 7) == {"forced": 1}
    assert server.total == {"forced": 1}, "each connection once"
    assert server.dump(11.7) == {}
    assert server.dump(12.2, 7) == {}, "not two in a row"


def test_the_table_before_counts_as_long_as_others_may_not_have_the_new_one(
    server: Server1,
) -> None:
    assert server.dump(10.1, 7) == {}
    assert server.dump(10.0 + PATIENCE_SECONDS - 0.1, 7) == {}
    assert server.dump(10.0 + PATIENCE_SECONDS, 7) == {"forced": 1}


def test_what_neither_table_leads_to_needs_no_patience(server: Server1) -> None:
    server.table(3, 4, at=20.0)
    server.dump(20.1, 7)
    assert server.dump(20.2, 7) == {"forced": 1}


def test_a_stray_that_counts_goes_on_to_count_with_the_next_table(server: Server1) -> None:
    server.dump(10.2, 7)
    server.dump(10.8, 7)
    server.table(3, 4, at=11.0)
    assert server.dump(11.1, 7) == {"forced": 1}
    assert server.total == {"forced": 1}


@pytest.mark.parametrize(
    ("before", "after", "state", "cause"),
    [
        ((2, 1), (3, 2), ServerState.ACTIVE, Cause.FORCED),
        ((2, 1), (3, 2), ServerState.DRAINING, Cause.FORCED),
        ((2, 1), (2, 0), ServerState.ACTIVE, Cause.FORGOTTEN),
        ((1, 0), (2, 3), ServerState.ACTIVE, Cause.FORGOTTEN),
        ((2, 1), (2, 0), ServerState.DOWN, Cause.REMOVED),
        ((2, 1), (3, 2), ServerState.REGISTERED, Cause.REMOVED),
    ],
)
def test_the_cause_is_how_the_server_left_the_chain(
    before: Sequence[int], after: Sequence[int], state: ServerState, cause: Cause
) -> None:
    server = Server1()
    server.table(*before, at=0.0)
    server.dump(5.0)
    server.table(*after, at=10.0, server=replace(OWN, state=state))
    server.dump(11.0, 7)
    assert server.dump(12.0, 7) == {cause: 1}


def test_the_first_dump_of_all_may_find_what_a_table_cut_off() -> None:
    server = Server1()
    server.table(2, 1, at=0.0)
    server.table(3, 2, at=10.0)
    server.dump(11.0, 7)
    assert server.dump(12.0, 7) == {"forced": 1}


def test_what_was_opened_after_the_server_left_came_by_an_older_table(server: Server1) -> None:
    server.dump(11.0)
    server.dump(12.0, 7)
    assert server.dump(13.0, 7) == {"lagging": 1}


def test_what_is_opened_long_after_that_is_unknown(server: Server1) -> None:
    server.dump(11.0)
    late = 10.0 + LAG_SECONDS + 1
    server.dump(late, 7)
    assert server.dump(late + 1, 7) == {"unknown": 1}


def test_what_never_led_here_is_unknown() -> None:
    server = Server1()
    server.table(2, 3, at=0.0)
    server.dump(1.0, 7)
    assert server.dump(2.0, 7) == {"unknown": 1}


def test_a_cause_stays_what_it_was_at_first(server: Server1) -> None:
    server.dump(11.0, 7)
    server.table(2, 1, at=12.0)  # leads here again, for a moment between two dumps
    server.table(2, 0, at=12.5)
    assert server.dump(13.0, 7) == {"forced": 1}


def test_a_service_that_has_another_pool_was_reshaped() -> None:
    server = Server1()
    other = Service("web", VIP, TCP, 80, "other")
    server.table(1, 2, at=0.0)
    server.services(other, pools={"other": server.steering.pools["web"]})
    server.count.follow(server.steering, 5.0)
    server.services(WEB, pools={"web": here((2, 3), 10.0)})
    server.dump(11.0, 7)
    assert server.dump(12.0, 7) == {"reshape": 1}
    server.dump(13.0, 7, 8)
    assert server.dump(14.0, 7, 8) == {"reshape": 1, "unknown": 1}, "the other one is younger"


def test_a_pool_with_another_key_was_reshaped() -> None:
    server = Server1()
    server.table(2, 1, at=0.0)
    server.dump(1.0)
    server.services(WEB, pools={"web": replace(here((2, 3), 10.0), key=bytes(15) + b"\1")})
    server.dump(11.0, 7)
    assert server.dump(12.0, 7) == {"reshape": 1}


def test_a_bucket_that_is_left_after_a_reshape_has_its_own_cause() -> None:
    server = Server1()
    server.table(2, 1, at=0.0)
    server.dump(1.0)
    server.services(WEB, pools={"web": replace(here((2, 1), 10.0), key=bytes(15) + b"\1")})
    server.dump(11.0)
    server.table(3, 2, at=20.0)
    server.dump(21.0, 7)
    assert server.dump(22.0, 7) == {"forced": 1}


def test_ten_thousand_strays_are_counted() -> None:
    server = Server1()
    server.table(2, 1, at=0.0)
    server.dump(1.0)
    server.table(3, 2, at=10.0)
    server.dump(11.0, *range(10_000))
    assert server.dump(12.0, *range(5_000, 15_000)) == {"forced": 5_000}
    assert server.total == {"forced": 5_000}
