"""The last good documents: decoded for commands, as a batch for an agent that starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import structlog

from controlplane.documents.check import decode_cluster, decode_table
from controlplane.documents.controller import decode_controller
from controlplane.documents.fields import DocumentError
from controlplane.domain.controller_state import CONTROLLER
from controlplane.domain.errors import BrigadeError
from controlplane.domain.objects import CLUSTER, Cluster, Table, table_kind
from controlplane.store.contract import StoreError
from controlplane.store.state_dir import StateDir
from lb.agent.config import AgentConfig
from lb.agent.documents.follower import Batch

POOL_PREFIX = table_kind("")


@dataclass(frozen=True)
class LastGood:
    """The documents that this server had in use last.

    ``fleet_seconds``: the fleet time now, if the controller's state was ever copied. For people:
    the age of that copy is by the wall clock, and the controller may have stopped since.
    """

    cluster: Cluster
    tables: dict[str, Table]
    keys: dict[str, bytes] = field(repr=False)
    fleet_seconds: float | None = None


def tables_in(documents: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return the tables among encoded documents, by pool."""
    pools = {kind: kind.removeprefix(POOL_PREFIX) for kind in documents}
    return {pool: documents[kind] for kind, pool in pools.items() if pool != kind}


def load_last_good(config: AgentConfig, *, with_keys: bool = False) -> LastGood:
    """Read the last good documents of this server.

    Raises:
        BrigadeError: there are none, or they cannot be read.

    """
    state_dir = StateDir(config.state_dir)
    documents = state_dir.documents()
    if CLUSTER not in documents:
        raise BrigadeError(
            f"{config.state_dir} has no documents: has this server's agent (lbctl up) run yet?"
        )
    tables = map(decode_table, tables_in(documents).values())
    return LastGood(
        cluster=decode_cluster(documents[CLUSTER]),
        tables={table.pool: table for table in tables},
        keys={name: state_dir.key(name) for name in state_dir.key_ids()} if with_keys else {},
        fleet_seconds=_fleet_seconds(state_dir),
    )


def _fleet_seconds(state_dir: StateDir) -> float | None:
    data, age = state_dir.load_document(CONTROLLER), state_dir.document_age_seconds(CONTROLLER)
    if data is None or age is None:
        return None
    try:
        return decode_controller(data).fleet_seconds + age
    except DocumentError:
        return None


def read_last_good(state_dir: StateDir) -> Batch:
    """Return the last good documents and keys as a batch; an empty one if they cannot be read."""
    try:
        documents = state_dir.documents()
        keys = {key_id: state_dir.key(key_id) for key_id in state_dir.key_ids()}
    except StoreError as error:
        log = structlog.get_logger()
        log.warning("the last good documents cannot be read", reason=str(error))
        return Batch()
    return Batch(documents.get(CLUSTER), tables_in(documents), keys)
