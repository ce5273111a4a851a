"""The command `lbctl counters`."""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Column, Table

from lb.cli._options import config_option, json_option
from lb.cli._show import show_whole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from lb.dataplane.objects import ServiceEntry
    from lb.dataplane.pinned import PinnedDataplane


def read(dataplane: PinnedDataplane) -> dict[str, Any]:
    """Return all counters as values for JSON."""
    return {
        "verdicts": dataplane.counters(),
        "resets": dataplane.reset_counts()._asdict(),
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

    headings = ("packets", "bytes") if every_second is None else ("packets", "per second", "bytes")
    columns = (Column(heading, justify="right") for heading in headings)
    table = Table("verdict", "program", *columns, box=None, pad_edge=False)
    for name, count in counters["verdicts"].items():
        if count:
            rate = [f"{every_second[name]:,.0f}"] if every_second is not None else []
            table.add_row(name, program_of(name), f"{count:,}", *rate)
    for name, count in counters["resets"].items():
        if count:
            rate = [] if every_second is None else [""]
            table.add_row(f"reset_{name}", "egress", f"{count:,}", *rate)
    for service in counters["services"]:
        vip = f"[{service['vip']}]" if ":" in service["vip"] else service["vip"]
        name = f"{service['protocol']} {vip}:{port_text(service['port'])}"
        row = [escape(name), f"pool {service['pool']}", f"{service['packets']:,}"]
        rate = [] if every_second is None else [""]
        table.add_row(*row, *rate, f"{service['bytes']:,}")
    return table


@contextmanager
def shown_in_place() -> Iterator[Callable[[Table], None]]:
    """Yield what shows each new table: in the place of the last one on a terminal, else below it.

    Into a pipe or a file, a display that is redrawn would be written only once, at its end.
    """
    console = Console()
    if not console.is_terminal:
        yield partial(show_whole, console=console)
        return
    with Live(console=console, auto_refresh=False) as live:
        yield partial(live.update, refresh=True)


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
    with shown_in_place() as show:
        while True:
            time.sleep(interval)
            before = counters["verdicts"]
            with PinnedDataplane(directory) as dataplane:  # a restart makes new pins
                counters = read(dataplane)
            if as_json:
                click.echo(json.dumps(counters))
            else:
                show(render(counters, rates(counters["verdicts"], before, interval)))
