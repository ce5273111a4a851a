"""Who probes whom and when: each pair in n/8 s, and never all the same server at once."""

from __future__ import annotations

import pytest

from lb.agent.path.plan import MOST_A_SECOND, PROBES_A_SECOND, pair_seconds, peer_at, slots_a_second

SIZES = [2, 3, 4, 5, 8, 9, 10, 17, 64, 100, 300, 1000]


@pytest.mark.parametrize("servers", SIZES)
def test_each_peer_has_its_turn_once_in_a_rotation(servers: int) -> None:
    others = set(range(servers))
    for own in {0, 1, servers // 2, servers - 1}:
        turns = [peer_at(slot, own, servers) for slot in range(servers - 1)]
        assert set(turns) == others - {own}
        assert len(turns) == servers - 1
        assert peer_at(servers - 1, own, servers) == turns[0]


@pytest.mark.parametrize("servers", SIZES)
def test_in_a_slot_no_two_servers_probe_the_same_one(servers: int) -> None:
    for slot in (0, 1, servers - 2, 7 * servers + 3):
        targets = [peer_at(slot, own, servers) for own in range(servers)]
        assert sorted(targets) == list(range(servers))
        assert all(own != target for own, target in enumerate(targets))


def test_every_pair_is_probed_in_n_eighths_of_a_second() -> None:
    for servers in range(2, 1001):
        assert pair_seconds(servers) <= max(servers / PROBES_A_SECOND, 1 / MOST_A_SECOND)
        assert slots_a_second(servers) <= PROBES_A_SECOND


@pytest.mark.parametrize(("servers", "rate"), [(2, 4), (3, 8), (4, 8), (300, 8)])
def test_few_peers_are_not_flooded(servers: int, rate: int) -> None:
    assert slots_a_second(servers) == rate
    assert slots_a_second(servers) <= MOST_A_SECOND * (servers - 1)
