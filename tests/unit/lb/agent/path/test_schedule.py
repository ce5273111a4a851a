"""Probes in time: lost after three in a row, unknown if never answered, nothing by a forger."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Collection
from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from lb.agent.path.packet import SMALL_BYTES, EchoReply, Probe, TooBig
from lb.agent.path.peer import LOST_AFTER, Reach
from lb.agent.path.schedule import TIMEOUT_SECONDS, Fleet, Schedule, inner_bytes

OWN = IPv4Address("10.0.0.1")
ROUND_SECONDS = 0.05


def fleet(peers: int, link_mtu: int = 1500) -> Fleet:
    names = {f"s{n}": OWN + n - 1 for n in range(2, peers + 2)}
    return Fleet(OWN, names, link_mtu)


class World:
    """A schedule, a clock, and peers of which some do not answer."""

    def __init__(self, of: Fleet) -> None:
        self.schedule = Schedule(of)
        self.fleet = of
        self.now = 1000.0
        self.sent: list[tuple[float, str, int]] = []
        self._tokens = itertools.count()

    def make(self, target: IPv4Address, size: int) -> Probe:
        token = next(self._tokens).to_bytes(16, "big")
        return Probe(OWN, target, 1, 1, token, size)

    def run(self, seconds: float, silent: Collection[str] = (), *, delay_rounds: int = 1) -> None:
        """Let time pass; probes of those that are not silent are answered a bit later."""
        replies: list[tuple[float, EchoReply]] = []
        end = self.now + seconds
        while self.now < end:
            for due, reply in list(replies):
                if due <= self.now:
                    self.schedule.hear(reply, self.now)
                    replies.remove((due, reply))
            for probe in self.schedule.round(self.now, self.make):
                name = self.schedule.name_of(probe)
                self.sent.append((self.now, name, probe.size))
                if name not in silent:
                    due = self.now + delay_rounds * ROUND_SECONDS
                    replies.append((due, answer(probe)))
            self.now = round(self.now + ROUND_SECONDS, 3)

    def reach(self, name: str) -> Reach:
        return self.schedule.paths[name].reach


def answer(probe: Probe) -> EchoReply:
    return EchoReply(probe.target, 1, probe.token, inner_bytes(probe.size))


@pytest.mark.parametrize("peers", [1, 2, 3, 9, 40])
def test_who_answers_is_reached_and_nothing_is_lost(peers: int) -> None:
    world = World(fleet(peers))
    world.run(2 * peers / 8 + 2)
    assert {world.reach(name) for name in world.fleet.peers} == {Reach.REACHED}
    assert sum(path.losses for path in world.schedule.paths.values()) == 0


def test_eight_a_second_evenly() -> None:
    world = World(fleet(40))
    world.run(10.0)
    assert 70 <= len(world.sent) <= 82
    counts = Counter(name for _, name, _ in world.sent)
    assert max(counts.values()) - min(counts[name] for name in world.fleet.peers) <= 1


@pytest.mark.parametrize("peers", [1, 3, 9])
def test_a_peer_is_lost_within_two_and_a_half_seconds_of_its_last_answer(peers: int) -> None:
    world = World(fleet(peers))
    world.run(5.0)
    world.run(2.6, silent=["s2"])
    assert world.reach("s2") is Reach.LOST
    assert all(world.reach(n) is Reach.REACHED for n in world.fleet.peers if n != "s2")


def test_in_a_large_fleet_a_doubtful_peer_is_probed_again_at_once() -> None:
    world = World(fleet(299))
    world.run(80.0)
    world.run(2.6, silent=world.fleet.peers)
    lost = [name for name in world.fleet.peers if world.reach(name) is Reach.LOST]
    assert len(lost) >= 6
    world.run(1.0, silent=world.fleet.peers)
    late = [at for at, _, _ in world.sent if at >= 1080.0]
    assert len(late) / 3.6 < 26, "at most three times as many probes"


def test_two_losses_in_a_row_are_not_a_loss_of_the_peer() -> None:
    world = World(fleet(1))
    world.run(3.0)
    path = world.schedule.paths["s2"]
    for _ in range(10):
        for _ in range(LOST_AFTER - 1):
            path.missed(SMALL_BYTES)
        assert path.reach is Reach.REACHED
        path.answered(SMALL_BYTES, world.now)


def test_who_never_answered_is_unknown_and_not_lost() -> None:
    world = World(fleet(3))
    world.run(10.0, silent=["s2"])
    assert world.reach("s2") is Reach.UNKNOWN
    world.run(3.0)
    assert world.reach("s2") is Reach.REACHED


def test_a_lost_peer_that_answers_is_reached_within_seconds() -> None:
    world = World(fleet(299))
    world.run(80.0)
    world.run(80.0, silent=["s2"])
    assert world.reach("s2") is Reach.LOST
    world.run(2.5)
    assert world.reach("s2") is Reach.REACHED


def test_a_late_answer_still_shows_that_the_peer_is_reached() -> None:
    world = World(fleet(1))
    world.run(3.0)
    world.run(6.0, delay_rounds=int(2 * TIMEOUT_SECONDS / ROUND_SECONDS))
    assert world.reach("s2") is Reach.REACHED
    assert world.schedule.paths["s2"].losses > 0


@pytest.mark.parametrize("lie", ["token", "source", "length", "no-token"])
def test_an_answer_counts_only_with_its_own_token_source_and_length(lie: str) -> None:
    world = World(fleet(2))
    sent: list[Probe] = []
    for _ in range(200):
        probes = list(world.schedule.round(world.now, world.make))
        sent += probes
        for probe in probes:
            true = answer(probe)
            forged = {
                "token": replace(true, token=bytes(16)[:-1] + b"\xff"),
                "source": replace(true, source=IPv4Address("10.0.0.9")),
                "length": replace(true, length=true.length - 1),
                "no-token": replace(true, token=b""),
            }[lie]
            world.schedule.hear(forged, world.now)
        world.now += ROUND_SECONDS
    assert len(sent) > 20
    assert {world.reach(name) for name in world.fleet.peers} == {Reach.UNKNOWN}


def test_one_peer_cannot_answer_for_another() -> None:
    world = World(fleet(2))
    for _ in range(200):
        for probe in world.schedule.round(world.now, world.make):
            other = OWN + 1 if probe.target == OWN + 2 else OWN + 2
            world.schedule.hear(replace(answer(probe), source=other), world.now)
        world.now += ROUND_SECONDS
    assert {world.reach(name) for name in world.fleet.peers} == {Reach.UNKNOWN}


def test_probes_that_cannot_be_sent_show_nothing() -> None:
    world = World(fleet(1))
    world.run(2.0)
    for _ in range(200):
        for probe in world.schedule.round(world.now, world.make):
            world.schedule.unsent(probe)
        world.now += ROUND_SECONDS
    assert world.reach("s2") is Reach.REACHED
    assert world.schedule.paths["s2"].losses == 0


def test_a_process_that_did_not_run_blames_nobody() -> None:
    """Its answers wait in the socket; it must not judge before it has read them."""
    world = World(fleet(1))
    world.run(2.0)
    for _ in range(10):
        world.now += 3.0
        probes = list(world.schedule.round(world.now, world.make))
        assert probes
        world.now += 3.0
        list(world.schedule.round(world.now, world.make))
        for probe in probes:
            world.schedule.hear(answer(probe), world.now)
        assert world.schedule.paths["s2"].losses == 0
    assert world.reach("s2") is Reach.REACHED


def test_an_error_about_a_stranger_is_ignored() -> None:
    world = World(fleet(1))
    world.schedule.hear(TooBig(IPv4Address("192.0.2.1"), 1400), world.now)
    world.schedule.hear(TooBig(OWN + 1, 1400), world.now)
    world.run(5.0)
    assert world.schedule.paths["s2"].mtu.known is None


def test_what_is_known_of_a_peer_stays_unless_its_address_changes() -> None:
    world = World(fleet(3))
    world.run(5.0)
    world.schedule.follow(fleet(2))
    assert set(world.schedule.paths) == {"s2", "s3"}
    assert world.reach("s2") is Reach.REACHED
    moved = replace(fleet(2), peers={"s2": OWN + 7, "s3": OWN + 2})
    world.schedule.follow(moved)
    assert world.reach("s2") is Reach.NEW
    assert world.reach("s3") is Reach.REACHED
    world.schedule.follow(replace(moved, peers={}))
    assert list(world.schedule.round(world.now, world.make)) == []
    assert world.schedule.next_at() is None
