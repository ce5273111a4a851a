"""Failing checks: one pool's matter, and never the majority's."""

from __future__ import annotations

from ipaddress import IPv4Network

from controlplane.decide.health import PoolHealth, fold, pool_health
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
