"""The hash over many flows at once: the page's golden vectors, and the same as flow by flow."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from random import Random

import pytest

from controlplane.domain.objects import TCP, UDP
from lb.flow_hash import Address, Flow, siphash
from lb.flow_hashes import client_hashes, flow_hashes, states_of
from tests.unit.lb.flows import columns

WIRE = (Path(__file__).resolve().parents[3] / "docs/wire.md").read_text(encoding="utf-8")
KEY = bytes(range(16))
ENDPOINT = re.compile(r"\[?([0-9a-f:.]+?)\]?:([0-9]+)")
FLOWS = re.findall(
    r"^\| (\S+) \| (\S+) \| (6|17) \| `[0-9a-f]+` \| `([0-9a-f]{16})` \| ", WIRE, re.MULTILINE
)
CLIENTS = re.findall(
    r"^\| ([0-9a-f.:]+) \| `[0-9a-f]+` \| `([0-9a-f]{16})` \| ", WIRE, re.MULTILINE
)


def endpoint(text: str) -> tuple[Address, int]:
    match = ENDPOINT.fullmatch(text)
    assert match is not None
    return ip_address(match[1]), int(match[2])


def test_golden_flows_of_the_wire_document() -> None:
    assert len(FLOWS) == 9
    for protocol in (TCP, UDP):
        rows = [row for row in FLOWS if int(row[2]) == protocol]
        flows = [Flow(*endpoint(a), *endpoint(b), protocol) for a, b, _, _ in rows]
        found = flow_hashes(columns(flows), states_of([KEY] * len(rows)), protocol)
        assert [f"{value:016x}" for value in found.tolist()] == [row[3] for row in rows]


def test_golden_clients_of_the_wire_document() -> None:
    assert len(CLIENTS) == 3
    flows = [Flow(ip_address(a), 1, ip_address(a), 2, TCP) for a, _ in CLIENTS]
    found = client_hashes(columns(flows), states_of([KEY] * len(flows)))
    assert [f"{value:016x}" for value in found.tolist()] == [row[1] for row in CLIENTS]


@pytest.mark.parametrize("protocol", [TCP, UDP])
def test_thousands_of_flows_of_many_keys_are_hashed_as_each_one(protocol: int) -> None:
    random = Random(protocol)
    keys = [random.randbytes(16) for _ in range(5)]

    def address(version: int) -> Address:
        return (
            IPv4Address(random.randbytes(4)) if version == 4 else IPv6Address(random.randbytes(16))
        )

    def port() -> int:
        return random.getrandbits(16)

    flows = [
        Flow(address(version), port(), address(version), port(), protocol)
        for version in random.choices((4, 6), k=2000)
    ]
    of = random.choices(keys, k=len(flows))
    by_flow = flow_hashes(columns(flows), states_of(of), protocol)
    by_client = client_hashes(columns(flows), states_of(of))
    for flow, key, one, other in zip(flows, of, by_flow, by_client, strict=True):
        assert siphash(key, flow.hash_input) == int(one)
        assert siphash(key, flow.client_hash_input) == int(other)


def test_nothing_is_hashed_to_nothing() -> None:
    assert flow_hashes(columns([]), states_of([]), TCP).tolist() == []
    assert client_hashes(columns([]), states_of([])).tolist() == []
