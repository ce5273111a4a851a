"""The rest of the controller's part of the contract, and the operator's: fleet and leadership."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import pytest

from controlplane.domain.controller_state import CONTROLLER, DrainRequest
from controlplane.domain.objects import Report
from controlplane.store.contract import (
    MOST_UNKNOWN,
    ControllerStore,
    StoreConflict,
    StoreDenied,
    StoreUnavailable,
    Version,
)
from tests.unit.controlplane.store.conftest import Backing
from tests.unit.controlplane.store.helpers import Worker, later


def test_wishes_are_set_and_cleared_and_stay(backing: Backing) -> None:
    operator = backing.controller()
    assert operator.drain_requests() == {}
    operator.request_drain("alpha", requested=True)
    operator.request_drain("beta", requested=True)
    operator.request_drain("beta", requested=True)
    operator.request_drain("alpha", requested=False)
    operator.request_drain("never-requested", requested=False)
    operator.close()
    assert set(backing.controller().drain_requests()) == {"beta"}


def test_a_request_has_who_when_and_why_and_the_newest_counts(backing: Backing) -> None:
    operator = backing.controller()
    operator.request_drain("alpha", requested=True, request=DrainRequest("a@x", 1.5, "disk"))
    operator.request_drain("alpha", requested=True, request=DrainRequest("b@y", 2.5, "fan"))
    operator.request_drain("beta", requested=True)
    found = backing.controller().drain_requests()
    assert found == {"alpha": DrainRequest("b@y", 2.5, "fan"), "beta": DrainRequest()}


def test_the_controllers_state_is_published_like_a_document_but_agents_do_not_wait_for_it(
    backing: Backing,
) -> None:
    store = backing.controller()
    store.publish(Version(CONTROLLER, 1, b"one"))
    store.publish(Version(CONTROLLER, 2, b"two"))
    with pytest.raises(StoreConflict):
        backing.controller().publish(Version(CONTROLLER, 2, b"other"))
    assert store.latest(CONTROLLER) == Version(CONTROLLER, 2, b"two")
    assert store.kinds() == {}
    assert store.wait({}, 0.0) == {}


def test_a_forgotten_server_leaves_nothing(controller: ControllerStore) -> None:
    for server in ("alpha", "beta"):
        controller.report(Report(server, "b", 1, 0.0))
        controller.acknowledge(server, "cluster", 1)
        controller.request_drain(server, requested=True)
    controller.forget("alpha")
    controller.forget("alpha")
    assert set(controller.reports()) == {"beta"}
    assert set(controller.acknowledgements()) == {"beta"}
    assert set(controller.drain_requests()) == {"beta"}


def test_invented_names_are_bounded_and_known_ones_are_not(controller: ControllerStore) -> None:
    """Anybody with the token can invent names; servers of the cluster go on, newcomers can come."""
    for number in range(MOST_UNKNOWN):
        controller.report(Report(f"x{number}", "b", 1, 0.0))
    with pytest.raises(StoreDenied, match=r"alpha is not in the controller's settings, and 256"):
        controller.report(Report("alpha", "b", 1, 0.0))
    with pytest.raises(StoreDenied, match="alpha is not in"):
        controller.acknowledge("alpha", "cluster", 1)
    controller.report(Report("x7", "b", 2, 0.0))
    controller.acknowledge("x7", "cluster", 1)
    controller.know_dips({"alpha": "10.0.0.1"})
    controller.report(Report("alpha", "b", 1, 0.0))
    controller.acknowledge("alpha", "cluster", 1)
    assert len(controller.names()) == MOST_UNKNOWN + 1
    assert set(controller.reports(["alpha", "beta"])) == {"alpha"}
    assert set(controller.acknowledgements(["alpha", "beta"])) == {"alpha"}
    controller.forget("x7")
    controller.report(Report("beta", "b", 1, 0.0))


Act = Callable[[ControllerStore], None]
CHANGES: dict[str, Act] = {
    "report": lambda store: store.report(Report("alpha", "b", 2, 0.0)),
    "acknowledgement": lambda store: store.acknowledge("alpha", "cluster", 2),
    "drain request": lambda store: store.request_drain("alpha", requested=True),
    "cleared drain request": lambda store: store.request_drain("beta", requested=False),
    "forgotten": lambda store: store.forget("beta"),
}


@pytest.fixture
def watched(backing: Backing) -> tuple[ControllerStore, ControllerStore]:
    """A store that waits, which has seen all so far, and another that acts."""
    waiting, acting = backing.controller(), backing.controller()
    acting.request_drain("beta", requested=True)
    acting.report(Report("beta", "b", 1, 0.0))
    waiting.wait_reports(0)
    return waiting, acting


@pytest.mark.parametrize("change", CHANGES)
def test_wait_reports_notices(
    watched: tuple[ControllerStore, ControllerStore], change: str
) -> None:
    waiting, acting = watched
    with later(0.1, lambda: CHANGES[change](acting)):
        started = time.monotonic()
        waiting.wait_reports(10.0)
        assert 0.08 < time.monotonic() - started < 2


@pytest.mark.parametrize("change", CHANGES)
def test_wait_reports_misses_nothing_between_calls(
    watched: tuple[ControllerStore, ControllerStore], change: str
) -> None:
    waiting, acting = watched
    CHANGES[change](acting)
    started = time.monotonic()
    waiting.wait_reports(10.0)
    assert time.monotonic() - started < 2


def test_wait_reports_ends_with_the_timeout(
    watched: tuple[ControllerStore, ControllerStore],
) -> None:
    waiting, acting = watched
    acting.report(Report("alpha", "b", 2, 0.0))
    waiting.wait_reports(10.0)
    started = time.monotonic()
    waiting.wait_reports(0.3)
    assert 0.28 < time.monotonic() - started < 2


def test_close_ends_wait_reports(watched: tuple[ControllerStore, ControllerStore]) -> None:
    waiting, _ = watched
    with later(0.1, waiting.close), pytest.raises(StoreUnavailable, match="closed"):
        waiting.wait_reports(60.0)


def test_one_leads_and_the_other_learns_who(backing: Backing) -> None:
    one, two = backing.controller(), backing.controller()
    with one.lead("first@host"):
        with pytest.raises(StoreConflict, match=rf"first@host.*{os.getpid()}"), two.lead("second"):
            pytest.fail("two lead at once")
        with pytest.raises(StoreConflict), one.lead("first@host"):
            pytest.fail("one leads twice")
    with two.lead("second"), pytest.raises(StoreConflict, match="second"), one.lead("first@host"):
        pytest.fail("two lead at once")


def test_who_leads_can_be_asked_without_taking_the_lead(backing: Backing) -> None:
    one, two = backing.controller(), backing.controller()
    assert two.leader() is None
    with one.lead("first@host"):
        assert "first@host" in (two.leader() or "")
    assert two.leader() is None
    with Worker("lead", backing.url, "doomed") as worker:
        worker.expect("ready")
        assert "doomed" in (two.leader() or "")
        worker.process.send_signal(signal.SIGKILL)
        worker.process.wait()
        assert two.leader() is None, "though its name is still in the file"


def test_leadership_ends_with_an_exception_that_stays_itself(backing: Backing) -> None:
    with pytest.raises(OSError, match="mine"), backing.controller().lead("first"):
        raise OSError("mine")
    with backing.controller().lead("second"):
        pass


def test_leadership_is_free_when_the_leader_is_killed(backing: Backing) -> None:
    successor = backing.controller()
    with Worker("lead", backing.url, "doomed") as worker:
        worker.expect("ready")
        with (
            pytest.raises(StoreConflict, match=rf"doomed.*{worker.process.pid}"),
            successor.lead("successor"),
        ):
            pytest.fail("two lead at once")
        worker.process.send_signal(signal.SIGKILL)
        worker.process.wait()
        with successor.lead("successor"):
            pass


def test_the_leaders_name_is_safe_to_print(backing: Backing) -> None:
    with (
        backing.controller().lead("evil\x1b[2J\n" + "x" * 500),
        pytest.raises(StoreConflict) as caught,
        backing.controller().lead("b"),
    ):
        pytest.fail("two lead at once")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 200
