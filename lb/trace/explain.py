"""A flow's service, bucket and chain from the kernel's tables, with servers' names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address

from lb.dataplane.errors import DataplaneError
from lb.dataplane.objects import ServiceEntry
from lb.dataplane.pinned import PinnedDataplane
from lb.flow_hash import Flow, bucket_of, siphash
from lb.where import most_specific


@dataclass(frozen=True)
class Place:
    """A flow's pool, bucket and chain (newest first) as they are now."""

    pool: str
    bucket: int
    chain: tuple[str, ...]


class Explainer:
    """Looks up flows. ``names`` are servers' names by DIP, as far as they are known."""

    def __init__(self, tables: PinnedDataplane, names: Mapping[IPv4Address, str]) -> None:
        self._tables = tables
        self._names = names
        self._services: tuple[ServiceEntry, ...] = ()
        self._dips: dict[int, IPv4Address] = {}

    def refresh(self) -> None:
        """Read services and DIPs again, from time to time; tables are read for each packet."""
        self._services = self._tables.services()
        self._dips = {index: dip for index, (dip, _) in self._tables.dips().items()}

    def name(self, dip: IPv4Address) -> str:
        """Return a server's name, or its DIP."""
        return self._names.get(dip, str(dip))

    def place(self, flow: Flow) -> Place | None:
        """Return a flow's place; ``None`` if no table has it."""
        service = most_specific(self._services, flow)
        if service is None:
            return None
        word = self._tables.pool_words().get(service.pool)
        key = self._tables.pool_key(service.pool)
        if word is None or key is None:
            return None
        flow_hash = siphash(key, flow.client_hash_input if service.by_client else flow.hash_input)
        bucket = bucket_of(flow_hash, word.buckets)
        try:
            chain = self._tables.chain(service.pool, bucket)
        except (DataplaneError, FileNotFoundError):  # the table was removed meanwhile
            return None
        return Place(service.pool, bucket, tuple(self._name_of(index) for index in chain))

    def _name_of(self, index: int) -> str:
        dip = self._dips.get(index)
        return f"index {index}" if dip is None else self.name(dip)
