"""Forwarded frames that the driver drops: by which counters, when it is a trouble, when not."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from lb.agent.facts import SharedFacts
from lb.agent.machine.driver_stats import DriverStats
from lb.agent.netlink.links import LinkInfo
from lb.agent.report.transmit import (
    ABSENT_SECONDS,
    CLEAN_SECONDS,
    READ_SECONDS,
    Losses,
    Reading,
    TransmitCheck,
    frames_lost,
    loss_trouble,
)


@pytest.mark.parametrize(
    ("statistics", "lost"),
    [
        (
            {
                "rx_queue_0_xdp_tx": 90,
                "rx_queue_0_xdp_drops": 5,
                "rx_queue_0_xdp_tx_errors": 3,
                "rx_queue_1_xdp_tx_errors": 4,
                "tx_queue_0_xdp_xmit_errors": 50,
            },
            7,
        ),
        ({"tx0_xdp_tx": 9, "tx0_xdp_tx_drops": 2, "tx1_xdp_tx_drops": 0, "tx0_kicks": 3}, 2),
        (
            {
                "rx_xdp_tx_full": 7,
                "rx_xdp_tx_err": 1,
                "rx_xdp_tx_xmit": 99,
                "rx0_xdp_tx_full": 3,
                "rx1_xdp_tx_full": 4,
                "rx1_xdp_tx_err": 1,
                "tx_xdp_err": 50,
            },
            8,
        ),
        ({"rx_xdp_tx_errors[0]": 1, "rx_xdp_tx_errors[1]": 2, "tx_xdp_xmit_errors[0]": 9}, 3),
        ({"rx_packets": 9, "tx_dropped": 3}, None),
        ({}, None),
    ],
    ids=["veth", "virtio_net", "mlx5", "gve", "without", "none"],
)
def test_the_drivers_counters_of_lost_frames_are_known(
    statistics: Mapping[str, int], lost: int | None
) -> None:
    assert frames_lost(statistics) == lost


def observed(*readings: tuple[int, int]) -> Losses:
    losses = Losses()
    for sent, lost in readings:
        losses.observe(sent, lost, 1.0)
    return losses


@pytest.mark.parametrize(
    ("readings", "recent", "total"),
    [
        ([(100, 40)], None, 0),
        ([(0, 40), (100, 40)], None, 0),
        ([(0, 40), (14, 46)], (6, 14), 6),
        ([(0, 0), (100_000, 99)], None, 99),
        ([(0, 0), (100_000, 100)], (100, 100_000), 100),
        ([(0, 0), (0, 5)], None, 5),
        ([(0, 0), (3, 5), (10, 7)], (7, 10), 7),
        ([(0, 0), (10, 10), (10, 10), (10, 10)], (10, 10), 10),
        ([(50, 50), (10, 10), (20, 20)], (10, 10), 10),
    ],
    ids=[
        "one reading shows nothing",
        "what was lost before",
        "lost",
        "few of many",
        "one in a thousand",
        "of somebody else's program",
        "not read at the same moment",
        "without traffic nothing is over",
        "counted from zero again",
    ],
)
def test_losses_are_judged_by_what_was_sent(
    readings: list[tuple[int, int]], recent: tuple[int, int] | None, total: int
) -> None:
    losses = observed(*readings)
    assert (losses.recent, losses.total) == (recent, total)


def test_it_is_over_after_some_time_with_traffic_and_without_losses() -> None:
    losses = observed((0, 0), (10, 10))
    rounds = int(CLEAN_SECONDS)
    for n in range(1, rounds):
        losses.observe(10 + n, 10, 1.0)
        losses.observe(10 + n, 10, 100.0)
        assert losses.recent is not None
    losses.observe(10 + rounds, 10, 1.0)
    assert losses.recent is None


def test_the_line_names_the_remedy() -> None:
    assert loss_trouble("eth0", "veth", None) is None
    veth = loss_trouble("eth0", "veth", (6, 14))
    assert veth is not None
    assert "6 of 14 frames" in veth
    assert "other end of the veth pair" in veth
    card = loss_trouble("eth0", "mlx5_core", (6, 14))
    assert card is not None
    assert "ethtool -G eth0 tx" in card
    assert "veth" not in card


class Machine:
    """A driver and a forwarder, one reading after the other."""

    def __init__(self) -> None:
        self.facts = SharedFacts(0.0)
        self.counters: dict[str, int] = {}
        self.statistics: Mapping[str, int] | OSError = {}
        self.driver = "veth"
        self.packets_sent = 0
        link = LinkInfo(3, "eth0", bytes(6), 1500, up=True, addresses=frozenset())
        self.check = TransmitCheck(link, lambda: self.counters, self.facts, self._read)

    def _read(self) -> Reading:
        if isinstance(self.statistics, OSError):
            raise self.statistics
        return Reading(self.driver, self.statistics, self.packets_sent)

    def step(self, sent: int, lost: int, queued: int = 0, packets_sent: int = 0) -> float:
        self.counters = {"tx_forward": sent, "pass_local": 1000}
        self.statistics = {"rx_queue_0_xdp_tx_errors": lost, "rx_queue_0_xdp_tx": queued}
        self.packets_sent = packets_sent
        return self.check.step()


def test_facts_have_the_number_and_the_trouble() -> None:
    machine = Machine()
    assert machine.step(5, 70) == READ_SECONDS
    assert machine.facts.current.xdp_tx_lost == 0
    assert machine.facts.current.troubles == {}
    machine.step(25, 90)
    assert machine.facts.current.xdp_tx_lost == 20
    assert "20 of 20 frames" in machine.facts.current.troubles["transmit"]


def test_frames_that_the_other_end_of_a_veth_does_not_fetch_are_lost_too() -> None:
    machine = Machine()
    machine.step(0, 0, 0, 50)
    machine.step(20, 0, 20, 75)
    assert machine.facts.current.troubles == {}, "each frame was fetched, and others were sent"
    machine.step(50, 0, 50, 85)
    assert "20 of 30 frames" in machine.facts.current.troubles["transmit"]
    machine.step(60, 0, 60, 120)
    assert machine.facts.current.xdp_tx_lost == 20
    other = Machine()
    other.driver = "mlx5_core"
    other.step(0, 0, 0, 50)
    other.step(50, 0, 50, 50)
    assert other.facts.current.troubles == {}, "others may count otherwise"


def test_a_driver_that_does_not_count_is_not_accused() -> None:
    machine = Machine()
    machine.counters = {"tx_forward": 5}
    machine.statistics = {"rx_packets": 5}
    assert machine.check.step() == ABSENT_SECONDS
    machine.statistics = OSError()
    assert machine.check.step() == ABSENT_SECONDS
    machine.statistics = InterruptedError()
    assert machine.check.step() == READ_SECONDS
    assert machine.facts.current.xdp_tx_lost is None
    assert machine.facts.current.troubles == {}


def test_without_a_data_plane_nothing_is_compared() -> None:
    machine = Machine()
    machine.statistics = {"rx_queue_0_xdp_tx_errors": 7}
    machine.check.step()
    assert machine.facts.current.xdp_tx_lost is None


def test_an_interface_without_statistics_is_an_error() -> None:
    with pytest.raises(OSError, match=r".+"):
        DriverStats("no-such-link").read()
