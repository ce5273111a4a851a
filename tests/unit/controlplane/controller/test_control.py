"""What a controller looks after beside its loop."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from controlplane.controller import process as control
from controlplane.controller.process import Controller, Signals
from controlplane.controller.settings import Settings, SettingsFile
from controlplane.domain.errors import BrigadeError
from controlplane.domain.settings_changes import Accepted
from controlplane.observe.probe.sockets import NoProber
from controlplane.store.http.credentials import Credentials, CredentialsInUse
from controlplane.store.http.server import Serving
from netns.polling import wait_until
from tests.unit.controlplane.conftest import FakeProber, Fleet


def make_controller(fleet: Fleet, folder: Path, owned: ExitStack) -> Controller:
    config = fleet.config(1, store=f"file:{folder / 'store'}")
    settings = Settings(config, Accepted({}), None)
    return Controller(SettingsFile(folder / "unread"), settings, fleet.store, owned)


def test_the_address_of_probes_may_come_up_after_the_controller(
    fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[FakeProber] = []

    def open_prober(addresses: tuple[IPv4Address, ...], gue_port: int) -> FakeProber:
        del addresses, gue_port
        if not found:
            raise NoProber("10.0.0.9 is not an address of this machine")
        return found[0]

    monkeypatch.setattr(control, "open_prober", open_prober)
    monkeypatch.setattr(control, "OPEN_AGAIN_SECONDS", 0.05)
    signals = Signals()
    with ExitStack() as owned:
        controller = make_controller(fleet, tmp_path, owned)
        running = threading.Thread(target=controller.run, args=(signals,))
        running.start()
        try:
            wait_until(lambda: controller.loop.published.cluster is not None, "it runs without")
            assert controller.loop.observer.prober is None
            found.append(FakeProber())
            wait_until(lambda: controller.loop.observer.prober is found[0], "it probes")
        finally:
            signals.stop.set()
            running.join()


def test_a_controller_whose_agents_are_not_served_any_longer_ends(
    fleet: Fleet, tmp_path: Path
) -> None:
    """Its agents would all seem silent, and nothing would ever be published again."""
    ended = threading.Thread()
    with ExitStack() as owned:
        controller = make_controller(fleet, tmp_path, owned)
        controller._serving = Serving(
            "http://127.0.0.1:1", ended, CredentialsInUse(Credentials(("t",)))
        )
        with pytest.raises(BrigadeError, match="server has ended"):
            controller.run(Signals())
