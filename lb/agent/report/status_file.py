"""The status file: the facts for `lbctl status`, also after the agent's end."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import lb
from controlplane.domain.objects import vip_text
from lb.agent.config import AgentConfig
from lb.agent.facts import Facts
from lb.agent.machine.atomic_file import write_atomically
from lb.agent.report.store_reports import in_order

STATUS_FILE = "status.json"


def status_of(facts: Facts, config: AgentConfig, now: float) -> dict[str, Any]:
    """Return the facts as they are in the file. No secret is among them."""
    return {
        "server": config.name,
        "dip": str(config.dip),
        "interface": config.interface,
        "store": config.store,
        "pid": os.getpid(),
        "version": lb.__version__,
        "written_at": now,
        "started_at": facts.started_at,
        "ready": facts.ready,
        "attached": facts.attached,
        "xdp_mode": facts.xdp_mode,
        "state": facts.state,
        "listed_dip": facts.listed_dip,
        "twin": facts.twin,
        "source": facts.source,
        "generations": dict(facts.generations),
        "since": dict(facts.since),
        "last_contact": facts.last_contact,
        "vips": [vip_text(vip) for vip in facts.vips],
        "load": facts.load,
        "connections": facts.connections,
        "dumps": facts.presence.dump.number if facts.presence else 0,
        "strays": [vars(one) for one in in_order(facts.strays)],
        "strays_total": [vars(one) for one in in_order(facts.strays_total) if one.count],
        "orphans_total": [
            {"pool": pool, "kind": kind, "count": count}
            for (pool, kind), count in sorted(facts.orphans_total.items())
            if count
        ],
        "held_total": facts.held_total,
        "answer_links": list(facts.answer_links),
        "checks": {
            name: {"healthy": health.healthy, "reason": health.reason}
            for name, health in sorted(facts.checks.items())
        },
        "neighbours_unresolved": facts.neighbours_unresolved,
        "mss_room": facts.mss_overhead,
        "mss_of_all": facts.mss_of_all,
        "missing": list(facts.missing),
        "repairs": dict(facts.repairs),
        "watch_seconds": facts.watch_seconds,
        "troubles": dict(facts.troubles),
        "refused": [
            {"kind": kind, "reason": reason, "count": count}
            for (kind, reason), count in sorted(facts.refused.items())
        ],
        "hooks": [
            {"hook": hook, "result": result, "count": count}
            for (hook, result), count in sorted(facts.hooks.items())
        ],
    }


def write_status(run_dir: Path, status: dict[str, Any]) -> None:
    """Replace the status file."""
    write_atomically(run_dir / STATUS_FILE, json.dumps(status, indent=1) + "\n")


def read_status(run_dir: Path) -> dict[str, Any] | None:
    """Return the last status, ``None`` if there is no file. ``ValueError``: it is damaged."""
    try:
        found: dict[str, Any] = json.loads((run_dir / STATUS_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return found
