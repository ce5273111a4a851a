"""The MTU of a path: found by probes, never by an error alone, and forgotten after 30 s."""

from __future__ import annotations

import pytest

from controlplane.domain.overhead import LEAST_MTU
from lb.agent.path.packet import SMALL_BYTES
from lb.agent.path.path_mtu import FAILURES, RISE_SECONDS, PathMtu
from lb.agent.path.peer import PeerPath, Reach


def probe(path: PathMtu, carries: int, count: int = 1, now: float = 0.0) -> list[int]:
    """Send full-size probes over a path that carries so many bytes; return their sizes."""
    sizes = []
    for _ in range(count):
        size = path.next_size()
        sizes.append(size)
        if size <= carries:
            path.passed(size, now)
        else:
            path.failed(size, small_passes=True)
    return sizes


def state(path: PathMtu) -> tuple[int | None, bool]:
    return path.known, path.stuck


@pytest.mark.parametrize(
    ("link", "carries", "found"),
    [
        (1600, 1500, 1500),
        (1548, 1500, 1500),
        (1600, 1599, 1550),
        (1500, 1450, 1450),
        (9000, 1500, 1500),
        (9000, 8950, 8950),
        (1500, LEAST_MTU, LEAST_MTU),
    ],
)
def test_the_largest_usual_mtu_that_passes_is_found(link: int, carries: int, found: int) -> None:
    path = PathMtu(link)
    sizes = probe(path, carries, FAILURES + 14)
    assert path.known == found
    assert not path.searching
    assert not path.stuck
    assert max(sizes) <= link
    assert min(sizes) >= LEAST_MTU


def test_a_few_lost_probes_begin_no_search() -> None:
    path = PathMtu(1600)
    for _ in range(5):
        probe(path, 1500, FAILURES - 1)
        probe(path, 1600)
    assert path.known is None
    assert not path.searching


def test_without_small_probes_passing_it_is_a_loss_and_not_an_mtu() -> None:
    path = PathMtu(1600)
    for _ in range(20):
        path.failed(path.next_size(), small_passes=False)
    assert path.known is None
    assert not path.searching


def test_an_icmp_error_alone_changes_nothing() -> None:
    path = PathMtu(1600)
    path.hint(1400)
    assert probe(path, 1600, 10) == [1600] * 10
    assert path.known is None


def test_the_mtu_of_an_error_is_found_if_it_is_true() -> None:
    path = PathMtu(1600)
    path.hint(1523)
    probe(path, 1523, 20)
    assert path.known == 1523


@pytest.mark.parametrize("forged", [0, 68, LEAST_MTU - 1, 1600, 65535])
def test_an_error_with_an_impossible_mtu_is_ignored(forged: int) -> None:
    path = PathMtu(1600)
    path.hint(forged)
    sizes = probe(path, 1500, 20)
    assert path.known == 1500
    assert forged not in sizes or forged == 1600


def test_it_rises_when_full_size_probes_have_passed_for_30_s() -> None:
    path = PathMtu(1600)
    probe(path, 1500, 20)
    probe(path, 1600, 2, now=100.0)
    probe(path, 1600, 2, now=100.0 + RISE_SECONDS - 0.1)
    assert path.known == 1500
    probe(path, 1600, 2, now=100.0 + RISE_SECONDS)
    assert path.known is None


def test_one_failure_on_the_way_begins_the_30_s_anew() -> None:
    path = PathMtu(1600)
    probe(path, 1500, 20)
    probe(path, 1600, 2, now=100.0)
    probe(path, 1500, 2, now=110.0)
    probe(path, 1600, 2, now=120.0)
    probe(path, 1600, 2, now=120.0 + RISE_SECONDS - 0.1)
    assert path.known == 1500
    probe(path, 1600, 2, now=120.0 + RISE_SECONDS)
    assert path.known is None


def test_it_falls_further() -> None:
    path = PathMtu(1600)
    probe(path, 1500, 20)
    probe(path, 1400, 30)
    assert path.known == 1400


def test_below_the_least_it_is_stuck_and_not_lowered() -> None:
    path = PathMtu(1600)
    probe(path, LEAST_MTU - 1, 30)
    assert state(path) == (None, True)
    probe(path, 1500, 30)
    assert state(path) == (1500, False)
    probe(path, LEAST_MTU - 1, 40)
    assert state(path) == (None, True)
    probe(path, 1600, 2)
    assert state(path) == (None, False)


def test_a_full_size_probe_that_is_expected_to_fail_is_not_a_loss() -> None:
    peer = PeerPath(1600)
    for _ in range(60):
        size = peer.next_size()
        if size <= 1500:
            peer.answered(size, 0.0)
        else:
            peer.missed(size)
    assert peer.mtu.known == 1500
    assert peer.losses == FAILURES
    assert peer.reach is Reach.REACHED


def test_a_path_that_loses_everything_keeps_the_mtu_it_had() -> None:
    peer = PeerPath(1600)
    for _ in range(60):
        size = peer.next_size()
        (peer.answered(size, 0.0) if size <= 1500 else peer.missed(size))
    for _ in range(20):
        peer.missed(peer.next_size())
    assert peer.reach is Reach.LOST
    assert peer.mtu.known == 1500


def test_small_and_full_size_probes_alternate() -> None:
    peer = PeerPath(1600)
    sizes = []
    for _ in range(6):
        sizes.append(peer.next_size())
        peer.answered(sizes[-1], 0.0)
    assert sizes == [SMALL_BYTES, 1600] * 3


def test_another_mtu_of_the_interface_is_searched_anew() -> None:
    peer = PeerPath(1600)
    peer.answered(SMALL_BYTES, 0.0)
    probe(peer.mtu, 1500, 20)
    peer.follow_link(1600)
    assert state(peer.mtu) == (1500, False)
    peer.follow_link(1500)
    assert state(peer.mtu) == (None, False)
    assert peer.reach is Reach.REACHED
