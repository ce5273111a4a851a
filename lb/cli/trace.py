"""Show packets one by one: what the programs did with each, and why it goes where it goes."""

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
    epilog="Example: lbctl trace --client 198.51.100.7 --verdict 'drop_*'. The agent's programs "
    "are replaced, in one step each, by the same ones that also tell of packets, and put back at "
    "the end: nothing is dropped or changed by it. Exit codes: 0 told, 1 failed (no programs here, "
    "of another version, replaced meanwhile), 2 wrong usage or configuration, 3 somebody else "
    "traces, 130 ended by Ctrl-C or SIGTERM."
)
@click.option("--vip", metavar="ADDRESS|PREFIX", help="Packets to this VIP.")
@click.option("--client", metavar="ADDRESS|PREFIX", help="Packets of this client.")
@click.option("--protocol", type=click.Choice(["tcp", "udp", "icmp"]), help="Only these.")
@click.option("--port", type=click.IntRange(0, 65535), help="Packets to this port of a VIP.")
@click.option(
    "--verdict",
    "verdicts",
    metavar="NAME",
    multiple=True,
    help="Packets that this counter counts, or these: 'drop_*'. More than once. "
    "[default: all but those that are for no VIP]",
)
@click.option("--count", type=click.IntRange(1), default=100, show_default=True, help="So many.")
@click.option(
    "--seconds",
    type=click.FloatRange(0.1, 3600),
    default=60.0,
    show_default=True,
    help="At most so long.",
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
    """Show packets one by one: what the programs did with each, and why it goes where it goes.

    With --json: one object a line.
    """
    from lb.agent.config import load_agent_config
    from lb.trace.event import as_data, line
    from lb.trace.filters import Filter, parse_network, wanted_counters
    from lb.trace.run import Limits, run_trace, switch_off

    settings = load_agent_config(config)
    if off:
        click.echo("removed the trace" if switch_off(settings) else "no trace is on")
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

    def say(text: str) -> None:
        click.echo(text, err=True)

    run_trace(settings, wanted, Limits(count, seconds), show, say)
