"""The command `lbctl where`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lb.cli._options import config_option, json_option

if TYPE_CHECKING:
    from controlplane.domain.objects import Server
    from lb.where import Answer

MEANINGS = (
    ("pass_local", "delivered here: this server is current and there is no later hop"),
    (
        "pass_to_self",
        "encapsulated for this server itself: its redirector decides whether to deliver or pass on",
    ),
    ("tx_forward", "encapsulated and sent to {first}"),
    ("tx_forward_chain", "encapsulated and sent to {first}, with {later} as later hop"),
    ("pass_no_service", "matches no service: passed to this server's own network stack"),
    ("drop_no_table", "dropped: the service's pool has no table here"),
    ("drop_no_bucket", "dropped: the bucket is empty"),
    ("drop_no_dip", "dropped: the chain names an unknown server"),
    ("drop_spoofed", "dropped: its source is this server's own address"),
)


def name_of(hop: Server | int) -> str:
    """Return a hop as text for people."""
    return f"index {hop}" if isinstance(hop, int) else f"{hop.name} ({hop.dip}, {hop.state.value})"


def as_data(answer: Answer) -> dict[str, Any]:
    """Return the answer as values for JSON."""

    def hop(server: Server | int) -> dict[str, Any]:
        if isinstance(server, int):
            return {"index": server, "server": None, "dip": None, "state": "unknown"}
        return {
            "index": server.index,
            "server": server.name,
            "dip": str(server.dip),
            "state": server.state.value,
        }

    return {
        "service": answer.service.name if answer.service else None,
        "pool": answer.service.pool if answer.service else None,
        "hash": None if answer.flow_hash is None else f"{answer.flow_hash:016x}",
        "bucket": answer.bucket,
        "source_port": answer.source_port,
        "chain": [hop(server) for server in answer.chain],
        "visits": [hop(server) for server in answer.visits],
        "verdict": answer.verdict,
    }


def describe(answer: Answer) -> str:
    """Describe in a sentence what this server would do."""
    names = [name_of(hop) for hop in answer.visits]
    meaning = dict(MEANINGS)[answer.verdict]
    return meaning.format(first=names[0] if names else "", later=", then ".join(names[1:]))


@click.command(
    epilog="Example: lbctl where tcp 198.51.100.7:40000 192.0.2.10:80. It reads the documents "
    "that this server last used, so it also works while the agent is stopped. Exit codes: 0 "
    "success, 1 no documents here, 2 wrong flow or wrong configuration."
)
@click.argument("protocol", type=click.Choice(["tcp", "udp"]))
@click.argument("source", metavar="SOURCE:PORT")
@click.argument("destination", metavar="VIP:PORT")
@config_option
@json_option
def command(protocol: str, source: str, destination: str, config: Path, as_json: bool) -> None:
    """Show a flow's bucket and chain, and the verdict of this server."""
    from lb.agent.config import load_agent_config
    from lb.agent.documents.last_good import load_last_good
    from lb.where import parse_flow, where

    flow = parse_flow(protocol, source, destination)
    settings = load_agent_config(config)
    saved = load_last_good(settings, with_keys=True)
    answer = where(flow, saved.cluster, saved.tables, saved.keys, settings.dip)
    if as_json:
        click.echo(json.dumps(as_data(answer)))
        return
    click.echo(f"flow     {protocol} {source} -> {destination}")
    if answer.service:
        click.echo(f"service  {answer.service.name}, pool {answer.service.pool}")
    if answer.bucket is not None:
        buckets = saved.tables[answer.service.pool].buckets if answer.service else 0
        click.echo(f"bucket   {answer.bucket} of {buckets}, hash {answer.flow_hash:016x}")
        click.echo(f"chain    {' > '.join(name_of(hop) for hop in answer.chain) or 'empty'}")
        click.echo(f"visits   {', then '.join(name_of(hop) for hop in answer.visits)}")
    click.echo(f"here     {answer.verdict}: {describe(answer)}")
