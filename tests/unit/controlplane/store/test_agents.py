"""The agent's part of the contract: follow documents, read keys, acknowledge, report."""

from __future__ import annotations

import statistics
import threading
import time
from concurrent import futures
from concurrent.futures import ThreadPoolExecutor

import pytest

from controlplane.documents.presence import Mark
from controlplane.domain.controller_state import CONTROLLER
from controlplane.domain.objects import AskedFlow, Report, ServiceHealth
from controlplane.store.asked import MOST_ASKED, text_to_asked
from controlplane.store.contract import (
    AgentStore,
    ControllerStore,
    StoreConflict,
    StoreCorrupt,
    StoreUnavailable,
    Version,
)
from controlplane.store.marks import text_to_mark
from tests.unit.controlplane.store.conftest import Backing
from tests.unit.controlplane.store.helpers import later

HOSTILE = [
    "",
    ".",
    "..",
    "../up",
    "a/b",
    "/etc/passwd",
    "a/../../b",
    "a" * 64,
    "Upper",
    "-option",
    ".hidden",
    "line\n",
    "nul\0",
    "uml\u00e4ut",
    "%2e%2e%2fup",
    "a b",
    "a?x=1",
    "a#b",
]


def test_an_empty_store_has_nothing(agents: Backing) -> None:
    agent = agents.agent()
    assert agent.latest("cluster") is None
    assert agent.kinds() == {}


def test_an_agent_learns_whether_a_controller_leads(backing: Backing) -> None:
    agent = backing.agent()
    assert not agent.is_led()
    with backing.controller().lead("me"):
        assert agent.is_led()
    assert not agent.is_led()


@pytest.mark.parametrize("size", [0, 1, 3_000_000])
def test_documents_arrive_to_the_byte(agents: Backing, size: int) -> None:
    data = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    agents.controller().seed(Version("table/web", 77, data))
    agent = agents.agent()
    assert agent.latest("table/web") == Version("table/web", 77, data)
    assert agent.kinds() == {"table/web": 77}


def test_wait_notices_a_publication_within_50_ms(agents: Backing) -> None:
    controller, agent = agents.controller(), agents.agent()
    published_at = 0.0

    def publish(generation: int) -> None:
        nonlocal published_at
        controller.publish(Version("cluster", generation, b"x"))
        published_at = time.monotonic()

    delays = []
    for generation in range(1, 16):
        with later(0.03, lambda generation=generation: publish(generation)):  # type: ignore[misc]
            kinds = agent.wait({"cluster": generation - 1}, 10.0)
            noticed_at = time.monotonic()
        assert kinds == {"cluster": generation}
        delays.append(noticed_at - published_at)
    print(f"noticed after {statistics.median(delays) * 1000:.1f} ms (median)")
    assert statistics.median(delays) < 0.025


def test_wait_notices_a_new_kind(agents: Backing) -> None:
    controller, agent = agents.controller(), agents.agent()
    controller.publish(Version("cluster", 1, b"x"))
    started = time.monotonic()
    with later(0.05, lambda: controller.publish(Version("table/new", 1, b"x"))):
        assert agent.wait({"cluster": 1}, 10.0) == {"cluster": 1, "table/new": 1}
    assert time.monotonic() - started < 2


def test_wait_returns_at_once_what_is_newer_already(agents: Backing) -> None:
    controller, agent = agents.controller(), agents.agent()
    controller.publish(Version("cluster", 1, b"x"))
    started = time.monotonic()
    assert agent.wait({}, 10.0) == {"cluster": 1}
    assert agent.wait({"cluster": 0, "table/other": 9}, 10.0) == {"cluster": 1}
    assert time.monotonic() - started < 2


@pytest.mark.parametrize("seen", [{"cluster": 1}, {"cluster": 900, "table/gone": 3}])
def test_wait_ends_with_the_timeout(agents: Backing, seen: dict[str, int]) -> None:
    controller, agent = agents.controller(), agents.agent()
    controller.publish(Version("cluster", 1, b"x"))
    started = time.monotonic()
    assert agent.wait(seen, 0.3) == {"cluster": 1}
    assert 0.28 < time.monotonic() - started < 2
    assert agent.wait(seen, 0) == {"cluster": 1}


def test_wait_loses_no_publication_between_calls(agents: Backing) -> None:
    """A follower that always names what it has ends with the last generation."""
    controller, agent = agents.controller(), agents.agent()

    def publish() -> None:
        for generation in range(1, 61):
            controller.publish(Version("table/web", generation, b"x"))

    seen: dict[str, int] = {}
    with later(0, publish):
        while seen.get("table/web", 0) < 60:
            started = time.monotonic()
            kinds = dict(agent.wait(seen, 10.0))
            assert time.monotonic() - started < 5, "slept through a publication"
            assert kinds.get("table/web", 0) > seen.get("table/web", 0)
            seen = kinds


def test_close_ends_a_wait(agents: Backing) -> None:
    agent = agents.agent()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(agent.wait, {}, 60.0)
        with pytest.raises(futures.TimeoutError):
            waiting.result(0.2)
        agent.close()
        with pytest.raises(StoreUnavailable):
            waiting.result(10)
    with pytest.raises(StoreUnavailable, match="closed"):
        agent.kinds()


def test_keys_are_read_to_the_byte(agents: Backing) -> None:
    controller, agent = agents.controller(), agents.agent()
    for key_id, key in {"web-1": bytes(range(16)), "zeros": bytes(16)}.items():
        controller.put_key(key_id, key)
        assert agent.key(key_id) == key


def test_a_key_keeps_its_bytes(agents: Backing) -> None:
    controller = agents.controller()
    controller.put_key("web-1", b"1" * 16)
    controller.put_key("web-1", b"1" * 16)
    with pytest.raises(StoreConflict) as caught:
        controller.put_key("web-1", b"2" * 16)
    assert "1111" not in str(caught.value)
    assert "2222" not in str(caught.value)
    assert agents.agent().key("web-1") == b"1" * 16


@pytest.mark.parametrize("length", [0, 15, 17, 32])
def test_a_key_has_16_bytes(agents: Backing, length: int) -> None:
    with pytest.raises(StoreCorrupt):
        agents.controller().put_key("web-1", bytes(length))
    with pytest.raises(StoreCorrupt, match="no key"):
        agents.agent().key("web-1")


def test_acknowledgements_add_up(agents: Backing) -> None:
    controller, agent = agents.controller(), agents.agent()
    assert controller.acknowledgements() == {}
    agent.acknowledge("alpha", "cluster", 3)
    agent.acknowledge("alpha", "table/web", 7)
    agent.acknowledge("beta", "cluster", 2)
    agent.acknowledge("alpha", "cluster", 4)
    agent.acknowledge("alpha", "cluster", 4)
    expected = {"alpha": {"cluster": 4, "table/web": 7}, "beta": {"cluster": 2}}
    assert controller.acknowledgements() == expected


def test_threads_lose_no_acknowledgement(agents: Backing) -> None:
    agent = agents.agent()
    kinds = [f"table/pool-{number}" for number in range(8)]
    start = threading.Barrier(len(kinds))

    def acknowledge(kind: str) -> None:
        start.wait()
        for generation in range(1, 20):
            agent.acknowledge("alpha", kind, generation)

    with ThreadPoolExecutor(len(kinds)) as pool:
        list(pool.map(acknowledge, kinds))
    assert agents.controller().acknowledgements() == {"alpha": dict.fromkeys(kinds, 19)}


def test_the_newest_report_counts(agents: Backing) -> None:
    controller, agent = agents.controller(), agents.agent()
    assert controller.reports() == {}
    full = Report(
        server="alpha",
        boot_id="4f1c",
        sequence=2,
        sent_at=1_700_000_000.25,
        ready=True,
        stopped=True,
        load=0.625,
        connections=1234,
        checks={"web": ServiceHealth(healthy=True), "dns": ServiceHealth(False, "HTTP 500")},
        version="0.1.0",
        xdp_mode="native",
        errors=("one", "two"),
        refused_cluster=7,
    )
    agent.report(Report("alpha", "4f1c", 1, 1.0))
    agent.report(Report("beta", "77", 9, 2.0))
    agent.report(full)
    assert controller.reports() == {"alpha": full, "beta": Report("beta", "77", 9, 2.0)}


def test_a_report_every_250_ms_is_cheap(agents: Backing) -> None:
    agent = agents.agent()
    agent.report(Report("alpha", "b", 0, 0.0))
    started = time.process_time()
    for sequence in range(1, 101):
        agent.report(Report("alpha", "b", sequence, 0.0))
    spent = (time.process_time() - started) / 100
    print(f"{spent * 1e6:.0f} us of CPU a report, both ends")
    assert spent < 0.01  # 40 servers would fill a core; it is ten times less where this was written


def test_hostile_names_are_refused(agents: Backing) -> None:
    controller, agent = agents.controller(), agents.agent()
    for name in HOSTILE:
        assert_refused(controller, agent, name)
    assert controller.kinds() == {}
    assert controller.reports() == {}
    assert controller.acknowledgements() == {}
    assert controller.drain_requests() == {}


def assert_refused(controller: ControllerStore, agent: AgentStore, name: str) -> None:
    for act in (
        lambda: agent.acknowledge(name, "cluster", 1),
        lambda: agent.acknowledge("alpha", name, 1),
        lambda: agent.report(Report(name, "b", 1, 0.0)),
        lambda: agent.key(name),
        lambda: agent.latest(name),
        lambda: agent.latest(f"table/{name}"),
        lambda: controller.put_key(name, bytes(16)),
        lambda: controller.publish(Version(f"table/{name}", 1, b"")),
        lambda: controller.seed(Version(name, 1, b"")),
        lambda: controller.request_drain(name, requested=True),
        lambda: controller.forget(name),
    ):
        with pytest.raises(StoreCorrupt):
            act()


@pytest.mark.parametrize("generation", [0, -3, 1 << 63])
def test_no_impossible_generation_is_acknowledged(agents: Backing, generation: int) -> None:
    with pytest.raises(StoreCorrupt):
        agents.agent().acknowledge("alpha", "cluster", generation)
    assert agents.controller().acknowledgements() == {}


def test_an_agent_can_copy_the_controllers_state_but_it_is_not_a_document_in_use(
    agents: Backing,
) -> None:
    agent, state = agents.agent(), Version(CONTROLLER, 1, b"state")
    assert agent.latest(CONTROLLER) is None
    agents.controller().publish(state)
    assert agent.latest(CONTROLLER) == state
    assert agent.kinds() == {}
    with pytest.raises(StoreCorrupt):
        agent.acknowledge("alpha", CONTROLLER, 1)


def test_an_answer_to_a_report_has_the_newest_mark(agents: Backing) -> None:
    agent, leader = agents.agent(), agents.controller()
    agent.report(Report("s1", "b", 1, 0.0))
    assert agent.mark is None
    for mark in (Mark(2**53 - 1, 1), Mark(2**53 - 1, 2), Mark(7, 1)):
        leader.put_mark(mark)
        assert agent.mark != mark, "it comes with an answer"
        agent.report(Report("s1", "b", 2, 0.0))
        assert agent.mark == mark


def test_an_answer_to_a_report_has_the_flows_that_are_asked_for(agents: Backing) -> None:
    agent, leader = agents.agent(), agents.controller()
    agent.report(Report("s1", "b", 1, 0.0))
    assert agent.asked == frozenset()
    many = frozenset(AskedFlow(f"pool-{n % 7}", (n << 33) + n) for n in range(MOST_ASKED))
    for asked in (many, frozenset({AskedFlow("a" * 63, (1 << 40) - 1)}), frozenset[AskedFlow]()):
        leader.put_asked(asked)
        agent.report(Report("s1", "b", 2, 0.0))
        assert agent.asked == asked


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0),
        ("web/0123456789", 1),
        ("web/0123456789,web/012345678,web/012345678G,/0123456789,Web/0123456789,x", 1),
        ("web/01234567890", 0),
        (",".join(f"web/{n:010x}" for n in range(100_000)), MOST_ASKED),
    ],
)
def test_what_is_asked_for_is_bounded_and_what_is_no_flow_is_left_out(
    text: str, count: int
) -> None:
    assert len(text_to_asked(text)) == count


@pytest.mark.parametrize("text", ["", "1", "1.2.3", "-1.2", "1.x", "1." + "9" * 19, "1.2\n"])
def test_a_mark_that_cannot_be_read_is_none(text: str) -> None:
    assert text_to_mark(text) is None
