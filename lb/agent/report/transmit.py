"""Notices frames that the forwarder sends and the driver does not take.

A program's XDP_TX is a request: whether the frame fits a ring, or, with veth, whether the other end
of the pair can take it at all, is decided after the program has counted it. Most drivers count what
they drop then. Of one that does not, nothing is known.

With veth there are two faults. An end without an XDP program and without GRO takes no frame: each
is counted as an error. With GRO alone, frames are put into the ring of that end, but nobody wakes
it up: they wait until another packet happens to, or the ring is full. Then fewer packets are sent
by the interface than were put into the ring.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import structlog

from lb.agent.facts import SharedFacts
from lb.agent.machine.driver_stats import DriverStats
from lb.agent.netlink.links import LinkInfo, packets_sent
from lb.agent.netlink.route_socket import RouteSocket
from lb.agent.worker import Worker

LOST = re.compile(r"xdp_tx_(?:err|drop|full)")
"""rx_queue_0_xdp_tx_errors (veth), tx0_xdp_tx_drops (virtio_net), rx_xdp_tx_full and rx_xdp_tx_err
(mlx5), rx_xdp_tx_errors (gve, mvneta and others)."""
OF_A_QUEUE = re.compile(r"[0-9]")
VETH = "veth"
VETH_QUEUED = re.compile(r"rx_queue_[0-9]+_xdp_tx")
SENT = ("tx_forward", "tx_forward_chain", "tx_too_big")
"""The verdicts of the forwarder that send a frame (docs/wire.md, section 4)."""
ONE_IN = 1000
"""A smaller part of the frames is not worth a TROUBLE: rings are full now and then."""
CLEAN_SECONDS = 10.0
READ_SECONDS = 1.0
READ_COST = 50
"""Some drivers ask the card; reading takes at most one part in this many of the time."""
ABSENT_SECONDS = 30.0


def frames_lost(statistics: Mapping[str, int]) -> int | None:
    """Return how many frames of XDP_TX the driver has dropped, ``None`` if it does not count them.

    A driver may have both a sum and a number for each queue.
    """
    found = {name: count for name, count in statistics.items() if LOST.search(name)}
    sums = {name: count for name, count in found.items() if not OF_A_QUEUE.search(name)}
    return sum((sums or found).values()) if found else None


def frames_held(driver: str, statistics: Mapping[str, int], packets_sent: int) -> int:
    """Return a number that grows while the other end of a veth pair does not fetch frames.

    ``packets_sent`` are those of the interface, read later: frames count once they are fetched.
    """
    if driver != VETH:
        return 0
    queued = (count for name, count in statistics.items() if VETH_QUEUED.fullmatch(name))
    return sum(queued) - packets_sent


class Losses:
    """Decides from readings whether frames are being lost. Pure, but for what it remembers.

    A loss counts until so many frames were sent without one that it is over: without traffic,
    nothing is known.
    """

    def __init__(self) -> None:
        self._last: tuple[int, int] | None = None
        self._open = (0, 0)
        self._clean_seconds = 0.0
        self.total = 0
        """Frames lost since the first reading."""
        self.recent: tuple[int, int] | None = None
        """Frames lost, of frames sent, the last time that some were lost; ``None``: all is well."""

    def observe(self, sent: int, lost: int, seconds: float) -> None:
        """Take a reading: frames sent and lost since some start, and the time since the last."""
        last, self._last = self._last, (sent, lost)
        if last is None or sent < last[0] or lost < last[1]:  # counted from zero again
            return
        self.total += lost - last[1]
        new_sent, new_lost = self._open[0] + sent - last[0], self._open[1] + lost - last[1]
        if new_lost > new_sent:  # the counters were not read at the same moment
            self._open = new_sent, new_lost
            return
        self._open = 0, 0
        if new_lost * ONE_IN >= max(1, new_sent):
            self.recent, self._clean_seconds = (new_lost, new_sent), 0.0
        elif new_sent:
            self._clean_seconds += seconds
            if self._clean_seconds >= CLEAN_SECONDS:
                self.recent = None


def loss_trouble(interface: str, driver: str, recent: tuple[int, int] | None) -> str | None:
    """Return the warning about lost frames, with the remedy; ``None`` if there are none."""
    if recent is None:
        return None
    lost, sent = recent
    if driver == VETH:
        remedy = (
            "attach an XDP program to the other end of the veth pair, one that passes all is "
            'enough (docs/running.md), or set xdp_mode = "generic"'
        )
    else:
        remedy = (
            f"a larger ring may help (ethtool -G {interface} tx NUMBER), or a newer driver, "
            'or xdp_mode = "generic"'
        )
    return (
        f"{interface} does not send all that the forwarder forwards: the driver ({driver}) dropped "
        f"or held {lost} of {sent} frames (ethtool -S {interface} | grep xdp_tx): {remedy}"
    )


@dataclass(frozen=True)
class Reading:
    """What a driver has counted, and after that how many packets the interface has sent."""

    driver: str
    statistics: Mapping[str, int]
    packets_sent: int


class TransmitCheck(Worker):
    """Compares the driver's counters with the forwarder's about once a second."""

    def __init__(
        self,
        link: LinkInfo,
        counters: Callable[[], Mapping[str, int]],
        facts: SharedFacts,
        read: Callable[[], Reading] | None = None,
    ) -> None:
        super().__init__("transmit")
        self._link = link
        self._counters = counters
        self._facts = facts
        self._stats = DriverStats(link.name)
        self._read = read or self._read_driver
        self._losses = Losses()
        self._read_at = time.monotonic()
        self._held: int | None = None
        self._held_in_all = 0

    def step(self) -> float:
        """Take one reading."""
        started = time.monotonic()
        counters = self._counters()
        try:
            reading = self._read()
        except InterruptedError:
            return READ_SECONDS
        except OSError:  # no such interface any more, or a driver without statistics
            return ABSENT_SECONDS
        lost = frames_lost(reading.statistics)
        if lost is None:
            return ABSENT_SECONDS
        if counters:
            sent = sum(counters.get(name, 0) for name in SENT)
            lost += self._add_held(reading)
            self._losses.observe(sent, lost, started - self._read_at)
            self._read_at = started
            self._report(reading.driver)
        return max(READ_SECONDS, READ_COST * (time.monotonic() - started))

    def _read_driver(self) -> Reading:
        statistics = self._stats.read()
        with RouteSocket() as netlink:
            return Reading(self._stats.driver, statistics, packets_sent(netlink, self._link.index))

    def _add_held(self, reading: Reading) -> int:
        """Return how many frames were not fetched, since the first reading."""
        held = frames_held(reading.driver, reading.statistics, reading.packets_sent)
        if self._held is not None:
            self._held_in_all += max(0, held - self._held)
        self._held = held
        return self._held_in_all

    def _report(self, driver: str) -> None:
        line = loss_trouble(self._link.name, driver, self._losses.recent)
        before = self._facts.current.troubles.get("transmit")
        self._facts.update(xdp_tx_lost=self._losses.total)
        self._facts.set_trouble("transmit", line)
        log = structlog.get_logger()
        if line is not None and before is None:
            log.error("forwarded frames are lost", detail=line)
        elif line is None and before is not None:
            log.info("forwarded frames are not lost any more", interface=self._link.name)
