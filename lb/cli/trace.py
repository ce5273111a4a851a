"""The command `lbctl trace`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lb.cli._options import config_option, json_option

if TYPE_CHECKING:
    from lb.trace.event import Event, NameOf
    from lb.trace.explain import Place


@click.command(
    epilog="Example: lbctl trace --client 198.51.100.7 --verdict 'drop_*'. During a trace, the "
    "agent's programs are replaced by the same programs with reporting, and restored at the end. "
    "Each replacement is one step, and drops or changes no packet. Exit codes: 0 success, 1 failed "
    "(no programs here, programs of another version, or replaced during the trace), 2 wrong usage "
    "or configuration, 3 another trace runs, 130 ended by Ctrl-C or SIGTERM."
)
@click.option("--vip", metavar="ADDRESS|PREFIX", help="Show only packets to this VIP.")
@click.option("--client", metavar="ADDRESS|PREFIX", help="Show only packets of this client.")
@click.option(
    "--protocol",
    type=click.Choice(["tcp", "udp", "icmp"]),
    help="Show only this protocol.",
)
@click.option(
    "--port", type=click.IntRange(0, 65535), help="Show only packets to this port of a VIP."
)
@click.option(
    "--verdict",
    "verdicts",
    metavar="NAME",
    multiple=True,
    help="Show only packets with this verdict; 'drop_*' is a pattern. Can be repeated. The "
    "default is every verdict except those of packets for no VIP.",
)
@click.option(
    "--count",
    type=click.IntRange(1),
    default=100,
    show_default=True,
    help="Stop after this many packets.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(0.1, 3600),
    default=60.0,
    show_default=True,
    help="Stop after this many seconds.",
)
@click.option("--off", is_flag=True, help="Remove what a killed trace left, and do nothing else.")
@config_option
@json_option
def command(
    *,
    vip: str | None,
    client: str | None,
    protocol: str | None,
    port: int | None,
    verdicts: tuple[str, ...],
    count: int,
    seconds: float,
    off: bool,
    config: Path,
    as_json: bool,
) -> None:
    """Show packets one by one: what the programs did with each, and why.

    With --json, each line is one object.
    """
    from lb.agent.config import load_agent_config
    from lb.trace.event import as_data, line
    from lb.trace.filters import Filter, parse_network, wanted_counters
    from lb.trace.run import Limits, run_trace, switch_off

    settings = load_agent_config(config)
    if off:
        click.echo("removed the trace" if switch_off(settings) else "no trace is active")
        return
    wanted = Filter(
        counters=wanted_counters(verdicts),
        vip=parse_network(vip) if vip else None,
        client=parse_network(client) if client else None,
        protocol=protocol,
        port=port,
    )

    def show(event: Event, place: Place | None, name: NameOf) -> None:
        if as_json:
            click.echo(json.dumps(as_data(event, place, name)))
        else:
            click.echo(line(event, place, name))

    def log(text: str) -> None:
        click.echo(text, err=True)

    run_trace(settings, wanted, Limits(count, seconds), show, log)
