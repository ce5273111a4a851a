"""Documents get into the data plane whole, in a safe order, or not at all."""

from __future__ import annotations

import numpy as np
import pytest

from controlplane.documents.fields import DocumentError
from controlplane.domain.objects import Pool, ServerState
from lb.agent.documents.in_use import DocumentsInUse
from lb.led_here import Left, Steering
from tests.unit.lb.agent.fakes import (
    KEYS,
    OTHER,
    VIP,
    FakeDataplane,
    FakeVips,
    a_cluster,
    a_table,
    dip,
    encoded,
)


@pytest.fixture
def log() -> list[str]:
    return []


@pytest.fixture
def dataplane(log: list[str]) -> FakeDataplane:
    return FakeDataplane(log)


@pytest.fixture
def in_use(dataplane: FakeDataplane, log: list[str]) -> DocumentsInUse:
    return DocumentsInUse(dataplane, FakeVips(log), clock=lambda: 100.0)


def test_a_new_vip_goes_up_after_the_forwarder_knows_its_service(
    in_use: DocumentsInUse, log: list[str]
) -> None:
    in_use.take_cluster(encoded(a_cluster(1)))
    assert log == [f"shrink {VIP}", "set_cluster 1,2", f"extend {VIP}"]


def test_a_vip_that_goes_comes_down_before_the_forwarder_forgets_it(
    in_use: DocumentsInUse, log: list[str]
) -> None:
    in_use.take_cluster(encoded(a_cluster(1, vips=(VIP, OTHER))))
    log.clear()
    in_use.take_cluster(encoded(a_cluster(2, vips=(VIP,))))
    assert log == [f"shrink {VIP}", "set_cluster 1,2", f"extend {VIP}"]


def test_what_is_in_use_is_what_was_taken(in_use: DocumentsInUse) -> None:
    assert in_use.generations() == {}
    in_use.take_cluster(encoded(a_cluster(3)))
    assert in_use.take_table("web", encoded(a_table(7, [1, 2], 3)), KEYS)
    assert in_use.generations() == {"cluster": 3, "table/web": 7}
    assert in_use.since == {"cluster": 100.0, "table/web": 100.0}
    assert in_use.taken_at.keys() == in_use.since.keys()


def test_a_table_of_an_unseen_cluster_generation_waits_for_it(
    in_use: DocumentsInUse, dataplane: FakeDataplane
) -> None:
    in_use.take_cluster(encoded(a_cluster(1)))
    assert not in_use.take_table("web", encoded(a_table(1, [2, 0], 2)), KEYS)
    assert in_use.waiting == {"web"}
    assert dataplane.tables == {}
    in_use.take_cluster(encoded(a_cluster(2)))
    assert in_use.take_waiting("web", KEYS)
    assert dataplane.tables == {"web": (2, 0)}
    assert in_use.waiting == frozenset()


def test_a_removed_dip_stays_while_a_loaded_table_names_it(
    in_use: DocumentsInUse, dataplane: FakeDataplane
) -> None:
    in_use.take_cluster(encoded(a_cluster(1, indices=(1, 2, 3))))
    in_use.take_table("web", encoded(a_table(1, [1, 3])), KEYS)
    in_use.take_cluster(encoded(a_cluster(2, indices=(1, 2))))
    assert sorted(dataplane.view.dips) == [1, 2, 3]
    in_use.take_table("web", encoded(a_table(2, [1, 2], 2)), KEYS)
    assert sorted(dataplane.view.dips) == [1, 2]


def test_an_index_given_to_another_server_is_that_servers(
    in_use: DocumentsInUse, dataplane: FakeDataplane
) -> None:
    in_use.take_cluster(encoded(a_cluster(1, indices=(1, 2))))
    in_use.take_table("web", encoded(a_table(1, [1, 2])), KEYS)
    moved = a_cluster(2, indices=(1,))
    server = moved.servers[0].__class__("s9", dip(2), 3, ServerState.ACTIVE)
    in_use.take_cluster(
        encoded(moved.__class__(2, (*moved.servers, server), moved.services, moved.pools))
    )
    assert dict(dataplane.view.dips) == {1: dip(1), 3: dip(2)}


@pytest.mark.parametrize("generation", [1, 2])
def test_a_stale_cluster_is_refused(
    in_use: DocumentsInUse, dataplane: FakeDataplane, log: list[str], generation: int
) -> None:
    in_use.take_cluster(encoded(a_cluster(2)))
    log.clear()
    with pytest.raises(DocumentError) as caught:
        in_use.take_cluster(encoded(a_cluster(generation, indices=(1,))))
    assert caught.value.reason == "stale_generation"
    assert log == []
    assert sorted(dataplane.view.dips) == [1, 2]


def test_a_stale_table_is_refused_and_the_old_one_stays(
    in_use: DocumentsInUse, dataplane: FakeDataplane
) -> None:
    in_use.take_cluster(encoded(a_cluster(1)))
    in_use.take_table("web", encoded(a_table(5, [1, 0])), KEYS)
    with pytest.raises(DocumentError) as caught:
        in_use.take_table("web", encoded(a_table(5, [2, 0])), KEYS)
    assert caught.value.reason == "stale_generation"
    assert dataplane.tables == {"web": (1, 0)}


def test_a_pool_keeps_its_key_and_buckets_for_life(in_use: DocumentsInUse) -> None:
    in_use.take_cluster(encoded(a_cluster(1)))
    with pytest.raises(DocumentError) as caught:
        in_use.take_cluster(encoded(a_cluster(2, key_id="other-key")))
    assert caught.value.reason == "pool_changed"
    changed = a_cluster(2)
    pools = (Pool("web", 512, 2, key_id="web-key"),)
    with pytest.raises(DocumentError) as caught:
        in_use.take_cluster(encoded(changed.__class__(2, changed.servers, changed.services, pools)))
    assert caught.value.reason == "pool_changed"


def test_a_table_without_its_key_is_refused(in_use: DocumentsInUse) -> None:
    in_use.take_cluster(encoded(a_cluster(1)))
    with pytest.raises(DocumentError) as caught:
        in_use.take_table("web", encoded(a_table(1, [1, 0])), {})
    assert caught.value.reason == "no_key"
    assert in_use.generations() == {"cluster": 1}


def test_a_table_under_another_pools_name_is_refused(in_use: DocumentsInUse) -> None:
    in_use.take_cluster(encoded(a_cluster(1, pools=("web", "dns"))))
    with pytest.raises(DocumentError) as caught:
        in_use.take_table("web", encoded(a_table(1, [1, 0], pool="dns")), KEYS)
    assert caught.value.reason == "wrong_pool"


def test_a_removed_pools_table_goes_after_its_services(
    in_use: DocumentsInUse, log: list[str]
) -> None:
    in_use.take_cluster(encoded(a_cluster(1, pools=("web", "dns"))))
    in_use.take_table("dns", encoded(a_table(1, [1, 0], pool="dns")), KEYS)
    log.clear()
    in_use.take_cluster(encoded(a_cluster(2, pools=("web",))))
    assert log.index("set_cluster 1,2") < log.index("remove_table dns")
    assert in_use.generations() == {"cluster": 2}
    assert set(in_use.documents) == {"cluster"}


def test_what_the_data_plane_cannot_hold_is_refused_and_no_vip_goes(
    in_use: DocumentsInUse, dataplane: FakeDataplane, log: list[str]
) -> None:
    in_use.take_cluster(encoded(a_cluster(1, vips=(VIP, OTHER))))
    dataplane.fail_on = "set_cluster"
    log.clear()
    with pytest.raises(DocumentError) as caught:
        in_use.take_cluster(encoded(a_cluster(2, vips=(VIP,))))
    assert caught.value.reason == "data_plane"
    assert log == []
    assert in_use.generations() == {"cluster": 1}
    dataplane.fail_on = ""
    in_use.take_cluster(encoded(a_cluster(3, vips=(VIP,))))
    assert log == [f"shrink {VIP}", "set_cluster 1,2", f"extend {VIP}"]


def test_vips_follow_even_if_the_data_plane_has_the_view_already(
    in_use: DocumentsInUse, log: list[str]
) -> None:
    in_use.take_cluster(encoded(a_cluster(1)))
    log.clear()
    in_use.take_cluster(encoded(a_cluster(2)))
    assert log == [f"shrink {VIP}", f"extend {VIP}"]


def steering(in_use: DocumentsInUse) -> Steering:
    assert in_use.steering is not None
    return in_use.steering


def test_connections_are_steered_by_what_is_in_use(dataplane: FakeDataplane) -> None:
    in_use = DocumentsInUse(dataplane, FakeVips([]), server="s1")
    in_use.take_cluster(encoded(a_cluster(3)))
    first = steering(in_use)
    assert (first.cluster_generation, first.dip, first.pools) == (3, dip(1), {})
    in_use.take_table("web", encoded(a_table(1, [2, 1], 3)), KEYS)
    second = steering(in_use)
    assert second.pools["web"].leads.all()
    assert second.pools["web"].key == KEYS["web-key"]
    in_use.take_table("web", encoded(a_table(2, [2, 0], 3)), KEYS)
    third = steering(in_use)
    assert third.pools["web"].led_before.all()
    assert not third.pools["web"].leads.any()
    assert set(third.pools["web"].left.tolist()) == {Left.FORGOTTEN}
    assert second.pools["web"].leads.all(), "what a dump in progress has does not change"
    in_use.take_cluster(encoded(a_cluster(4, pools=("other",))))
    assert steering(in_use).pools == {}


def test_a_pool_that_comes_back_begins_anew(dataplane: FakeDataplane) -> None:
    in_use = DocumentsInUse(dataplane, FakeVips([]), server="s1")
    in_use.take_cluster(encoded(a_cluster(1)))
    in_use.take_table("web", encoded(a_table(1, [1, 2])), KEYS)
    in_use.take_cluster(encoded(a_cluster(2, pools=("other",))))
    in_use.take_cluster(encoded(a_cluster(3)))
    in_use.take_table("web", encoded(a_table(2, [2, 0])), KEYS)
    assert set(steering(in_use).pools["web"].left.tolist()) == {Left.NEVER}


def test_what_a_death_took_out_of_chains_is_known(dataplane: FakeDataplane) -> None:
    in_use = DocumentsInUse(dataplane, FakeVips([]), server="s1")
    in_use.take_cluster(encoded(a_cluster(1)))
    in_use.take_table("web", encoded(a_table(1, [2, 1])), KEYS)
    in_use.take_cluster(encoded(a_cluster(2, states={2: ServerState.DOWN})))
    in_use.take_table("web", encoded(a_table(2, [1, 0], 2)), KEYS)
    died_at = steering(in_use).pools["web"].died_at
    assert np.isfinite(died_at).all()
    in_use.take_table("web", encoded(a_table(3, [1, 0], 2)), KEYS)
    assert (steering(in_use).pools["web"].died_at == died_at).all()
