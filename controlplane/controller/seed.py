"""Fills an empty store from one server's state directory: ``lbctl control --seed DIR``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import structlog

from controlplane.documents.check import decode_cluster, decode_table
from controlplane.documents.controller import controller_generation, decode_controller
from controlplane.documents.fields import DocumentError
from controlplane.domain.controller_state import CONTROLLER, DrainRequest
from controlplane.domain.errors import BrigadeError
from controlplane.domain.objects import CLUSTER, table_kind
from controlplane.publish.published import HALF_SEEDED
from controlplane.store.contract import ControllerStore, Version
from controlplane.store.state_dir import read_state_dir


def seed_store(store: ControllerStore, directory: Path) -> None:
    """Put a server's last good documents, keys and drain requests into an empty store.

    Everything is read and checked before anything is written. The cluster document is written last:
    a store with tables but without it was seeded only in part.

    Raises:
        BrigadeError: the store is not empty, or the directory is not complete.
        StoreError, DocumentError: something cannot be read or written.

    """
    kinds = store.kinds()
    if kinds and CLUSTER not in kinds:
        raise BrigadeError(HALF_SEEDED)
    if kinds:
        raise BrigadeError(
            f"--seed fills an empty store; this one has {', '.join(sorted(kinds))}: "
            "start without --seed, or name another store"
        )
    keys, versions, requests = _read(directory)
    for key_id, key in keys.items():
        store.put_key(key_id, key)
    _seed_requests(store, requests)
    for version in versions:
        store.seed(version)
        structlog.get_logger().info("seeded", about=version.kind, generation=version.generation)


def _seed_requests(store: ControllerStore, requests: Mapping[str, DrainRequest]) -> None:
    for name, request in sorted(requests.items()):
        store.request_drain(name, requested=True, request=request)
        structlog.get_logger().warning(
            "seeded a drain request",
            about=name,
            by=request.by,
            reason=request.reason,
            remedy=f"if it was cancelled since: lbctl undrain {name}",
        )


def _controller_state(data: bytes | None) -> tuple[Version | None, Mapping[str, DrainRequest]]:
    """Return the copy of the controller's state, and its requests. It is not required."""
    reason = "this server's agent did not save it"
    if data is not None:
        try:
            state = decode_controller(data)
            return Version(CONTROLLER, controller_generation(data), data), state.requests
        except DocumentError as error:
            reason = str(error)
    structlog.get_logger().warning(
        "no controller's state to seed: shares begin equal, drain requests are lost",
        reason=reason,
        remedy="repeat lbctl drain for the servers that were to be drained",
    )
    return None, {}


def _read(
    directory: Path,
) -> tuple[dict[str, bytes], list[Version], Mapping[str, DrainRequest]]:
    """Return keys, documents (the cluster document last) and requests of a state directory."""
    saved = read_state_dir(directory)
    if CLUSTER not in saved.documents:
        raise BrigadeError(
            f"{directory} does not have a cluster document; seed from another server"
        )
    cluster = decode_cluster(saved.documents[CLUSTER])
    ids = [pool.key_id for pool in cluster.pools]
    missing = [key_id for key_id in ids if key_id not in saved.keys]
    if missing:
        raise BrigadeError(
            f"{directory} does not have the keys {', '.join(missing)}; seed from another"
        )
    versions = []
    for kind in map(table_kind, (pool.name for pool in cluster.pools)):
        if kind in saved.documents:
            table = decode_table(saved.documents[kind])
            versions.append(Version(kind, table.generation, saved.documents[kind]))
    state, requests = _controller_state(saved.controller)
    versions += [state] if state else []
    versions.append(Version(CLUSTER, cluster.generation, saved.documents[CLUSTER]))
    return {key_id: saved.keys[key_id] for key_id in ids}, versions, requests
