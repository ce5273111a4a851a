"""The command `lbctl counters`."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.live import Live
from rich.table import Column, Table

from lb.cli._options import config_option, json_option
from lb.cli._show import show_whole

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lb.dataplane.objects import ServiceEntry
    from lb.dataplane.pinned import PinnedDataplane


def read(dataplane: PinnedDataplane) -> dict[str, Any]:
    """Return all counters as values for JSON."""
    return {
        "verdicts": dataplane.counters(),
        "services": [
            service_row(service, counts) for service, counts in dataplane.service_counters().items()
        ],
    }


def service_row(service: ServiceEntry, counts: tuple[int, int]) -> dict[str, Any]:
    """Return one service's counters; a port of None is any port."""
    from controlplane.domain.objects import protocol_text, vip_text

    return {
        "vip": vip_text(service.vip),
        "protocol": protocol_text(service.protocol),
        "port": service.port,
        "pool": service.pool,
        "packets": counts[0],
        "bytes": counts[1],
    }


def rates(now: Mapping[str, int], before: Mapping[str, int], seconds: float) -> dict[str, float]:
    """Return packets per second by verdict; a counter that went back has started again at zero."""
    return {n: max(0, c - before.get(n, 0)) / seconds for n, c in now.items()}


def render(counters: dict[str, Any], every_second: Mapping[str, float] | None) -> Table:
    """Return a table of the counters that are not zero."""
    from controlplane.domain.objects import port_text
    from lb.agent.report.metrics import program_of

    packets = Column("packets", justify="right")
    table = Table("verdict", "program", packets, box=None, pad_edge=False)
    if every_second is not None:
        table.add_column("per second", justify="right")
    for name, count in counters["verdicts"].items():
        if count:
            rate = [f"{every_second[name]:,.0f}"] if every_second is not None else []
            table.add_row(name, program_of(name), f"{count:,}", *rate)
    for service in counters["services"]:
        vip = f"[{service['vip']}]" if ":" in service["vip"] else service["vip"]
        name = f"{service['protocol']} {vip}:{port_text(service['port'])}"
        table.add_row(name, f"pool {service['pool']}", f"{service['packets']:,}")
    return table


@click.command(
    epilog="Exit codes: 0 success, 1 no programs are pinned here or they cannot be read, 2 wrong "
    "configuration, 130 --watch ended by Ctrl-C."
)
@config_option
@json_option
@click.option("--watch", is_flag=True, help="Continue until interrupted, and show rates.")
@click.option(
    "--interval",
    type=click.FloatRange(0.1, 3600),
    default=1.0,
    show_default=True,
    help="Wait this many seconds between two readings.",
)
def command(config: Path, as_json: bool, watch: bool, interval: float) -> None:
    """Show packets by verdict, and packets and bytes by service.

    Counters start at zero with every `lbctl up`. With --json and --watch, each line is one object.
    """
    from lb.agent.attach.bpffs import pin_name
    from lb.agent.config import load_agent_config
    from lb.dataplane.pinned import PinnedDataplane

    settings = load_agent_config(config)
    directory = settings.bpffs / pin_name(settings.interface)
    with PinnedDataplane(directory) as dataplane:
        counters = read(dataplane)
    if as_json:
        click.echo(json.dumps(counters))
    elif not watch:
        show_whole(render(counters, None))
    if not watch:
        return
    with Live(console=Console(), auto_refresh=False) as live:
        while True:
            time.sleep(interval)
            before = counters["verdicts"]
            with PinnedDataplane(directory) as dataplane:  # a restart makes new pins
                counters = read(dataplane)
            if as_json:
                click.echo(json.dumps(counters))
            else:
                rows = render(counters, rates(counters["verdicts"], before, interval))
                live.update(rows, refresh=True)
