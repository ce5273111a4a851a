"""What it costs to look at everything, with many VIPs and services."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

from netns import brigade
from netns.network import Network
from netns.polling import wait_until
from tests.netns import talk
from tests.netns.agent_helpers import PORT, Fleet, cluster, service, table
from tests.netns.field.watched import ACTIVE, START_SECONDS

VIPS = [IPv4Address("192.0.2.10") + number for number in range(50)]
BOUND_SECONDS = 0.005


def test_a_look_at_fifty_vips_takes_less_than_five_milliseconds() -> None:
    """CPU time: the machine of a test may be busy with other things."""
    services = [replace(service(vip), name=f"s{n}") for n, vip in enumerate(VIPS)]
    services += [
        replace(service(), name=f"p{n}", vip=IPv4Network(f"198.18.{n}.0/24")) for n in range(5)
    ]
    with Network(brigade.brigade(1, 1, VIPS)) as network:
        fleet = Fleet(network)
        fleet.publish(cluster(1, ACTIVE[:1], services))
        fleet.publish(table(1, [1, 0]))
        talk.serve_tcp(fleet.host(1), [PORT])
        fleet.up(1)
        wait_until(lambda: fleet.ready(1), "ready", START_SECONDS)
        seen: list[float] = []

        def looked_ten_times() -> bool:
            found = float(fleet.status(1)["watch_seconds"])
            if found and found not in seen:
                seen.append(found)
            return len(seen) >= 10

        wait_until(looked_ten_times, "ten looks", START_SECONDS)
        assert sorted(seen)[len(seen) // 2] < BOUND_SECONDS, seen
        assert fleet.status(1)["repairs"].keys() >= {"vips", "sysctls", "forwarder", "pins"}
        assert not any(topic.startswith("watch") for topic in fleet.status(1)["troubles"])
