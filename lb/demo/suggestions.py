"""Commands to try in a network that was kept."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

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


SCRIPT = """#!/bin/sh
# in HOST COMMAND...: run a command in the network namespace of a host of the demo. A command
# `lbctl` gets the settings of that host.
set -eu
host=$1
shift
if [ "$1" = lbctl ]; then
    command=$2
    shift 2
    file={hosts}/$host/agent.toml
    [ -e "$file" ] || file={hosts}/$host/control.toml
    set -- {lbctl} "$command" --config "$file" "$@"
fi
exec nsenter --net="{namespaces}$host" "$@"
"""


def write_script(network: Network) -> Path:
    """Write the script that runs a command on a host of a network; return its path."""
    path = network.record.path / "in"
    router = network[ROUTER].namespace
    text = SCRIPT.format(
        hosts=shlex.quote(str(network.record.path / "hosts")),
        lbctl=shlex.quote(lbctl()),
        namespaces=str(router).removesuffix(ROUTER),
    )
    path.write_text(text, encoding="utf-8")
    return path


def suggested_commands(network: Network) -> list[str]:
    """Return commands with comments, ready to be pasted into the shell that ran the demo.

    They are run by `sh`, because /run may not allow programs.
    """
    # sudo sets SUDO_USER: then the shell that ran the demo belongs to a user who needs sudo.
    root = "sudo " if os.environ.get("SUDO_USER") else ""
    script = f"{root}sh {shlex.quote(str(write_script(network)))}"
    rows = [(what, f"{script} {command}") for what, command in commands()]
    lines = ["", f"The network keeps running, its files are in {network.record.path}. Try:", ""]
    for what, command in rows:
        lines += [f"# {what}", command]
    return [*lines, "", "# remove the network at the end", f"{root}{lbctl()} demo --remove"]


def commands() -> list[tuple[str, str]]:
    """Return what each command shows, and the command, which begins with its host."""
    server, client = server_name(TRIED), client_name(1)
    flow = f"tcp {client_address(1)}:40000 {scenario.WEB_VIP}:{scenario.HTTP_PORT}"
    return [
        ("the servers, as the controller has them", f"{CONTROLLER} lbctl servers"),
        ("the status of an agent", f"{server} lbctl status"),
        ("the buckets of each server", f"{server} lbctl table"),
        ("a counter for every verdict", f"{server} lbctl counters"),
        ("the path of a flow", f"{server} lbctl where {flow}"),
        (
            "a request to the VIP: which server answers?",
            f"{client} curl -s {scenario.WEB_VIP}/hello",
        ),
        (
            "the next packets of VIPs, one by one, for 10 seconds: repeat the request meanwhile",
            f"{server} lbctl trace --seconds 10",
        ),
        ("the router's ECMP route", f"{ROUTER} ip route show {scenario.WEB_VIP}"),
        ("drain a server", f"{CONTROLLER} lbctl drain server2"),
        ("cancel the drain", f"{CONTROLLER} lbctl undrain server2"),
        ("Prometheus metrics", f"{CONTROLLER} curl -s {dip(TRIED)}:9109/metrics"),
        (
            "packets between servers, for 10 seconds: repeat the request meanwhile",
            f"{server} timeout 10 tcpdump -c 10 -ni {INTERFACE} udp port 6080",
        ),
    ]
