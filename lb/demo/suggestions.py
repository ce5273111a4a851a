"""Commands to try in a network that was kept."""

from __future__ import annotations

import shlex

from lb.demo import scenario
from lb.demo.site.site import lbctl
from netns.brigade import (
    CONTROLLER,
    INTERFACE,
    ROUTER,
    client_address,
    client_name,
    dip,
    server_name,
)
from netns.network import Network

TRIED = 1
"""The server to look at: no step stops it."""


def suggested_commands(network: Network) -> list[str]:
    """Return ten commands with comments, ready to be pasted into a root shell."""
    server = network[server_name(TRIED)]
    agent_file, control_file = server.base / "agent.toml", network[CONTROLLER].base / "control.toml"
    fetch = "exec 3<>/dev/tcp/{}/{}; printf 'GET {} HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3"
    hello = fetch.format(scenario.WEB_VIP, scenario.HTTP_PORT, "/hello")
    metrics = fetch.format(dip(TRIED), 9109, "/metrics")
    flow = f"tcp {client_address(1)}:40000 {scenario.WEB_VIP}:{scenario.HTTP_PORT}"
    on_server = _inside(network, server.name)
    on_client, on_router = _inside(network, client_name(1)), _inside(network, ROUTER)
    on_controller = _inside(network, CONTROLLER)
    ctl = shlex.quote(lbctl())
    many = f"sleep 1; for i in {{1..50}}; do {hello}; done"
    requests = f"{on_client} bash -c {shlex.quote(many)} >/dev/null"
    capture = f"{on_server} timeout 10 tcpdump -c 10 -ni {INTERFACE} udp port 6080"
    rows = [
        ("the status of an agent", f"{on_server} {ctl} status --config {agent_file}"),
        ("the buckets of each server", f"{on_server} {ctl} table --config {agent_file}"),
        ("a counter for every verdict", f"{on_server} {ctl} counters --config {agent_file}"),
        ("the path of a flow", f"{on_server} {ctl} where --config {agent_file} {flow}"),
        (
            "a request to the VIP: which server answers?",
            f"{on_client} bash -c {shlex.quote(hello)}",
        ),
        ("the router's ECMP route", f"{on_router} ip route show {scenario.WEB_VIP}"),
        ("drain a server", f"{on_controller} {ctl} drain server2 --config {control_file}"),
        ("cancel the drain", f"{on_controller} {ctl} undrain server2 --config {control_file}"),
        ("Prometheus metrics", f"{on_controller} bash -c {shlex.quote(metrics)}"),
        ("packets between servers during requests of a client", f"{requests} & {capture}"),
    ]
    lines = ["", f"The network keeps running, its files are in {network.record.path}. Try:", ""]
    for what, command in rows:
        lines += [f"# {what}", command]
    return [*lines, "", "# remove the network at the end", f"{ctl} demo --remove"]


def _inside(network: Network, host: str) -> str:
    return f"nsenter --net={network[host].namespace}"
