"""Failing checks: one pool's matter, and never the majority's."""

from __future__ import annotations

from ipaddress import IPv4Network

import pytest

from controlplane.decide.health import Panic, PoolHealth, fold, next_panic, pool_health
from controlplane.domain.objects import TCP, UDP, Check, CheckType, Report, Service, ServiceHealth

VIP = IPv4Network("192.0.2.1")
CHECK = Check(CheckType.TCP)
SERVICES = (
    Service("http", VIP, TCP, 80, "web", check=CHECK),
    Service("api", VIP, TCP, 81, "web", check=CHECK),
    Service("mail", VIP, TCP, 25, "mail", check=CHECK),
    Service("dns", VIP, UDP, 53, "mail"),
)


def report(name: str, **checks: bool) -> dict[str, Report]:
    health = {service: ServiceHealth(healthy) for service, healthy in checks.items()}
    return {name: Report(name, "boot", 1, 0.0, checks=health)}


def test_failing_and_healthy_again() -> None:
    failing = fold(frozenset(), report("a", http=False, mail=True), SERVICES)
    assert failing == {("a", "http")}
    assert fold(failing, report("a", http=True), SERVICES) == frozenset()


def test_never_checked_is_fit() -> None:
    assert fold(frozenset(), report("a"), SERVICES) == frozenset()


def test_a_restarted_agent_that_has_not_checked_yet_heals_nobody() -> None:
    failing = fold(frozenset(), report("a", http=False), SERVICES)
    assert fold(failing, report("a"), SERVICES) == {("a", "http")}


def test_a_server_or_check_that_is_gone_fails_no_longer() -> None:
    failing = frozenset({("a", "http"), ("b", "http"), ("a", "old")})
    assert fold(failing, report("a"), SERVICES) == {("a", "http")}


def test_a_service_without_check_cannot_fail() -> None:
    assert fold(frozenset(), report("a", dns=False), SERVICES) == frozenset()


def judge(pool: str, failing: set[tuple[str, str]], members: str = "abcd") -> PoolHealth:
    return pool_health(pool, SERVICES, frozenset(failing), members, 0.5)


def test_a_failing_service_is_a_matter_of_its_pool() -> None:
    failing = {("a", "http")}
    assert judge("web", failing) == PoolHealth(frozenset("a"))
    assert judge("mail", failing) == PoolHealth()


def test_half_is_no_majority_and_more_is_panic() -> None:
    assert judge("web", {("a", "http"), ("b", "api")}) == PoolHealth(frozenset("ab"))
    many = {("a", "http"), ("b", "api"), ("c", "http")}
    assert judge("web", many) == PoolHealth(frozenset("abc"), panic=True)


def test_only_members_count() -> None:
    assert judge("web", {("x", "http"), ("a", "http")}) == PoolHealth(frozenset("a"))
    assert judge("web", set(), "") == PoolHealth()


def panics(failing: list[int], members: int = 4, threshold: float = 0.5) -> str:
    """Which seconds are in panic (``!``), for so many failing in each."""
    panic, found = Panic(), ""
    for second, count in enumerate(failing):
        panic = next_panic(panic, count, members, threshold, 100.0 + second, 3.0)
        found += "!" if panic.on else "."
    return found


def test_a_panic_begins_at_once_and_ends_after_a_while_with_few_failing() -> None:
    assert panics([0, 2, 3, 1, 1, 1, 1, 1]) == "..!!!!.."
    assert panics([4, 1, 1, 2, 1, 1, 1, 1, 1]) == "!!!!!!!..", "one more begins the time anew"
    assert panics([3, 2, 2, 2, 2, 2, 2]) == "!" * 7, "one less than begins it does not end it"
    assert panics([2, 2, 1]) == "...", "what does not begin it is none"


@pytest.mark.parametrize(("members", "begins"), [(1, 1), (2, 2), (3, 2), (10, 6)])
def test_a_panic_can_end_in_pools_of_every_size(members: int, begins: int) -> None:
    assert panics([begins - 1], members) == "."
    assert panics([begins, 0, 0, 0, 0], members) == "!!!!."
    ends = max(0, begins - 2)
    assert panics([begins, ends, ends, ends, ends], members) == "!!!!."


def test_a_panic_ends_with_the_pool() -> None:
    assert panics([3, 0, 0, 0, 0], members=0) == "!!!!."
