"""The next cluster document: what may change when."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from controlplane.decide.next_cluster import (
    ClusterNews,
    free_index,
    newcomers_welcome,
    next_cluster,
)
from controlplane.decide.server_state import ServerView
from controlplane.decide.settlement import Settlement
from controlplane.domain.bounds import MAX_SERVERS
from controlplane.domain.errors import BrigadeError
from controlplane.domain.objects import CLUSTER, Cluster, Pool, Server, ServerState
from controlplane.settings.models import ControlConfig

REGISTERED, JOINING, ACTIVE, DRAINING, DOWN = ServerState
ALIVE = ServerView("", known=True, heard=True)
NEVER = ServerView("")
REMOVED = replace(ALIVE, configured=False)
SETTLED = Settlement(CLUSTER, 1)
WAITING = Settlement(CLUSTER, 1, waiting_for=("a",))
PASSABLE = Settlement(CLUSTER, 1, waiting_for=("a",), silent=("a",))


def config(*names: str, pools: tuple[str, ...] = ("web",)) -> ControlConfig:
    return ControlConfig.model_validate(
        {
            "probers": ["10.0.0.9"],
            "server": [{"name": name, "dip": f"10.1.0.{i}"} for i, name in enumerate(names, 1)],
            "pool": [{"name": pool} for pool in pools],
        }
    )


def first(settings: ControlConfig) -> Cluster:
    keys = {pool.name: f"key-{pool.name}" for pool in settings.pool}
    found = next_cluster(settings, None, {}, None, ClusterNews(), keys)
    assert found
    return found


def at(cluster: Cluster, **states: ServerState) -> Cluster:
    return replace(
        cluster,
        servers=tuple(replace(s, state=states.get(s.name, s.state)) for s in cluster.servers),
    )


def states(cluster: Cluster | None) -> dict[str, str]:
    assert cluster
    return {server.name: server.state.value for server in cluster.servers}


def test_the_first_document_registers_everybody() -> None:
    cluster = first(config("a", "b"))
    assert cluster.generation == 1
    assert states(cluster) == {"a": "registered", "b": "registered"}
    assert [server.index for server in cluster.servers] == [1, 2]
    assert cluster.pools[0].key_id == "key-web"
    assert cluster.probers == {IPv4Address("10.0.0.9")}


def test_a_pool_is_published_as_the_settings_have_it() -> None:
    pool = {"name": "web", "buckets": 1024, "depth": 3, "hash_mode": "client"}
    settings = config("a").model_dump() | {"pool": [pool]}
    (published,) = first(ControlConfig.model_validate(settings)).pools
    assert published == Pool("web", 1024, 3, "client", "key-web")


def test_a_pool_without_a_depth_gets_the_default_when_it_is_made_and_keeps_what_it_has() -> None:
    settings = config("a", "b", pools=("web", "new"))
    assert {pool.depth for pool in first(settings).pools} == {4}
    old = Pool("web", depth=2, key_id="old")
    before = replace(at(first(config("a")), a=ACTIVE), pools=(old,))
    following = next_cluster(settings, before, {"a": ALIVE}, SETTLED, ClusterNews(), {"new": "k"})
    assert following
    assert following.pools == (old, Pool("new", depth=4, key_id="k"))


@pytest.mark.parametrize("settlement", [SETTLED, PASSABLE])
def test_steps_follow_when_settled(settlement: Settlement) -> None:
    settings = config("a", "b")
    following = next_cluster(
        settings, first(settings), {"a": ALIVE, "b": NEVER}, settlement, ClusterNews(), {}
    )
    assert states(following) == {"a": "joining", "b": "registered"}
    assert following
    assert following.generation == 2


def test_nothing_new_is_nothing_published() -> None:
    settings = config("a")
    cluster = at(first(settings), a=ACTIVE)
    assert next_cluster(settings, cluster, {"a": ALIVE}, SETTLED, ClusterNews(), {}) is None


def test_only_a_death_is_published_before_the_last_one_settled() -> None:
    settings = config("a", "b", "c", pools=("web", "new"))
    before = at(first(config("a", "b")), a=ACTIVE, b=ACTIVE)
    requested = replace(ALIVE, drain_requested=True)
    views = {"a": requested, "b": ALIVE, "c": ALIVE}
    assert next_cluster(settings, before, views, WAITING, ClusterNews(), {}) is None
    news = ClusterNews(dead=frozenset("b"))
    following = next_cluster(settings, before, views, WAITING, news, {})
    assert states(following) == {"a": "active", "b": "down"}
    assert following
    assert [pool.name for pool in following.pools] == ["web"]


REFUSED = Settlement(CLUSTER, 1, waiting_for=("a",), refusing=("a",))


def test_a_refused_generation_is_replaced_by_other_settings_and_nothing_else_moves() -> None:
    """What agents cannot hold must not keep out what they can (docs/architecture.md)."""
    before = at(first(config("a", "b", pools=("web", "bad"))), a=ACTIVE, b=ACTIVE)
    mended = config("a", "b", "c", pools=("web", "good"))
    requested = replace(ALIVE, drain_requested=True)
    views = {"a": requested, "b": ALIVE, "c": ALIVE}
    keys = {"good": "key-good"}
    following = next_cluster(mended, before, views, REFUSED, ClusterNews(), keys)
    assert following
    assert following.generation == 2
    assert [pool.name for pool in following.pools] == ["web", "good"]
    assert states(following) == {"a": "active", "b": "active"}


def test_a_refused_generation_stands_while_the_settings_do() -> None:
    settings = config("a")
    before = at(first(settings), a=ACTIVE)
    assert next_cluster(settings, before, {"a": ALIVE}, REFUSED, ClusterNews(), {}) is None


def test_a_pool_that_a_refused_generation_removed_comes_back_as_it_was() -> None:
    """Those who refused it have the pool in use: they would refuse it with another key."""
    old = Pool("web", 512, 3, "client", "key-old")
    settled = replace(at(first(config("a")), a=ACTIVE), pools=(old,))
    before = replace(settled, generation=2, pools=(Pool("api", key_id="key-api"),))
    views, news = {"a": ALIVE}, ClusterNews(settled=settled)
    following = next_cluster(config("a", pools=("web", "api")), before, views, REFUSED, news, {})
    assert following
    assert following.pools == (old, *before.pools)


def test_a_death_goes_with_what_replaces_a_refused_generation() -> None:
    before = at(first(config("a", "b", pools=("web", "bad"))), a=ACTIVE, b=ACTIVE)
    news = ClusterNews(dead=frozenset("b"))
    views = {"a": ALIVE, "b": ALIVE}
    following = next_cluster(config("a", "b"), before, views, REFUSED, news, {})
    assert states(following) == {"a": "active", "b": "down"}
    assert following
    assert [pool.name for pool in following.pools] == ["web"]


def test_a_death_and_other_steps_go_together_when_settled() -> None:
    settings = config("a", "b")
    before = at(first(settings), a=ACTIVE, b=ACTIVE)
    views = {"a": replace(ALIVE, drain_requested=True), "b": ALIVE}
    news = ClusterNews(dead=frozenset("b"))
    following = next_cluster(settings, before, views, SETTLED, news, {})
    assert states(following) == {"a": "draining", "b": "down"}


def leaving(
    state: ServerState,
    view: ServerView,
    settlement: Settlement = SETTLED,
    *,
    named: frozenset[int] = frozenset({1}),
    tables_settled: bool = True,
) -> str | None:
    """Return the state of server b, which the settings no longer have; None: it is gone."""
    before = at(first(config("a", "b")), a=ACTIVE, b=state)
    news = ClusterNews(named=named, tables_settled=tables_settled)
    views = {"a": ALIVE, "b": view}
    found = next_cluster(config("a"), before, views, settlement, news, {})
    return states(found or before).get("b")


GONE = replace(REMOVED, heard=False, silent=True)


def test_a_removed_server_is_drained_and_stays_known_while_it_runs() -> None:
    assert leaving(ACTIVE, REMOVED) == "draining"
    assert leaving(DRAINING, REMOVED) == "draining"
    assert leaving(REGISTERED, REMOVED) == "registered"


def test_a_removed_server_leaves_when_it_is_down_and_in_no_chain() -> None:
    assert leaving(DOWN, GONE) is None
    assert leaving(DOWN, replace(GONE, stopped=True)) is None
    assert leaving(REGISTERED, replace(NEVER, configured=False)) is None


def test_a_removed_server_stays_known_while_a_table_in_use_names_it() -> None:
    assert leaving(DOWN, GONE, named=frozenset({1, 2})) == "down"
    assert leaving(DOWN, GONE, tables_settled=False) == "down"
    assert leaving(DOWN, GONE, PASSABLE) == "down"


def test_a_removed_server_that_speaks_again_stays_known() -> None:
    assert leaving(DOWN, REMOVED) == "down"
    assert leaving(DOWN, replace(REMOVED, leaving=True)) == "down", "it forwards until it is gone"


@pytest.mark.parametrize(
    ("settlement", "news", "state"),
    [
        (SETTLED, ClusterNews(tables_settled=True), "down"),
        (SETTLED, ClusterNews(tables_settled=True, named=frozenset({2})), "draining"),
        (SETTLED, ClusterNews(tables_settled=False), "draining"),
        (PASSABLE, ClusterNews(tables_settled=True), "draining"),
    ],
    ids=["unused", "in a chain", "tables not settled", "an agent is silent"],
)
def test_a_server_may_go_when_every_server_uses_tables_without_it(
    settlement: Settlement, news: ClusterNews, state: str
) -> None:
    settings = config("a", "b")
    before = at(first(settings), a=ACTIVE, b=DRAINING)
    views = {"a": ALIVE, "b": replace(ALIVE, leaving=True)}
    found = next_cluster(settings, before, views, settlement, news, {})
    assert states(found or before)["b"] == state


def test_a_new_pool_gets_its_key_and_an_old_one_keeps_its() -> None:
    before = at(first(config("a")), a=ACTIVE)
    settings = config("a", pools=("web", "dns"))
    keys = {"dns": "key-dns"}
    following = next_cluster(settings, before, {"a": ALIVE}, SETTLED, ClusterNews(), keys)
    assert following
    assert {pool.name: pool.key_id for pool in following.pools} == {
        "web": "key-web",
        "dns": "key-dns",
    }


def test_an_index_is_not_used_again_while_a_table_names_it() -> None:
    before = at(first(config("a")), a=ACTIVE)
    news = ClusterNews(named=frozenset({1, 7}))
    views = {"a": ALIVE, "b": NEVER}
    following = next_cluster(config("a", "b"), before, views, SETTLED, news, {})
    assert following
    server = following.server("b")
    assert server
    assert server.index == 8


def test_indices_wrap_around_and_end() -> None:
    assert free_index(()) == 1
    assert free_index({MAX_SERVERS, 1, 2}) == 3
    with pytest.raises(BrigadeError, match="in use"):
        free_index(set(range(1, MAX_SERVERS + 1)))


def test_the_first_ones_wait_for_each_other() -> None:
    cluster = first(config("a", "b"))
    some = {"a": ALIVE, "b": replace(NEVER, configured=True)}
    assert not newcomers_welcome(cluster, some, 1.9, 2.0)
    assert newcomers_welcome(cluster, some, 2.0, 2.0)
    assert newcomers_welcome(cluster, {"a": ALIVE, "b": ALIVE}, 0.0, 2.0)
    views = {"a": ALIVE, "b": replace(NEVER, drain_requested=True)}
    assert newcomers_welcome(cluster, views, 0.0, 2.0)


def test_later_ones_wait_for_nobody() -> None:
    cluster = at(first(config("a", "b")), a=ACTIVE)
    assert newcomers_welcome(cluster, {"a": ALIVE, "b": NEVER}, 0.0, 2.0)


def test_newcomers_not_welcome_stay_registered() -> None:
    settings = config("a")
    news = ClusterNews(newcomers_welcome=False)
    assert next_cluster(settings, first(settings), {"a": ALIVE}, SETTLED, news, {}) is None


def test_a_server_of_a_dip_in_use_is_none_of_ours() -> None:
    settings = config("a")
    before = at(first(settings), a=ACTIVE)
    assert before.server("a") == Server("a", IPv4Address("10.1.0.1"), 1, ACTIVE)


CUT_OFF = replace(ALIVE, cut_off=True)


@pytest.mark.parametrize("settlement", [SETTLED, WAITING])
@pytest.mark.parametrize("state", [JOINING, ACTIVE, DRAINING])
def test_a_server_that_is_cut_off_withdraws_at_once(
    settlement: Settlement, state: ServerState
) -> None:
    settings = config("a", "b")
    before = at(first(settings), a=ACTIVE, b=state)
    views = {"a": ALIVE, "b": CUT_OFF}
    following = next_cluster(settings, before, views, settlement, ClusterNews(), {})
    assert states(following) == {"a": "active", "b": "registered"}


def test_and_then_it_leaves_and_does_not_come_back_before_it_is_reached() -> None:
    settings = config("a", "b")
    before = at(first(settings), a=ACTIVE, b=REGISTERED)
    views = {"a": ALIVE, "b": CUT_OFF}
    assert next_cluster(settings, before, views, SETTLED, ClusterNews(), {}) is None
    news = ClusterNews(dead=frozenset("b"))
    left = next_cluster(settings, before, views, WAITING, news, {})
    assert states(left) == {"a": "active", "b": "down"}
    assert left
    assert next_cluster(settings, left, views, SETTLED, news, {}) is None
    views["b"] = ALIVE
    back = next_cluster(settings, left, views, SETTLED, ClusterNews(), {})
    assert states(back) == {"a": "active", "b": "registered"}


def test_a_new_controller_first_hears_all_servers_in_use() -> None:
    """Else it would let a server join of which it does not know yet that others lose it."""
    cluster = at(first(config("a", "b", "c")), a=ACTIVE, b=ACTIVE, c=REGISTERED)
    views = {"a": ALIVE, "b": replace(ALIVE, heard=False), "c": ALIVE}
    assert not newcomers_welcome(cluster, views, 99.0, 2.0)
    views["b"] = replace(ALIVE, heard=False, silent=True)
    assert newcomers_welcome(cluster, views, 0.0, 2.0)
