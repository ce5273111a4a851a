"""What the agent's tests share: settings files, documents, real `lbctl` processes in namespaces."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import numpy as np

from controlplane.documents.check import encode_cluster, encode_table
from controlplane.domain.objects import (
    CLUSTER,
    TCP,
    Check,
    CheckType,
    Cluster,
    Pool,
    Server,
    ServerState,
    Service,
    Table,
    table_kind,
)
from controlplane.store.contract import Version
from controlplane.store.file.store import FileStore
from netns import brigade
from netns.host import Host
from netns.network import Network
from netns.process import Process

LBCTL = (sys.executable, "-c", "from lb.cli.main import main; main()")
VIP = IPv4Address("192.0.2.10")
OTHER_VIP = IPv4Address("192.0.2.20")
PORT = 8000
POOL = "web"
KEY = bytes(range(16))
BUCKETS = 256


def service(vip: IPv4Address = VIP, check: CheckType = CheckType.NONE) -> Service:
    quick = Check(check, interval_seconds=0.1, timeout_seconds=0.5, rise=2, fall=2)
    return Service(f"web-{vip}", IPv4Network(vip), TCP, PORT, POOL, check=quick)


def cluster(
    generation: int,
    states: Sequence[ServerState],
    services: Sequence[Service] = (service(),),
    depth: int = 2,
) -> Cluster:
    servers = tuple(
        Server(brigade.server_name(n), brigade.dip(n), n, state)
        for n, state in enumerate(states, start=1)
    )
    pools = (Pool(POOL, BUCKETS, depth, key_id="web-key"),)
    return Cluster(generation, servers, tuple(services), pools)


def table(generation: int, chain: Sequence[int], cluster_generation: int = 1) -> Table:
    """A table in which every bucket has the same chain."""
    chains = np.tile(np.array(chain, dtype=np.uint16), (BUCKETS, 1))
    return Table(POOL, generation, cluster_generation, chains, np.zeros(BUCKETS, np.uint32))


@dataclass
class Fleet:
    """A network with a store, and the agents started in it."""

    network: Network
    generations: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.store = FileStore(self.network.store_dir)
        self.store.put_key("web-key", KEY)

    def publish(self, document: Cluster | Table) -> None:
        if isinstance(document, Cluster):
            self.publish_bytes(CLUSTER, document.generation, encode_cluster(document))
        else:
            kind = table_kind(document.pool)
            self.publish_bytes(kind, document.generation, encode_table(document))

    def publish_bytes(self, kind: str, generation: int, data: bytes) -> None:
        self.store.publish(Version(kind, generation, data))

    def host(self, number: int) -> Host:
        return self.network[brigade.server_name(number)]

    def config(self, number: int, **changes: Any) -> Path:
        host = self.host(number)
        settings: dict[str, Any] = {
            "name": host.name,
            "interface": brigade.INTERFACE,
            "dip": str(brigade.dip(number)),
            "store": f"file:{self.network.store_dir}",
            "state_dir": str(host.state_dir),
            "run_dir": str(host.run_dir),
            "bpffs": str(host.bpffs),
            "log_format": "json",
            **changes,
        }
        path = host.base / "agent.toml"
        path.write_text("".join(f"{k} = {json.dumps(v)}\n" for k, v in settings.items()))
        return path

    def up(self, number: int, **changes: Any) -> Process:
        config = self.config(number, **changes)
        return self.host(number).popen([*LBCTL, "up", "--config", config], "agent")

    def lbctl(
        self, number: int, *words: str, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        path = self.host(number).base / "agent.toml"
        return self.host(number).run([*LBCTL, words[0], "--config", path, *words[1:]], check=check)

    def status(self, number: int) -> dict[str, Any]:
        path = self.host(number).run_dir / "status.json"
        found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
        return found

    def acknowledged(self, number: int) -> Mapping[str, int]:
        return self.store.acknowledgements().get(brigade.server_name(number), {})

    def ready(self, number: int) -> bool:
        return (self.host(number).run_dir / "ready").exists()

    def log(self, number: int) -> str:
        return (self.host(number).log_dir / "agent.log").read_text()
