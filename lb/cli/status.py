"""Show how this server's agent is: alive, ready, generations, health, and what is wrong."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import click

from lb.cli._options import config_option, json_option
from lb.cli._show import show_whole


def lines_of(status: dict[str, Any], now: float) -> list[tuple[str, str]]:
    """Return what to say of a status, label and text."""
    lines = [("server", f"{status['server']}, DIP {status['dip']} on {status['interface']}")]
    if status["agent_running"]:
        lines.append(("agent", f"running, process {status['agent_pid']}"))
    else:
        since = now - status["written_at"]
        lines.append(
            ("agent", f"NOT RUNNING, last heard of {since:.0f} s ago; what follows is old")
        )
    attached = f"attached, {status['xdp_mode']} XDP" if status["attached"] else "NOT ATTACHED"
    lines.append(("programs", attached))
    if status.get("trace"):
        lines.append(("trace", "ON, each packet costs more: lbctl trace --off, if none runs"))
    ready = "ready" if status["ready"] else "not ready: no traffic is asked for"
    state = f"the controller calls it {status['state']}" if status["state"] else "no documents yet"
    lines.append(("state", f"{ready}; {state}"))
    for kind, generation in sorted(status["generations"].items()):
        age = now - status["since"].get(kind, now)
        lines.append((kind, f"generation {generation}, in use for {age:.0f} s"))
    lines.append(("documents from", status["source"] or "nowhere yet"))
    lines.append(("store", f"{status['store']}, {_contact(status['last_contact'], now)}"))
    lines.append(("VIPs", " ".join(status["vips"]) or "none"))
    if status.get("mss_room"):
        own = ", this server's own connections too: VIPs are many"
        text = f"lowered by {status['mss_room']} bytes for the wrap"
        lines.append(("MSS", text + (own if status.get("mss_of_all") else "")))
    load = "unknown" if status["load"] is None else f"{status['load']:.0%}"
    lines.append(("load", f"{load}, {status['connections']} connections on VIPs"))
    for name, check in status["checks"].items():
        text = "healthy" if check["healthy"] else f"UNHEALTHY: {check['reason']}"
        lines.append((f"check {name}", text))
    if status["neighbours_unresolved"]:
        text = f"{status['neighbours_unresolved']} DIPs without a next-hop MAC (sent to the router)"
        lines.append(("neighbours", text))
    lines += [
        (f"refused {item['kind']}", f"{item['count']} times: {item['reason']}")
        for item in status["refused"]
    ]
    lines += [("TROUBLE", text) for text in status["troubles"].values()]
    return lines


def _contact(last: float | None, now: float) -> str:
    return "never answered" if last is None else f"last answered {max(0.0, now - last):.0f} s ago"


@click.command(epilog="Exit codes: 0 told, 1 there is nothing to tell: no agent ever ran here.")
@config_option
@json_option
def command(config: Path, as_json: bool) -> None:
    """Show how this server's agent is: alive, ready, generations, health, and what is wrong.

    Reads what the agent last wrote, and asks the kernel whether it still runs.
    """
    from controlplane.domain.errors import BrigadeError
    from lb.agent.attach.trace_swap import is_on
    from lb.agent.config import load_agent_config
    from lb.agent.machine.lock import find_holder
    from lb.agent.report.status_file import read_status

    settings = load_agent_config(config)
    try:
        status = read_status(settings.run_dir)
    except (OSError, ValueError) as error:
        raise BrigadeError(f"{settings.run_dir}: the status cannot be read: {error}") from error
    if status is None:
        raise BrigadeError(f"no agent's status in {settings.run_dir}: start one with lbctl up")
    holder = find_holder(settings.interface)
    status["agent_running"] = holder is not None
    status["agent_pid"] = holder.pid if holder else None
    status["trace"] = is_on(settings)
    if as_json:
        click.echo(json.dumps(status))
        return
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    for label, text in lines_of(status, time.time()):
        grid.add_row(Text(label, style="bold"), Text(text))
    show_whole(grid)
