"""The real loop over a real store: who is taken for dead, who is not, and who comes back."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest

from controlplane.observe.probe.packet import Probe
from controlplane.operator.overview import overview
from lb.cli.servers import print_servers
from netns.polling import wait_until
from tests.unit.controlplane.conftest import Fleet
from tests.unit.controlplane.fleet import EVEN, dip


def test_a_dead_server_leaves_every_table_within_two_seconds(fleet: Fleet) -> None:
    """With default timing: agents that report every 50 ms instead of 250 leave 0.2 s of margin.

    Each part of the way is a wait of the process, so a machine that is busy with other tests can be
    late by more than that: one of three deaths has to be in time.
    """
    defaults = {
        "tick_seconds": 1.0,
        "silent_after_seconds": 1.0,
        "probe_interval_seconds": 0.17,
        "probe_count": 3,
    }
    fleet.up(4, **defaults)

    def gone() -> bool:
        others = (fleet.agents[name] for name in ("s1", "s2", "s4"))
        return all(not (agent.tables["web"].chains == 3).any() for agent in others)

    took: list[float] = []
    while not took or (min(took) >= 1.8 and len(took) < 3):
        if took:
            fleet.prober.dead.clear()
            fleet.agent("s3", boot_id=str(len(took)))
            wait_until(lambda: fleet.current() == EVEN, "s3 is back")
            wait_until(fleet.calm, "everything settled")
        fleet.prober.dead.add(dip(3))
        fleet.agents["s3"].end()
        took.append(wait_until(gone, "s3 in no chain in use"))
    assert min(took) < 1.8, took
    assert fleet.states()["s3"] == "down"
    assert "s3" not in fleet.named()
    assert sum(fleet.current().values()) == 256


def only(vip: str, protocol: str, port: int | str, **more: object) -> list[dict[str, object]]:
    service = {"name": "s", "vip": vip, "protocol": protocol, "port": port, "pool": "web", **more}
    return [service]


@pytest.mark.parametrize(
    ("service", "asked"),
    [
        (only("2001:db8::1", "tcp", 443), ("2001:db8::1", 443)),
        (only("192.0.2.0/24", "tcp", "any", check={"type": "tcp", "port": 81}), ("192.0.2.1", 81)),
        (only("2001:db8:1::/64", "tcp", "any"), ("2001:db8:1::1", 80)),
        (only("192.0.2.1", "udp", 53), ("192.0.2.1", 53)),
    ],
    ids=["IPv6", "any port", "any port of an IPv6 prefix", "UDP"],
)
def test_a_death_is_seen_whatever_the_fleet_serves(
    fleet: Fleet, service: list[dict[str, object]], asked: tuple[str, int]
) -> None:
    fleet.up(3, service=service)
    fleet.prober.dead.add(dip(3))
    fleet.agents["s3"].end()
    wait_until(lambda: fleet.states()["s3"] == "down", "down")
    assert fleet.prober.asked == {(ip_address(asked[0]), asked[1])}


@pytest.mark.parametrize(
    ("vip", "own"), [("2001:db8::1", None), ("2001:db8::/64", IPv6Address("2001:db8::9"))]
)
def test_a_pool_that_cannot_be_probed_is_told_and_nobody_dies(
    fleet: Fleet,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    vip: str,
    own: IPv6Address | None,
) -> None:
    """This machine has no IPv6 address, or one that servers take for a VIP."""
    fleet.prober.address6 = own
    monkeypatch.setattr("controlplane.observe.probe.sockets.source_towards", lambda _: own)
    fleet.up(3, service=only(vip, "tcp", 443))
    fleet.prober.dead.add(dip(3))
    fleet.agents["s3"].end()
    wait_until(lambda: fleet.rounds[-1].fleet.servers["s3"].silent, "silent")
    rounds = len(fleet.rounds)
    wait_until(lambda: len(fleet.rounds) > rounds + 15, "time for three probes")
    assert fleet.states()["s3"] == "active"
    output = capsys.readouterr().out
    assert output.count("cannot probe: no server of this pool will be declared down") == 1
    assert "no IPv6 address outside all VIPs for 2001:db8::1" in output
    found = overview(fleet.store, fleet.config(3, service=only(vip, "tcp", 443)), 0.0)
    assert found["pools"][0]["probe"] is None
    assert "no IPv6 address outside all VIPs for 2001:db8::1" in found["pools"][0]["unprobed"]
    print_servers({**found, "servers": found["servers"][:1]})
    assert "pool web cannot be probed, so its servers are never" in capsys.readouterr().out
    fleet.prober.address6 = IPv6Address("2001:db8:9::9")
    wait_until(lambda: fleet.states()["s3"] == "down", "down")


def test_servers_names_the_leader_or_that_there_is_none(
    fleet: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    config = fleet.up(2)
    found = overview(fleet.store, config, 0.0)
    assert found["leader"] is None, "the loop of this test takes no lead"
    print_servers(found)
    assert "NO CONTROLLER LEADS this store" in capsys.readouterr().out
    with fleet.store.lead("me"):
        found = overview(fleet.store, config, 0.0)
    assert "me" in found["leader"]
    print_servers(found)
    assert "NO CONTROLLER" not in capsys.readouterr().out


def test_a_death_does_not_wait_for_an_agent_that_never_acknowledges(fleet: Fleet) -> None:
    fleet.up(4)
    fleet.agents["s4"].acks = False
    fleet.store.request_drain("s1", requested=True)  # s4 holds this back
    wait_until(lambda: fleet.states()["s1"] == "draining", "noted")
    before = fleet.table()
    assert before
    fleet.prober.dead.add(dip(3))
    fleet.agents["s3"].end()
    wait_until(lambda: "s3" not in fleet.named(), "s3 is in no chain")
    after = fleet.table()
    assert after
    others = before.chains[:, 0] != 3
    assert (before.chains[others, 0] == after.chains[others, 0]).all(), (
        "a death moves no other bucket"
    )
    assert "s1" in fleet.current()


def test_a_silent_server_that_answers_probes_keeps_its_share(fleet: Fleet) -> None:
    fleet.up(4)
    generation = fleet.published.generations()
    fleet.agents["s2"].end()
    wait_until(lambda: len(fleet.prober.probed) > 10, "probes")
    fleet.published.refresh()
    assert fleet.published.generations() == generation
    assert fleet.states()["s2"] == "active"
    assert fleet.current() == EVEN
    assert fleet.metric("server_silent", server="s2") == 1
    assert fleet.metric("server_probes_failed", server="s2") == 0
    assert fleet.metric("share", pool="web", server="s2") == 1


def test_a_server_that_comes_back_joins_anew(fleet: Fleet) -> None:
    fleet.up(4)
    fleet.prober.dead.add(dip(2))
    fleet.agents["s2"].end()
    wait_until(lambda: fleet.states()["s2"] == "down", "down")
    fleet.prober.dead.clear()
    fleet.agent("s2", boot_id="2")
    seen = set()

    def back() -> bool:
        seen.add(fleet.states()["s2"])
        return fleet.current() == EVEN and fleet.states()["s2"] == "active"

    wait_until(back, "even again")
    assert {"joining", "active"} <= seen


def test_a_server_that_stopped_is_taken_out_at_once(fleet: Fleet) -> None:
    fleet.up(4)
    fleet.agents["s2"].end(stopped=True)
    wait_until(lambda: "s2" not in fleet.named(), "s2 is in no chain")
    assert fleet.states()["s2"] == "down"
    assert fleet.prober.probed == []


def test_too_many_deaths_at_once_are_not_believed(fleet: Fleet) -> None:
    fleet.up(4)
    for name in ("s1", "s2", "s3"):
        fleet.agents[name].reports = False

    def all_silent() -> bool:
        servers = fleet.rounds[-1].fleet.servers
        return all(servers[name].silent for name in ("s1", "s2", "s3"))

    # Only their probes fail at once: one whole death may fit between two lines of a slow test.
    wait_until(all_silent, "three silent")
    fleet.prober.dead.update(map(dip, (1, 2, 3)))
    wait_until(lambda: len(fleet.rounds[-1].deaths.withheld) == 3, "three withheld")
    assert fleet.metric("deaths_withheld") == 3
    assert fleet.current() == EVEN
    assert set(fleet.states().values()) == {"active"}
    fleet.prober.dead.clear()
    for number in (1, 2, 3):
        fleet.agents[f"s{number}"].reports = True
    wait_until(lambda: not fleet.rounds[-1].deaths.withheld, "over")


@pytest.mark.parametrize("changed", ["vip", "prober"])
def test_a_silent_server_is_asked_only_what_it_can_answer(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, changed: str
) -> None:
    """Settings change while an agent is away: it knows no new VIP and no new prober."""
    fleet.up(4)
    loop = fleet.loop
    assert loop
    vip, address, send = IPv4Address("192.0.2.1"), fleet.prober.address, fleet.prober.send

    def refusing(to: IPv4Address, asked: IPv4Address, port: int) -> Probe:
        if to == dip(2) and (asked, fleet.prober.address) != (vip, address):
            fleet.prober.dead.add(to)
        probe = send(to, asked, port)
        fleet.prober.dead.clear()
        return probe

    monkeypatch.setattr(fleet.prober, "send", refusing)
    fleet.agents["s2"].reports = False
    if changed == "vip":
        new = {"name": "a", "vip": "192.0.2.9", "protocol": "tcp", "port": 81, "pool": "web"}
        loop.configure(fleet.config(4, service=[new]), fleet.prober)
    else:
        fleet.prober.address = IPv4Address("10.0.0.8")
        loop.configure(fleet.config(4, probers=["10.0.0.8"]), fleet.prober)
    wait_until(lambda: fleet.rounds[-1].fleet.servers["s2"].silent, "silent")
    rounds = len(fleet.rounds)
    wait_until(lambda: len(fleet.rounds) > rounds + 15, "time for three probes")
    assert fleet.states()["s2"] == "active"
    fleet.agents["s2"].reports = True
    wait_until(fleet.calm, "s2 has the new settings too")
    fleet.prober.dead.add(dip(2))
    monkeypatch.setattr(fleet.prober, "send", send)
    fleet.agents["s2"].end()
    wait_until(lambda: fleet.states()["s2"] == "down", "a death is still seen")
