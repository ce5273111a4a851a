"""The last good documents, decoded, for the commands that read them."""

from __future__ import annotations

from dataclasses import dataclass, field

from controlplane.documents.check import decode_cluster, decode_table
from controlplane.domain.errors import BrigadeError
from controlplane.domain.objects import CLUSTER, Cluster, Table
from controlplane.store.state_dir import StateDir
from lb.agent.config import AgentConfig
from lb.agent.documents.intake import POOL_PREFIX


@dataclass(frozen=True)
class SavedDocuments:
    """What this server last had in use."""

    cluster: Cluster
    tables: dict[str, Table]
    keys: dict[str, bytes] = field(repr=False)


def load_saved(config: AgentConfig, *, with_keys: bool = False) -> SavedDocuments:
    """Read the last good documents of this server.

    Raises:
        BrigadeError: there are none, or they cannot be read.

    """
    state_dir = StateDir(config.state_dir)
    documents = state_dir.documents()
    if CLUSTER not in documents:
        raise BrigadeError(
            f"{config.state_dir} holds no documents: has this server's agent (lbctl up) run yet?"
        )
    tables = [decode_table(d) for kind, d in documents.items() if kind.startswith(POOL_PREFIX)]
    return SavedDocuments(
        cluster=decode_cluster(documents[CLUSTER]),
        tables={table.pool: table for table in tables},
        keys={name: state_dir.key(name) for name in state_dir.key_ids()} if with_keys else {},
    )
