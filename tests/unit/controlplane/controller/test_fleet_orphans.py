"""A controller asks all servers for orphans, and counts and shows what is proved."""

from __future__ import annotations

import pytest

from controlplane.documents.flows import ReportedFlows, encode_flows
from controlplane.domain.objects import FlowName
from controlplane.operator.overview import overview
from lb.cli.servers import print_servers
from netns.polling import wait_until
from tests.unit.controlplane.conftest import Fleet

FLOW = FlowName("web", 0xFEDCBA9876543210)
COUNTS = {("web", "moved"): 2, ("web", "rest"): 1}


def test_what_another_server_has_is_proved_and_shown(
    fleet: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    config = fleet.up(3)
    print_servers(overview(fleet.store, config, 0.2))
    assert "BROKEN" not in capsys.readouterr().out
    assert fleet.metric("proved_total", server="s1") == 0.0, "a rate needs it before the first"
    fleet.agents["s2"].flows = encode_flows(ReportedFlows((FLOW,), (), COUNTS))
    holder = fleet.agents["s1"]
    wait_until(lambda: holder.store.asked == {FLOW.asked}, "s1 is asked")
    holder.flows = encode_flows(ReportedFlows(held=(FLOW,)))
    wait_until(lambda: fleet.metric("proved_total", server="s1") == 1.0, "it is a metric")
    wait_until(lambda: holder.store.asked == frozenset(), "s1 is not asked any more")
    assert fleet.metric("proved_total", server="s2") == 0.0
    with fleet.store.lead("the controller of this test"):
        found = overview(fleet.store, config, 0.2)
    servers = {server["name"]: server for server in found["servers"]}
    assert servers["s1"]["proved"] == [{"broken_by": "s2", "count": 1}]
    assert servers["s2"]["proved"] == []
    assert servers["s2"]["orphans"] == [
        {"pool": "web", "kind": "moved", "count": 2},
        {"pool": "web", "kind": "rest", "count": 1},
    ]
    print_servers(found)
    assert (
        "BROKEN: 1 connection of s1 answered with a reset by servers that do not have them, since "
        "the controller started (1 by s2)"
    ) in capsys.readouterr().out


def test_flows_that_are_not_believed_are_counted_and_the_report_is_used(fleet: Fleet) -> None:
    config = fleet.up(2)
    fleet.agents["s2"].flows = {"held": [["web", "0123456789abcdef"]]}
    wait_until(lambda: (fleet.metric("flows_refused_total", server="s2") or 0) > 0, "counted")
    fleet.agents["s2"].flows = {"held": 3}
    before = fleet.metric("flows_refused_total", server="s2") or 0.0
    wait_until(
        lambda: (fleet.metric("flows_refused_total", server="s2") or 0) > before, "counted, too"
    )
    assert fleet.states()["s2"] == "active"
    assert fleet.metric("flows_refused_total", server="s1") == 0.0
    servers = {s["name"]: s["orphans"] for s in overview(fleet.store, config, 0.2)["servers"]}
    assert servers == {"s1": [], "s2": []}
