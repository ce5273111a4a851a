"""The command `lbctl status`."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import click
from rich.table import Table
from rich.text import Text

from lb.cli._options import config_option, json_option
from lb.cli._show import show_whole
from lb.cli._strays import connections_text, count_of, strays_text

NOT_ATTACHED = "NOT ATTACHED: VIP packets that arrive here are not forwarded"
OLD_SECONDS = 5.0
"""Agents write their status every second. One that did not for so long is suspended, or hangs."""


def lines_of(status: dict[str, Any], now: float) -> list[tuple[str, str]]:
    """Return the lines that show a status, each a label and a text."""
    lines = [("server", f"{status['server']}, DIP {status['dip']} on {status['interface']}")]
    lines.append(("agent", _agent(status, now)))
    attached = f"attached, {status['xdp_mode']} XDP" if status["attached"] else NOT_ATTACHED
    lines.append(("programs", attached))
    if status.get("trace"):
        lines.append(("trace", "ON, packets cost more; if no trace runs, use lbctl trace --off"))
    ready = "ready" if status["ready"] else "not ready for traffic"
    lines.append(("state", f"{ready}; {_state(status)}"))
    for kind, generation in sorted(status["generations"].items()):
        age = now - status["since"].get(kind, now)
        lines.append((kind, f"generation {generation}, in use for {age:.0f} s"))
    lines.append(("documents from", status["source"] or "no source yet"))
    lines.append(("store", f"{status['store']}, {_contact(status['last_contact'], now)}"))
    lines.append(("VIPs", " ".join(status["vips"]) or "none"))
    if status.get("mss_room"):
        own = ", also for this server's own connections: there are many VIPs"
        text = f"lowered by {status['mss_room']} bytes for the encapsulation"
        lines.append(("MSS", text + (own if status.get("mss_of_all") else "")))
    load = "unknown" if status["load"] is None else f"{status['load']:.0%}"
    lines.append(("load", f"{load}, {status['connections']} connections on VIPs"))
    lines += _broken(status)
    lines += _strays(status)
    lines += _orphans(status)
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
    lines += [
        (f"put back {what}", f"{count} times since the agent started")
        for what, count in sorted(status.get("repairs", {}).items())
        if count
    ]
    lines += [("TROUBLE", text) for text in status["troubles"].values()]
    return lines


def _agent(status: dict[str, Any], now: float) -> str:
    """Return whether the agent runs, and whether this status is its own and of now."""
    pid, since = status["agent_pid"], f"{now - status['written_at']:.0f} s ago"
    if not status["agent_running"]:
        return f"NOT RUNNING, last status {since}; the lines below are old"
    if pid != status["pid"]:
        return f"STARTING, process {pid}; the lines below are of the agent before, {since}"
    if now - status["written_at"] > OLD_SECONDS:
        return f"process {pid} DOES NOTHING, last status {since}; the lines below are old"
    return f"running, process {pid}"


def _state(status: dict[str, Any]) -> str:
    """Return how the controller lists this machine, or whose state that is."""
    if not status["state"]:
        return "no documents yet"
    if status.get("listed_dip"):
        other = f"the machine with DIP {status['listed_dip']}"
    elif status.get("twin"):
        other = "another machine that reports under this name"
    else:
        return f"the controller lists it as {status['state']}"
    return (
        f"THIS MACHINE IS IGNORED: the controller lists {other} as {status['server']}, "
        f"{status['state']}"
    )


def _broken(status: dict[str, Any]) -> list[tuple[str, str]]:
    """Return how many connections of this server are known to be broken."""
    cut, held = count_of(status.get("strays_total", ())), status.get("held_total", 0)
    if not cut and not held:
        return [("broken", "0 connections since the agent started")]
    if not held:
        return []  # the lines about strays have it
    count = connections_text(held)
    return [("BROKEN", f"{count} here answered with a reset by other servers")]


def _strays(status: dict[str, Any]) -> list[tuple[str, str]]:
    """Return a line about connections that are cut off, if there are or were some."""
    now, total = status.get("strays", ()), status.get("strays_total", ())
    lines = []
    if now:
        count = connections_text(count_of(now))
        lines.append(("STRAYS", f"{count} that no table leads to ({strays_text(now)})"))
    if total:
        count = connections_text(count_of(total))
        lines.append(("cut off", f"{count} since the agent started ({strays_text(total)})"))
    return lines


def _orphans(status: dict[str, Any]) -> list[tuple[str, str]]:
    """Return a line about flows whose segments had nowhere to go here, if there were some."""
    total = status.get("orphans_total", ())
    if not total:
        return []
    by_kind = strays_text(total, by="kind")
    count = connections_text(count_of(total))
    return [("orphans", f"{count} had no socket here since the agent started ({by_kind})")]


def _contact(last: float | None, now: float) -> str:
    return "never answered" if last is None else f"last answered {max(0.0, now - last):.0f} s ago"


@click.command(
    epilog="Exit codes: 0 success, 1 no status here or it cannot be read, 2 wrong configuration."
)
@config_option
@json_option
def command(config: Path, as_json: bool) -> None:
    """Show the state of this server's agent.

    The command reads the last status that the agent wrote, checks whether the agent still runs, and
    looks at the interface whether the programs are on it.
    """
    from controlplane.domain.errors import BrigadeError
    from lb.agent.attach.on_interface import are_attached
    from lb.agent.attach.trace_swap import is_on
    from lb.agent.config import load_agent_config
    from lb.agent.machine.lock import find_holder
    from lb.agent.report.status_file import read_status

    settings = load_agent_config(config)
    try:
        status = read_status(settings.run_dir)
    except (OSError, ValueError) as error:
        raise BrigadeError(f"{settings.run_dir}: the status cannot be read: {error}") from error
    holder = find_holder(settings.interface)
    if status is None:
        starts = f"process {holder.pid} is starting" if holder else "start the agent with lbctl up"
        raise BrigadeError(f"no agent status in {settings.run_dir}: {starts}")
    attached = are_attached(settings)
    if attached is not None:
        status["attached"] = attached
    status["agent_running"] = holder is not None
    status["agent_pid"] = holder.pid if holder else None
    status["trace"] = is_on(settings)
    if as_json:
        click.echo(json.dumps(status))
        return
    grid = Table.grid(padding=(0, 2))
    for label, text in lines_of(status, time.time()):
        grid.add_row(Text(label, style="bold"), Text(text))
    show_whole(grid)
