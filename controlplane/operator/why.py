"""Why a server does not have the buckets that it should have, as its controller decided."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from controlplane.domain.decisions import Decisions, ServerBuckets
from controlplane.domain.errors import BrigadeError
from controlplane.store.contract import ControllerStore

NO_POOL = "it serves no pool: it is not in the settings, or they give it none that has a table"


def why(store: ControllerStore, server: str) -> dict[str, Any]:
    """Return what the controller decided about a server, for ``--json``.

    ``summary``: one sentence. ``at``: when it was decided (Unix seconds), ``leader``: who leads
    now, null: nobody, so it may be old. ``drain_held``: why a requested drain waits. ``pools``:
    name, generation (of the table), buckets, part, missing (reason, buckets, detail), keeps (why it
    still has buckets although it may not be given any, or "").

    Raises:
        BrigadeError: no controller has published its decisions here.
        StoreError: the store cannot be read.

    """
    decided = store.decisions()
    if decided is None:
        raise BrigadeError(
            "no controller has published its decisions in this store: start lbctl control, or "
            "upgrade the one that runs"
        )
    pools = [
        {"name": name, "generation": pool.generation, **asdict(pool.servers[server])}
        for name, pool in sorted(decided.pools.items())
        if server in pool.servers
    ]
    return {
        "server": server,
        "summary": _summary(server, decided),
        "at": decided.at,
        "leader": store.leader(),
        "drain_held": list(decided.held.get(server, ())),
        "pools": pools,
    }


def _summary(server: str, decided: Decisions) -> str:
    """Return one sentence about all pools: the missing buckets, and the largest reasons."""
    found = [pool.servers[server] for pool in decided.pools.values() if server in pool.servers]
    if not found:
        return f"{server} has no buckets: {NO_POOL}"
    has, part = sum(one.buckets for one in found), sum(one.part for one in found)
    reasons = _by_reason(found)
    if not reasons and any(one.keeps for one in found):
        return f"{server} has {has:,} buckets, and keeps them"
    if not reasons:
        more = f", {has - part:,} more than an equal part" if has > part else ", an equal part"
        return f"{server} has {has:,} buckets{more}"
    texts = ", ".join(f"{buckets:,} {reason}" for reason, buckets in reasons)
    should = has + sum(buckets for _, buckets in reasons)
    return f"{server} has {has:,} of {should:,} buckets that it should have: {texts}"


def _by_reason(found: list[ServerBuckets]) -> list[tuple[str, int]]:
    sums: dict[str, int] = {}
    for one in found:
        for missing in one.missing:
            sums[missing.reason.value] = sums.get(missing.reason.value, 0) + missing.buckets
    return sorted(sums.items(), key=lambda pair: -pair[1])
