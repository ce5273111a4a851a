"""What an operator, a controller and the data plane learn from the probes."""

from __future__ import annotations

from ipaddress import IPv4Address

from controlplane.domain.objects import PathReport
from controlplane.domain.overhead import LEAST_MTU
from lb.agent.facts import PathFacts
from lb.agent.path.findings import (
    NAMED,
    Link,
    Peers,
    mtu_in_use,
    named,
    path_facts,
    path_report,
    troubles,
    unsent,
)
from lb.agent.path.packet import SMALL_BYTES
from lb.agent.path.peer import LOST_AFTER, PeerPath

OWN = IPv4Address("10.0.0.1")


def new() -> PeerPath:
    return PeerPath(1600)


def reached(mtu: int | None = None, *, stuck: bool = False) -> PeerPath:
    path = new()
    path.answered(SMALL_BYTES, 0.0)
    path.mtu.known, path.mtu.stuck = mtu, stuck
    return path


def silent(path: PeerPath) -> PeerPath:
    for _ in range(LOST_AFTER):
        path.missed(SMALL_BYTES)
    return path


PATHS = {"s4": silent(new()), "s3": silent(reached()), "s2": reached(), "s5": new()}


def lines(
    paths: dict[str, PeerPath], peers: Peers | None = None, least: int = LEAST_MTU
) -> dict[str, str]:
    found = troubles(paths, peers or Peers(frozenset(paths)), Link(OWN, 1600, least))
    return {topic: line for topic, line in found.items() if line is not None}


def test_the_report_names_who_is_lost_and_who_never_answered() -> None:
    assert path_report(PATHS) == PathReport(3, ("s3",), ("s4",))


def test_each_pair_is_a_metric() -> None:
    assert path_facts({**PATHS, "s6": reached(1500)}) == {
        "s2": PathFacts(0, 0, reachable=True),
        "s3": PathFacts(0, LOST_AFTER, reachable=False),
        "s4": PathFacts(0, LOST_AFTER, reachable=None),
        "s5": PathFacts(0, 0, reachable=None),
        "s6": PathFacts(0, 0, reachable=True, mtu=1500),
    }


def test_troubles_name_peers_and_remedies() -> None:
    found = lines(PATHS)
    assert set(found) == {"paths", "paths_unknown"}
    assert "to s3 are lost" in found["paths"]
    assert "UDP port 6080" in found["paths"]
    assert "to s4 cannot be tested" in found["paths_unknown"]
    assert "allow ICMP echo" in found["paths_unknown"]


def test_a_server_that_is_down_or_never_ran_is_no_trouble_of_the_others() -> None:
    down = Peers(frozenset({"s2", "s5"}), down=frozenset({"s3", "s4"}))
    assert lines(PATHS, down) == {}
    registered = Peers(frozenset({"s2", "s5"}))
    assert set(lines(PATHS, registered)) == {"paths"}, "it withdraws, because it is lost"


def test_the_narrowest_path_to_a_server_in_use_counts() -> None:
    paths = {"s2": reached(1500), "s3": reached(1400), "s4": reached()}
    assert mtu_in_use(paths, Peers(frozenset(paths))) == 1400
    assert mtu_in_use(paths, Peers(frozenset({"s2", "s4"}))) == 1500
    assert mtu_in_use(paths, Peers(frozenset({"s4"}), frozenset({"s3"}))) is None
    found = lines(paths)
    assert set(found) == {"path_mtu"}
    assert "do not reach s2, s3" in found["path_mtu"]
    assert "MTU of 1400" in found["path_mtu"]


def test_one_server_does_not_lower_the_mtu_for_all_below_what_is_configured() -> None:
    """The programs have one MTU and a VIP one MSS: that server loses larger packets instead."""
    paths = {"s2": reached(1500), "s3": reached(1400), "s4": reached()}
    peers = Peers(frozenset(paths))
    assert mtu_in_use(paths, peers, 1400) == 1400
    assert mtu_in_use(paths, peers, 1450) == 1500
    assert mtu_in_use(paths, peers, 1548) is None
    found = lines(paths, least=1450)
    assert (
        "do not reach s2: this server encapsulates packets for an MTU of 1500" in found["path_mtu"]
    )
    assert found["path_mtu_least"].startswith(
        "packets of 1450 bytes (least_path_mtu) do not reach s3: those above 1400 bytes are lost"
    )
    assert set(lines(paths, least=1548)) == {"path_mtu_least"}
    assert set(lines(paths, least=1400)) == {"path_mtu"}


def test_a_path_that_carries_less_than_allowed_is_named_and_lowers_nothing() -> None:
    paths = {"s2": reached(stuck=True)}
    assert mtu_in_use(paths, Peers(frozenset(paths))) is None
    assert str(LEAST_MTU) in lines(paths)["path_mtu"]


def test_many_names_are_counted() -> None:
    names = [f"s{n}" for n in range(10, 10 + NAMED + 3)]
    assert named(names).endswith("s17 and 3 more")
    assert named(names[:NAMED]).endswith("s17")


def test_probes_that_this_machine_cannot_send() -> None:
    assert unsent({}) is None
    line = unsent({"s3": "no route", "s2": "not permitted"})
    assert line
    assert "s2, s3: not permitted" in line
