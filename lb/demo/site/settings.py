"""Settings files and service commands of the demo, as a person would write them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import IPv4Address
from pathlib import Path

from controlplane.domain.store_url import file_url
from lb.demo import scenario
from lb.demo.site import nginx, work_service
from netns.brigade import INTERFACE, controller_address, dip, server_name
from netns.host import Host


def agent_toml(number: int, host: Host, store: Path, router_socket: Path) -> str:
    """Return the settings of this server's agent."""
    announce = [sys.executable, "-m", "lb.demo.site.router", "--socket", str(router_socket)]
    address = str(dip(number))
    top = {
        "name": server_name(number),
        "interface": INTERFACE,
        "dip": address,
        "store": file_url(store),
        "state_dir": str(host.state_dir),
        "run_dir": str(host.run_dir),
        "bpffs": str(host.bpffs),
        "log_format": "json",
        "on_ready": [*announce, "--announce", address],
        "on_withdraw": [*announce, "--withdraw", address],
    }
    if number in scenario.CAPACITIES:
        load: Mapping[str, object] = {
            "source": "metric",
            "url": f"http://127.0.0.1:{scenario.WORK_METRICS_PORT}/metrics",
            "metric": work_service.BUSY_METRIC,
            "kind": "counter",
            "window_seconds": 2.0,
        }
    else:
        load = {"source": "none"}
    return "\n".join([*_keys(top), "", "[load]", *_keys(load), ""])


QUICK_TIMING = {
    "tick_seconds": scenario.TICK_SECONDS,
    "slow_start_seconds": scenario.SLOW_START_SECONDS,
}
"""So that the steps of the demo do not take minutes."""


def control_toml(
    store: Path,
    servers: Iterable[int],
    work_balance: str,
    *,
    daily: bool = False,
    default_timing: bool = False,
) -> str:
    """Return the controller's settings; `work_balance` is `equal` or `load`.

    ``daily``: with the pool of defaults. ``default_timing``: with the default tick and slow start.
    """
    top = _keys(
        {
            "store": file_url(store),
            "probers": [str(controller_address())],
            **({} if default_timing else QUICK_TIMING),
            "log_format": "json",
        }
    )
    sections = [
        *(_section("server", _server(number, daily=daily)) for number in servers),
        _section("pool", _pool(scenario.WEB, "equal")),
        _section("pool", {**_pool(scenario.PLAIN, "equal"), "depth": 1}),
        # Capacities of 1:2:4 need shares above 1.5 times the mean, so there is no cap.
        # Rolling restarts drain one of its three servers while another one is in slow start.
        _section("pool", {**_pool(scenario.WORK, work_balance), "cap": 0.0, "min_active": 0.0}),
        *_web_services(scenario.WEB, scenario.WEB_VIP),
        *_web_services(scenario.PLAIN, scenario.PLAIN_VIP),
        _section(
            "service",
            {
                **_service("work", scenario.WORK_VIP, "udp", scenario.WORK_PORT, scenario.WORK),
                "stateless": True,
            },
        ),
    ]
    if daily:
        sections.append(_section("pool", {"name": scenario.DAILY}))
        sections += _web_services(scenario.DAILY, scenario.DAILY_VIP)
    return "\n".join([*top, *sections])


def _server(number: int, *, daily: bool) -> dict[str, object]:
    pools = [
        scenario.WEB,
        scenario.PLAIN,
        *([scenario.WORK] if number in scenario.CAPACITIES else []),
        *([scenario.DAILY] if daily else []),
    ]
    return {"name": server_name(number), "dip": str(dip(number)), "pools": pools}


def _pool(name: str, balance: str) -> dict[str, object]:
    return {
        "name": name,
        "balance": balance,
        "drain_time_seconds": scenario.DRAIN_TIME_SECONDS,
    }


def _service(name: str, vip: IPv4Address, protocol: str, port: int, pool: str) -> dict[str, object]:
    return {"name": name, "vip": str(vip), "protocol": protocol, "port": port, "pool": pool}


def _web_services(pool: str, vip: IPv4Address) -> list[str]:
    check = ["", "[service.check]", *_keys({"type": "http", "path": nginx.HEALTH_PATH}), ""]
    return [
        _section("service", _service(f"{pool}-http", vip, "tcp", scenario.HTTP_PORT, pool)),
        *check,
        _section("service", _service(f"{pool}-echo", vip, "udp", scenario.ECHO_PORT, pool)),
    ]


def _section(name: str, keys: Mapping[str, object]) -> str:
    return "\n".join(["", f"[[{name}]]", *_keys(keys)])


def _keys(values: Mapping[str, object]) -> list[str]:
    # For text, numbers, booleans and lists of text, JSON is valid TOML.
    return [f"{key} = {json.dumps(value)}" for key, value in values.items()]


def work_command(number: int, unit_ms: float) -> Sequence[str]:
    """Return the command of the work service on this server; only this has its capacity."""
    return [
        sys.executable, "-m", "lb.demo.site.work_service",
        "--name", server_name(number),
        "--address", str(scenario.WORK_VIP),
        "--port", str(scenario.WORK_PORT),
        "--unit-ms", str(unit_ms),
        "--capacity", str(scenario.CAPACITIES[number]),
        "--metrics-port", str(scenario.WORK_METRICS_PORT),
    ]  # fmt: skip


def echo_command(number: int) -> Sequence[str]:
    """Return the command of the UDP service on this server."""
    vips = (scenario.WEB_VIP, scenario.PLAIN_VIP, scenario.DAILY_VIP)
    addresses = [f"--address={vip}" for vip in vips]
    options = [
        f"--name={server_name(number)}",
        f"--port={scenario.ECHO_PORT}",
        f"--forget-seconds={scenario.UDP_FORGET_SECONDS}",
    ]
    return [sys.executable, "-m", "lb.demo.site.udp_server", *options, *addresses]
