"""What agents report of their connections: shown, counted, and never a reason to stop."""

from __future__ import annotations

import pytest

from controlplane.domain.objects import Strays
from controlplane.operator.overview import overview
from lb.cli.servers import print_servers
from netns.polling import wait_until
from tests.unit.controlplane.conftest import Fleet


def test_strays_are_shown_by_server_pool_and_cause(
    fleet: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    config = fleet.up(3)
    print_servers(overview(fleet.store, config, 0.2))
    assert "STRAYS" not in capsys.readouterr().out
    fleet.agents["s2"].strays = (Strays("web", "forced", 3), Strays("web", "lagging", 1))
    fleet.agents["s3"].strays = (Strays("web", "unknown", 1),)
    wait_until(lambda: fleet.metric("server_strays", server="s2") == 4.0, "it is a metric")
    assert fleet.metric("server_strays", server="s1") == 0.0
    found = overview(fleet.store, config, 0.2)
    servers = {server["name"]: server["strays"] for server in found["servers"]}
    assert servers == {
        "s1": [],
        "s2": [
            {"pool": "web", "cause": "forced", "count": 3},
            {"pool": "web", "cause": "lagging", "count": 1},
        ],
        "s3": [{"pool": "web", "cause": "unknown", "count": 1}],
    }
    print_servers(found)
    shown = capsys.readouterr().out
    assert (
        "STRAYS: s2 has 4 connections that no table leads to, broken or about to be "
        "(web: 3 forced, 1 lagging)"
    ) in shown
    assert "STRAYS: s3 has 1 connection that" in shown
    assert "STRAYS: s1" not in shown


def test_strays_of_a_silent_server_are_not_known(fleet: Fleet) -> None:
    config = fleet.up(2)
    agent = fleet.agents["s2"]
    agent.strays = (Strays("web", "forced", 3),)
    wait_until(lambda: fleet.metric("server_strays", server="s2") == 3.0, "it is a metric")
    agent.reports = False
    wait_until(lambda: fleet.metric("server_strays", server="s2") is None, "it is unknown")
    servers = {s["name"]: s["strays"] for s in overview(fleet.store, config, 1.0)["servers"]}
    assert servers == {"s1": [], "s2": None}


def test_a_presence_that_cannot_be_read_is_counted_and_the_report_is_used(fleet: Fleet) -> None:
    fleet.up(2)
    agent = fleet.agents["s2"]
    agent.presence = {"number": 1, "pools": {"web": {"occupied": "bomb"}}}
    agent.strays = (Strays("web", "forced", 3),)
    wait_until(
        lambda: (fleet.metric("presence_refused_total", server="s2") or 0) > 0, "it is counted"
    )
    wait_until(lambda: fleet.metric("server_strays", server="s2") == 3.0, "the rest is used")
    assert fleet.states()["s2"] == "active"
    assert fleet.metric("presence_refused_total", server="s1") in {None, 0.0}
