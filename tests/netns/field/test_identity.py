"""Two machines under one name: the wrong one changes nothing, and everybody is told of it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from netns import brigade
from netns.polling import wait_until
from tests.netns.agent_helpers import POOL
from tests.netns.field.controlled import START_SECONDS, Controlled, controlled

TWIN = 4
NAME = brigade.server_name(3)

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def fleet() -> Iterator[Controlled]:
    with controlled(servers=3, spare=1) as made:
        yield made


def owners(fleet: Controlled) -> list[int]:
    """Return the current server of each bucket. Old hops may be forgotten meanwhile."""
    current: list[int] = fleet.published().tables[POOL].chains[:, 0].tolist()
    return current


def test_a_machine_with_anothers_name_is_ignored_and_named(fleet: Controlled) -> None:
    hooks = fleet.host(TWIN).base / "hooks.log"
    own = fleet.cluster().server(NAME)
    assert own is not None
    assert own.dip == brigade.dip(3)
    with fleet.traffic() as flows:
        before = fleet.cluster().generation, owners(fleet)
        fleet.up(TWIN, name=NAME, on_ready=["sh", "-c", f"echo ready >> {hooks}"])
        wait_until(
            lambda: "identity" in fleet.status(TWIN).get("troubles", {}), "it knows", START_SECONDS
        )
        until = time.monotonic() + 3.0
        while time.monotonic() < until:
            assert not fleet.ready(TWIN)
            assert fleet.states()[NAME] == "active"
            assert fleet.store.reports()[NAME].dip == str(brigade.dip(3))
        shown = json.loads(fleet.operator("servers", "--json"))["servers"]
        people = fleet.operator("servers")
        stopped = fleet.lbctl(TWIN, "down").stdout
        fleet.store.wait_reports(0.5)
        assert not fleet.store.reports()[NAME].stopped
        assert fleet.states()[NAME] == "active"
        after = fleet.cluster().generation, owners(fleet)
        counted = flows.finish()
    assert after == before, "nothing moved"
    assert (counted["lost"], counted["moved"], counted["refused"]) == (0, 0, 0), counted
    assert not hooks.exists()
    trouble = fleet.log(TWIN)
    assert f"the controller knows {NAME} by DIP {brigade.dip(3)}" in trouble
    assert "agent.toml" in trouble
    assert str(brigade.dip(TWIN)) in next(s["twin"] for s in shown if s["name"] == NAME)
    assert f"TWO MACHINES are called {NAME}" in people
    assert f"not reported to the store: {NAME} is the server with DIP" in stopped
    control = (fleet.network[brigade.CONTROLLER].log_dir / "control.log").read_text()
    assert "two machines under one name" in control
