"""Addresses, pools, amounts of traffic and steps of the demo. Data only."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address

WEB_VIP = IPv4Address("192.0.2.10")
PLAIN_VIP = IPv4Address("192.0.2.20")
WORK_VIP = IPv4Address("192.0.2.30")
DAILY_VIP = IPv4Address("192.0.2.40")
VIPS = (WEB_VIP, PLAIN_VIP, WORK_VIP, DAILY_VIP)

HTTP_PORT = 80
ECHO_PORT = 7000
WORK_PORT = 7001
WORK_METRICS_PORT = 9200

UDP_FORGET_SECONDS = 6.0
"""When the UDP service forgets a client. Flows send every 0.5 s and are broken after 5 s."""

WEB = "web"
"""The pool with daisy chaining, of the default depth."""
PLAIN = "plain"
"""The same servers and services without daisy chaining: depth 1, the control."""
WORK = "work"
"""Three servers of unequal capacity."""
DAILY = "daily"
"""A pool of defaults, without any setting, for the steps of `BY_DAY`."""

FIRST_SERVERS = (1, 2, 3, 4)
NEWCOMER = 5
CAPACITIES = {1: 1.0, 2: 2.0, 3: 4.0}
"""Capacity of the work service by server number. Only that service knows it."""

TICK_SECONDS = 0.5
SLOW_START_SECONDS = 2.0
DRAIN_TIME_SECONDS = 20.0
"""Longer than any connection of the demo stays open after its bucket has moved."""


@dataclass(frozen=True)
class Amounts:
    """Amounts of traffic and durations.

    ``downloads``, ``idle`` and ``udp`` count the flows of one cohort. One cohort is opened before
    each event and one after it has begun; both stay open for ``hold_seconds`` after the event.
    ``churn_tcp`` and ``churn_udp`` are the flows that are open at any time in `rolling`, each for
    up to ``churn_seconds``.
    """

    spread_connections: int
    downloads: int
    idle: int
    udp: int
    work_flows: int
    hold_seconds: float
    frozen_window_seconds: float
    balance_window_seconds: float
    churn_tcp: int
    churn_udp: int
    churn_seconds: float

    @property
    def tcp(self) -> int:
        """TCP connections of one cohort."""
        return self.downloads + self.idle


FULL = Amounts(
    spread_connections=2000,
    downloads=110,
    idle=100,
    udp=52,
    work_flows=2400,
    hold_seconds=4.0,
    frozen_window_seconds=12.0,
    balance_window_seconds=10.0,
    churn_tcp=200,
    churn_udp=50,
    churn_seconds=12.0,
)
QUICK = Amounts(
    spread_connections=2000,
    downloads=55,
    idle=50,
    udp=26,
    work_flows=2400,
    hold_seconds=0.5,
    frozen_window_seconds=8.0,
    balance_window_seconds=8.0,
    churn_tcp=100,
    churn_udp=25,
    churn_seconds=8.0,
)

CONTROLS = {"join": "join_unchained", "drain": "drain_unchained", "balance": "balance_frozen"}
"""Each control is measured in the same event as the step it belongs to."""

BY_DAY = ("operate", "rolling")
"""Steps of a day of operation, too long for --quick."""
