"""The rows of tests/packets, in the programs compiled for this machine: no root, any frame."""

from __future__ import annotations

import pytest

from tests.fuzz.host import FORWARDER, REDIRECTOR, Host
from tests.model import Config, Result, SocketState
from tests.packets.catalogue import FORWARDER_ROWS, REDIRECTOR_ROWS
from tests.packets.judge import judge_beside_model
from tests.packets.row import Packet, Program, Row, name_of, rows_for

PROGRAMS: dict[Program, int] = {"forwarder": FORWARDER, "redirector": REDIRECTOR}


class OnHost:
    """The executor."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def forget(self) -> None:
        self._host.forget()

    def configure(self, config: Config) -> None:
        self._host.configure(config)

    def run(self, program: Program, packet: Packet) -> Result:
        state = packet.state or SocketState.NONE
        return self._host.run(PROGRAMS[program], packet.frame, state=state)


@pytest.mark.parametrize("row", rows_for("host", FORWARDER_ROWS), ids=name_of)
def test_forwarder(host: Host, row: Row) -> None:
    judge_beside_model(row, OnHost(host))


@pytest.mark.parametrize("row", rows_for("host", REDIRECTOR_ROWS), ids=name_of)
def test_redirector(host: Host, row: Row) -> None:
    judge_beside_model(row, OnHost(host))
