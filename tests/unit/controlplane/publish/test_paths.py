"""From reported losses to the cluster document: withdrawn first, then down, then back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from controlplane.decide.cut_off import BACK_SECONDS, CONFIRM_SECONDS, LEAVE_SECONDS
from controlplane.decide.server_state import ServerView
from controlplane.decide.settlement import Settlement
from controlplane.decide.views import FleetView, RoundView
from controlplane.domain.objects import CLUSTER, Cluster, PathReport, Report, Server, ServerState
from controlplane.publish.cluster import ClusterPublisher
from controlplane.publish.condition_log import ConditionLog
from controlplane.publish.paths import CUT_OFF, LOST, SPLIT, PathJudge
from controlplane.publish.published import Published
from controlplane.settings.models import ControlConfig
from controlplane.store.file.store import FileStore

ALIVE = ServerView("", known=True, heard=True)
Lost = Mapping[str, tuple[str, ...]]


def config(count: int) -> ControlConfig:
    return ControlConfig.model_validate(
        {
            "probers": ["10.0.0.9"],
            "server": [{"name": f"s{i}", "dip": f"10.1.0.{i}"} for i in range(1, count + 1)],
            "pool": [{"name": "web", "buckets": 256}],
        }
    )


def report(name: str, lost: tuple[str, ...] = (), unknown: tuple[str, ...] = ()) -> Report:
    return Report(name, "boot", 1, 0.0, paths=PathReport(3, lost, unknown))


class Controller:
    """A cluster of active servers, and its publisher."""

    def __init__(self, store: FileStore, count: int = 4) -> None:
        self.names = [f"s{i}" for i in range(1, count + 1)]
        self.config = config(count)
        self.published = Published(store)
        servers = tuple(
            Server(name, IPv4Address("10.1.0.0") + i, i, ServerState.ACTIVE)
            for i, name in enumerate(self.names, 1)
        )
        probers = frozenset(self.config.probers)
        self.published.publish_cluster(Cluster(1, servers, probers=probers))
        self.publisher = ClusterPublisher(store, self.published, ConditionLog())

    @property
    def cluster(self) -> Cluster:
        cluster = self.published.cluster
        assert cluster
        return cluster

    def look(self, now: float, lost: Lost | None = None, **views: ServerView) -> str:
        """Do a round in which agents report these losses; return the states, "a a r d"."""
        cluster = self.cluster
        seen = {name: replace(views.get(name, ALIVE), name=name) for name in self.names}
        reports = {name: report(name, (lost or {}).get(name, ())) for name in self.names}
        settled = Settlement(CLUSTER, cluster.generation, waiting_for=("s1",))
        fleet = FleetView(cluster, seen, reports)
        self.publisher.publish_next(self.config, fleet, settled, now)
        return " ".join(server.state.value[0] for server in self.cluster.servers)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FileStore]:
    made = FileStore(tmp_path)
    yield made
    made.close()


S3_LOST = {"s1": ("s3",), "s2": ("s3",), "s4": ("s3",)}


def test_withdrawn_first_then_out_of_the_tables(store: FileStore) -> None:
    """Also over a generation that is not settled: like a death."""
    controller = Controller(store)
    assert controller.look(100.0, S3_LOST) == "a a a a"
    at = 100.0 + CONFIRM_SECONDS
    assert controller.look(at, S3_LOST) == "a a r a"
    assert controller.look(at + 0.1, S3_LOST) == "a a r a"
    assert controller.look(at + LEAVE_SECONDS, S3_LOST) == "a a r a"
    assert controller.look(at + 0.1 + LEAVE_SECONDS, S3_LOST) == "a a d a"
    assert controller.look(at + 3 + BACK_SECONDS, S3_LOST) == "a a d a"


def test_tables_wait_until_it_has_withdrawn(store: FileStore) -> None:
    controller = Controller(store)
    controller.look(100.0, S3_LOST)
    controller.look(102.0, S3_LOST)
    fleet = FleetView(controller.cluster)
    cut_off = controller.publisher.paths.cut_off.names

    def withdrawing() -> bool:
        view = RoundView(
            102.0, 0.0, True, controller.config, fleet, controller.cluster, None, frozenset(),
            cut_off=cut_off,
        )  # fmt: skip
        assert not view.is_withdrawing({1, 2, 4})
        return view.is_withdrawing({1, 2, 3, 4})

    assert withdrawing()
    controller.look(102.1, S3_LOST)
    controller.look(102.2 + LEAVE_SECONDS, S3_LOST)
    assert not withdrawing()


def test_two_servers_stay_and_it_is_logged(store: FileStore) -> None:
    controller = Controller(store, 2)
    with capture_logs() as logs:
        for now in range(100, 140):
            assert controller.look(now, {"s1": ("s2",), "s2": ("s1",)}) == "a a"
    assert controller.publisher.paths.groups.split
    (line,) = [log for log in logs if log["event"] == SPLIT]
    assert line["detail"] == "s1, s2"


def test_half_of_the_servers_are_not_taken_out_one_after_the_other(store: FileStore) -> None:
    """Agents notice a split of two and two at different moments."""
    controller = Controller(store)
    first = {"s1": ("s3",), "s2": ("s3",), "s3": ("s1", "s2")}
    both = {"s1": ("s3", "s4"), "s2": ("s3", "s4"), "s3": ("s1", "s2"), "s4": ("s1", "s2")}
    controller.look(100.0, first)
    controller.look(101.0, first)
    for now in range(102, 109):
        assert controller.look(now, both) in {"a a r a", "a a d a"}
    assert controller.publisher.paths.groups.split


def test_servers_that_lose_probes_one_after_the_other_are_never_half_of_the_fleet(
    store: FileStore,
) -> None:
    """As in an overload: who is out is idle, and comes back; the others get its load."""
    controller = Controller(store)
    controller.look(100.0, S3_LOST)
    controller.look(101.0, S3_LOST)
    also = {"s1": ("s3", "s4"), "s2": ("s3", "s4")}
    for now in range(102, 160):
        assert controller.look(now, also)[-1] == "a"


def test_silent_agents_reports_are_not_believed(store: FileStore) -> None:
    controller = Controller(store)
    silent = replace(ALIVE, heard=False, silent=True)
    for now in range(100, 120):
        states = controller.look(now, S3_LOST, s1=silent, s2=silent, s4=silent)
        assert states == "a a a a"


def test_what_one_agent_loses_is_logged_and_moves_nothing(store: FileStore) -> None:
    controller = Controller(store)
    with capture_logs() as logs:
        for now in range(100, 120):
            assert controller.look(now, {"s1": ("s3",)}) == "a a a a"
    (line,) = [log for log in logs if log["event"] == LOST]
    assert (line["about"], line["detail"]) == ("s1", "s3")


def test_who_is_cut_off_is_logged_with_those_it_does_not_reach(store: FileStore) -> None:
    controller = Controller(store)
    with capture_logs() as logs:
        for now in (100.0, 101.0, 102.0):
            controller.look(now, S3_LOST)
    (line,) = [log for log in logs if log["event"] == CUT_OFF]
    assert line["about"] == "s3"
    assert line["detail"] == (
        "s1, s2, s4 do not reach it: it withdraws its routes, then leaves the tables, and may join "
        "when they have reached it for 30 s"
    )


def test_a_cut_off_server_is_logged_once_a_change_with_how_long_it_still_waits(
    store: FileStore,
) -> None:
    """Reports arrive one after the other, so who loses it is another set in each round."""
    controller = Controller(store)
    with capture_logs() as logs:
        for number in range(40):
            losing = {name: ("s3",) for name in ("s1", "s2", "s4") if name != f"s{number % 3}"}
            controller.look(100.0 + number / 4, losing)
        for number in range(8):
            controller.look(110.0 + number, {})
        controller.look(118.0, S3_LOST)
        for number in range(62):
            controller.look(119.0 + number / 2, {})
    lines = [(log["log_level"], log["detail"]) for log in logs if log["event"] == CUT_OFF]
    assert [level for level, _ in lines] == ["error", "info", "error", "info"]
    assert "do not reach it: it withdraws" in lines[0][1]
    assert lines[1][1] == "the others reach it again: it may join if that lasts 30 s"
    assert "s1, s2, s4 do not reach it" in lines[2][1]
    assert lines[3][1] == lines[1][1]
    assert [log for log in logs if log["event"] == f"{CUT_OFF}: over"]


def test_how_long_it_still_waits_is_known_in_each_round(store: FileStore) -> None:
    controller = Controller(store)
    controller.look(100.0, S3_LOST)
    controller.look(101.0, S3_LOST)
    paths = controller.publisher.paths
    assert paths.reasons(101.0) == {"s3": "s1, s2, s4 do not reach it"}
    controller.look(105.0, {})
    found = [paths.reasons(now)["s3"] for now in (105.0, 106.0, 118.0, 134.9)]
    left = [
        text.removeprefix("the others reach it again: it may join in at most ") for text in found
    ]
    assert left == ["30 s", "30 s", "20 s", "5 s"]
    silent = replace(ALIVE, heard=False, silent=True)
    controller.look(106.0, {}, s3=silent)
    assert paths.reasons(106.0) == {"s3": "it waits until its agent reports and others reach it"}


def test_a_fleet_that_filters_echo_is_left_alone(store: FileStore) -> None:
    names = ("s1", "s2", "s3", "s4")
    servers = tuple(
        Server(name, IPv4Address(i), i, ServerState.ACTIVE) for i, name in enumerate(names, 1)
    )
    reports = {n: report(n, unknown=tuple(m for m in names if m != n)) for n in names}
    views = {name: replace(ALIVE, name=name) for name in names}
    judge = PathJudge(ConditionLog())
    for now in range(100, 200):
        fleet = judge.judge(FleetView(Cluster(1, servers), views, reports), now)
        assert not any(view.cut_off for view in fleet.servers.values())
