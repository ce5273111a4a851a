"""How old what a plan is made from is at most."""

from __future__ import annotations

from pathlib import Path

import pytest

from controlplane.decide.views import FleetView
from controlplane.documents.presence import Dump
from controlplane.domain.controller_state import ControllerState
from controlplane.domain.decisions import Decisions, SeenDump
from controlplane.domain.objects import Cluster
from controlplane.operator.knowledge import Seen, dump_age
from controlplane.publish.published import Published
from controlplane.settings.models import ControlConfig
from controlplane.store.file.store import FileStore

CONFIG = ControlConfig.model_validate(
    {"server": [{"name": "s1", "dip": "10.1.0.1"}], "pool": [{"name": "web"}]}
)


def seen(store: FileStore, number: int | None, decided: Decisions) -> Seen:
    dumps = {} if number is None else {"s1": Dump(number, None, 1, None, {})}
    fleet, stored = FleetView(), ControllerState()
    return Seen(CONFIG, Published(store), Cluster(1), fleet, decided, (), stored, dumps, 1000.0)


@pytest.mark.parametrize(
    ("number", "decided", "age"),
    [
        (4, Decisions(990.0, dumps={"s1": SeenDump(4, 970.0)}), 30.0),
        (5, Decisions(990.0, dumps={"s1": SeenDump(4, 970.0)}), 10.0),
        (1, Decisions(990.0, dumps={"s1": SeenDump(4, 970.0)}), 10.0),
        (4, Decisions(990.0, dumps={"s1": SeenDump(4, 0.0)}), None),
        (4, Decisions(990.0), 10.0),
        (4, Decisions(1010.0, dumps={"s1": SeenDump(4, 1005.0)}), 0.0),
        (4, Decisions(), None),
        (None, Decisions(990.0, dumps={"s1": SeenDump(4, 970.0)}), None),
    ],
    ids=["noted", "newer", "of another run", "of unknown age", "new", "ahead", "nobody", "none"],
)
def test_a_dump_is_as_old_as_the_controller_knows_or_newer_than_its_decisions(
    tmp_path: Path, number: int | None, decided: Decisions, age: float | None
) -> None:
    store = FileStore(tmp_path / "store")
    assert dump_age("s1", seen(store, number, decided)) == age
    store.close()
