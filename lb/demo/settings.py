"""The configuration files that the demo writes: what a person would write for these servers."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import IPv4Address
from pathlib import Path

from controlplane.domain.store_url import file_url
from lb.demo import plan
from lb.demo.site import nginx, worker
from netns.brigade import INTERFACE, controller_address, dip, server_name
from netns.host import Host


def agent_toml(number: int, host: Host, store: Path, router_socket: Path) -> str:
    """Return the agent's settings of this server."""
    announce = [sys.executable, "-m", "lb.demo.site.routes", "--socket", str(router_socket)]
    address = str(dip(number))
    lines = [
        *_keys(
            {
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
        ),
    ]
    if number in plan.CAPACITIES:
        load: Mapping[str, object] = {
            "source": "metric",
            "url": f"http://127.0.0.1:{plan.WORKER_METRICS_PORT}/metrics",
            "metric": worker.BUSY_METRIC,
            "kind": "counter",
            "window_seconds": 2.0,
        }
    else:
        load = {"source": "none"}
    return "\n".join([*lines, "", "[load]", *_keys(load), ""])


def control_toml(store: Path, servers: Iterable[int], work_balance: str) -> str:
    """Return the controller's settings; `work_balance` is `equal` or `load`."""
    top = _keys(
        {
            "store": file_url(store),
            "probers": [str(controller_address())],
            "tick_seconds": plan.TICK_SECONDS,
            "slow_start_seconds": plan.SLOW_START_SECONDS,
            "log_format": "json",
        }
    )
    sections = [
        *(_section("server", _server(number)) for number in servers),
        _section("pool", _pool(plan.WEB, 2, "equal")),
        _section("pool", _pool(plan.PLAIN, 1, "equal")),
        # Capacities of 1:2:4 need shares beyond 1.5 times the mean: no cap.
        _section("pool", {**_pool(plan.WORK, 2, work_balance), "cap": 0.0}),
        *_web_services(plan.WEB, plan.WEB_VIP),
        *_web_services(plan.PLAIN, plan.PLAIN_VIP),
        _section(
            "service",
            {
                **_service("work", plan.WORK_VIP, "udp", plan.WORK_PORT, plan.WORK),
                "stateless": True,
            },
        ),
    ]
    return "\n".join([*top, *sections])


def _server(number: int) -> dict[str, object]:
    pools = [plan.WEB, plan.PLAIN, *([plan.WORK] if number in plan.CAPACITIES else [])]
    return {"name": server_name(number), "dip": str(dip(number)), "pools": pools}


def _pool(name: str, depth: int, balance: str) -> dict[str, object]:
    return {
        "name": name,
        "depth": depth,
        "balance": balance,
        "drain_time_seconds": plan.DRAIN_TIME_SECONDS,
    }


def _service(name: str, vip: IPv4Address, protocol: str, port: int, pool: str) -> dict[str, object]:
    return {"name": name, "vip": str(vip), "protocol": protocol, "port": port, "pool": pool}


def _web_services(pool: str, vip: IPv4Address) -> list[str]:
    check = ["", "[service.check]", *_keys({"type": "http", "path": nginx.HEALTH_PATH}), ""]
    return [
        _section("service", _service(f"{pool}-http", vip, "tcp", plan.HTTP_PORT, pool)),
        *check,
        _section("service", _service(f"{pool}-echo", vip, "udp", plan.ECHO_PORT, pool)),
    ]


def _section(name: str, keys: Mapping[str, object]) -> str:
    return "\n".join(["", f"[[{name}]]", *_keys(keys)])


def _keys(values: Mapping[str, object]) -> list[str]:
    # Text, numbers, booleans and lists of text look in TOML as they do in JSON.
    return [f"{key} = {json.dumps(value)}" for key, value in values.items()]


def worker_command(number: int, unit_ms: float) -> Sequence[str]:
    """Return the command of the work service on this server: here, and only here, its capacity."""
    return [
        sys.executable, "-m", "lb.demo.site.worker",
        "--name", server_name(number),
        "--address", str(plan.WORK_VIP),
        "--port", str(plan.WORK_PORT),
        "--unit-ms", str(unit_ms),
        "--capacity", str(plan.CAPACITIES[number]),
        "--metrics-port", str(plan.WORKER_METRICS_PORT),
    ]  # fmt: skip


def echo_command(number: int) -> Sequence[str]:
    """Return the command of the UDP service on this server."""
    addresses = [f"--address={vip}" for vip in (plan.WEB_VIP, plan.PLAIN_VIP)]
    name = server_name(number)
    port = str(plan.ECHO_PORT)
    return [
        sys.executable,
        "-m",
        "lb.demo.site.udp_server",
        "--name",
        name,
        "--port",
        port,
        *addresses,
    ]
