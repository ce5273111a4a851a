"""Which servers a run works on, how many at once, and what it measures."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from types import SimpleNamespace
from typing import Any

import pytest

from controlplane.decide.guards import Capacity
from controlplane.decide.server_state import ServerView
from controlplane.decide.views import FleetView
from controlplane.domain.controller_state import DrainRequest
from controlplane.domain.errors import BrigadeError, ExitCode, UsageError
from controlplane.domain.objects import Check, Cluster, Report, Server, ServerState, Service
from controlplane.operator.rolling.facts import Sign
from controlplane.operator.rolling.plan import check_at_once, select
from controlplane.operator.rolling.watch import Growth, key_of, names, strays_of
from controlplane.operator.rolling.words import duration_text
from controlplane.operator.rolling.world import notice_seconds
from controlplane.settings.models import ControlConfig

CONFIG = ControlConfig.model_validate(
    {
        "server": [
            {"name": f"s{n}", "dip": f"10.0.0.{n}", "pools": pools}
            for n, pools in ((1, ["web"]), (2, ["web", "mail"]), (3, ["mail"]), (4, ["web"]))
        ],
        "pool": [{"name": "web"}, {"name": "mail"}],
    }
)


def cluster(**states: ServerState) -> Cluster:
    servers = tuple(
        Server(f"s{n}", IPv4Address(f"10.0.0.{n}"), n, states.get(f"s{n}", ServerState.ACTIVE))
        for n in range(1, 5)
    )
    return Cluster(generation=1, servers=servers)


def fleet(**requests: DrainRequest) -> FleetView:
    views = {f"s{n}": ServerView(f"s{n}", silent=n == 4) for n in range(1, 5)}
    return FleetView(servers=views, drain_requests=requests)


def chosen(pool: str | None, names: list[str] | None, **states: ServerState) -> list[str]:
    found = select(CONFIG, cluster(**states), fleet(), pool, names)
    return [name for name, _ in found.servers]


def test_all_of_the_fleet_or_of_a_pool_or_those_named_in_their_order() -> None:
    assert chosen(None, None) == ["s1", "s2", "s3"]
    assert chosen("mail", None) == ["s2", "s3"]
    assert chosen(None, ["s3", "s1", "s3"]) == ["s3", "s1"]


def test_those_not_in_use_are_left_out_with_the_reason() -> None:
    requests = {"s2": DrainRequest("bob@ctl", 0.0, "disk")}
    found = select(CONFIG, cluster(s1=ServerState.DOWN), fleet(**requests), None, None)
    assert found.servers == (("s3", "10.0.0.3"),)
    assert found.left_out == {
        "s1": "is down",
        "s2": "is drained already, requested by bob@ctl: disk",
        "s4": "has a silent agent",
    }


def test_a_server_that_was_named_is_not_left_out_silently() -> None:
    with pytest.raises(BrigadeError, match="s1 is down: leave it out of --servers") as caught:
        chosen(None, ["s3", "s1"], s1=ServerState.DOWN)
    assert caught.value.exit_code == ExitCode.REFUSED
    with pytest.raises(UsageError, match="s3 does not serve pool web"):
        chosen("web", ["s3"])
    down = {f"s{n}": ServerState.DOWN for n in range(1, 5)}
    with pytest.raises(UsageError, match="there is no server to work on"):
        chosen(None, None, **down)


def test_no_more_at_once_than_each_pool_can_spare() -> None:
    web = Capacity("web", 0.5, frozenset({"s1", "s2", "s4"}))
    mail = Capacity("mail", 0.0, frozenset({"s2", "s3"}))
    pools = {"web": web, "mail": mail}
    check_at_once(1, ["s1", "s2", "s3", "s4"], pools, CONFIG)
    with pytest.raises(BrigadeError, match=r"pool web has 3 of 3 .* --at-once 1"):
        check_at_once(2, ["s1", "s2", "s4"], pools, CONFIG)
    check_at_once(2, ["s1", "s3"], pools, CONFIG)  # one of each pool
    last = {"mail": Capacity("mail", 0.0, frozenset({"s3"}), {"s2": "down"})}
    with pytest.raises(BrigadeError, match="none can be drained"):
        check_at_once(1, ["s3"], last, CONFIG)


def test_only_an_agent_that_counts_strays_measures_them() -> None:
    def report(**values: Any) -> Any:
        return SimpleNamespace(**values)

    one = SimpleNamespace(pool="web", cause="forced", count=3)
    assert strays_of(Report("s1", "boot", 1, 0.0)) is None
    assert strays_of(report(strays=(), presence=None)) is None
    assert strays_of(report(strays=(), presence={})) == 0
    assert strays_of(report(strays=(one, one), presence=None)) == 6


def test_counters_grow_from_what_they_were_and_may_begin_anew() -> None:
    growth = Growth()
    assert growth.observe({"a": 7}) == {}
    assert growth.observe({"a": 9, "b": 4}) == {"a": 2}
    assert growth.observe({"a": 1}) == {}
    assert growth.observe({"a": 2, "b": 4}) == {"a": 1}
    assert growth.grown == {"a": 3}


def test_signs_are_the_same_without_their_numbers_and_names_are_words() -> None:
    assert key_of(Sign("s1", "silent for 12.5 s")) == key_of(Sign("s1", "silent for 3 s"))
    assert names("packets to s1, s2 are lost", ["s2"])
    assert not names("packets to s12 are lost", ["s1", "s2"])


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (119, "119 s"), (120, "2 min"), (2460, "41 min"), (11400, "3 h 10 min")],
)
def test_durations_read_as_people_write_them(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


def test_how_long_a_failed_service_may_count_as_healthy() -> None:
    check = Check(interval_seconds=1.0, timeout_seconds=0.5, fall=3)
    service = Service("http", IPv4Network("192.0.2.1"), 6, 80, "web", check=check)
    assert notice_seconds([service]) == pytest.approx(4.8)
    assert notice_seconds([]) == 0.0
