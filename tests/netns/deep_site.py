"""The demo's machines with deeper pools: what `lbctl control` is told, and one service more."""

from __future__ import annotations

import sys
from pathlib import Path

from lb.demo import scenario
from lb.demo.site import nginx
from lb.demo.site.site import Site
from netns.brigade import controller_address, dip, server_name

LOOKUP_PORT = 7002
"""A UDP service of the pool `web` that is `stateless`; its server connects sockets all the same."""
DEPTHS = {scenario.WEB: 4, scenario.PLAIN: 2}
VIPS = {scenario.WEB: scenario.WEB_VIP, scenario.PLAIN: scenario.PLAIN_VIP}


class DeepSite(Site):
    """Pool `web` has chains of four, `plain` of two; servers and services are alike."""

    def write_settings(self) -> None:
        """Write the controller's settings."""
        self.control_file.write_text(control_toml(self.network.store_dir), encoding="utf-8")

    def start_services(self, number: int) -> None:
        """Start what the demo's servers run, and the lookup service."""
        super().start_services(number)
        words = ["--name", server_name(number), "--port", str(LOOKUP_PORT)]
        command = [sys.executable, "-m", "lb.demo.site.udp_server", *words]
        address = f"--address={scenario.WEB_VIP}"
        host = self.server(number)
        self.running[number]["lookup"] = host.popen([*command, address], "lookup")


def control_toml(store: Path) -> str:
    """Return the controller's settings.

    A hop is protected for a short while, so that shares are equal again soon after a test, and
    nothing is forgotten while a test lasts.
    """
    text = f"""
store = "file:{store}"
probers = ["{controller_address()}"]
tick_seconds = 0.25
slow_start_seconds = 0
log_format = "json"
"""
    for number in scenario.FIRST_SERVERS:
        text += f'[[server]]\nname = "{server_name(number)}"\ndip = "{dip(number)}"\n'
    for pool, depth in DEPTHS.items():
        text += f"""
[[pool]]
name = "{pool}"
depth = {depth}
balance = "equal"
cap = 0
drain_time_seconds = 2
forget_after_seconds = 120
"""
        text += service(f"{pool}-http", pool, "tcp", scenario.HTTP_PORT)
        text += f'[service.check]\ntype = "http"\npath = "{nginx.HEALTH_PATH}"\n'
        text += service(f"{pool}-echo", pool, "udp", scenario.ECHO_PORT)
    return text + service("lookup", scenario.WEB, "udp", LOOKUP_PORT) + "stateless = true\n"


def service(name: str, pool: str, protocol: str, port: int) -> str:
    """Return a service's section."""
    return f"""
[[service]]
name = "{name}"
vip = "{VIPS[pool]}"
protocol = "{protocol}"
port = {port}
pool = "{pool}"
"""
