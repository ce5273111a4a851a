"""The result of `lbctl bench dataplane`, as a table and as JSON."""

from __future__ import annotations

import os
import platform
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lb.abi import WRAP_LEN
from lb.bench.dataplane import FLOWS_ROW, Cost, Effort, Measured
from lb.bench.workload import BUCKETS, DIPS, SERVICES

MEANINGS = {
    "tcp4_syn": "TCP SYN to 16 services, encapsulated and sent",
    "tcp4_ack": "TCP ACK to the same services",
    "udp4": "UDP, encapsulated and sent",
    "tcp6_ack": "TCP ACK over IPv6",
    "tcp4_ack_2e19_flows": "tcp4_ack from 524,288 clients",
    "tcp4_ack_in_transition": "TCP ACK whose bucket has a previous owner",
    "not_for_vip": "TCP to an address that is not a VIP: passed",
    "not_for_vip6": "the same over IPv6",
    "tcp4_any_port_and_prefix": "TCP ACK to services of any port and of prefixes",
    "all_services_2e19_flows": "TCP ACK of 524,288 flows over all IPv4 services",
    "redirector_other": "a packet that is not GUE: passed",
    "redirector_accept": "GUE at its last hop: decapsulated",
    "redirector_pass_on": "GUE of an unknown connection: rewritten for the next hop",
    "egress_segment": "a full TCP segment that leaves a VIP",
    "egress_wrap": "GUE that leaves for the next hop",
    "egress_ack": "a TCP ACK that leaves a VIP",
    "egress_reset": "a reset without ACK that leaves a VIP, of a flow that is remembered",
}


def cpu_model() -> str:
    """Return the name of the CPU from /proc/cpuinfo."""
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def machine() -> dict[str, Any]:
    """Return a description of this machine."""
    jit = Path("/proc/sys/net/core/bpf_jit_enable")
    return {
        "cpu": cpu_model(),
        "cpus": os.cpu_count(),
        "kernel": os.uname().release,
        "machine": platform.machine(),
        "bpf_jit_enable": int(jit.read_text(encoding="ascii")) if jit.exists() else None,
        "load_average": os.getloadavg()[0],
    }


def as_row(cost: Cost) -> dict[str, Any]:
    """Return one row as values for JSON."""
    rounded = {"ns": round(cost.ns, 2), "spread_ns": round(cost.spread_ns, 2)}
    return asdict(cost) | rounded | {"ratio": round(cost.ratio, 3)}


def as_json(measured: Measured, effort: Effort) -> dict[str, Any]:
    """Return all results as values for JSON; `floor_ns`, `noop_tc_ns`, `rows` keep their format."""
    return {
        "floor_ns": round(measured.floor_ns, 2),
        "noop_tc_ns": round(measured.noop_tc_ns, 2),
        "rows": [as_row(cost) for cost in measured.rows],
        "flows": as_row(measured.flows),
        "controls": [as_row(cost) for cost in measured.controls],
        "harness_ns": round(measured.harness_ns, 2),
        "load": {"services": SERVICES, "dips": DIPS, "buckets": BUCKETS},
        "effort": asdict(effort),
        "programs": measured.programs,
        "load_seconds": round(measured.load_seconds, 2),
        "machine": machine(),
    }


def _line(cost: Cost, meaning: str) -> str:
    ratio = f"{cost.ratio:5.2f} x {cost.base}"
    return f"  {cost.name:30} {cost.ns:7.1f} ±{cost.spread_ns:4.1f}   {ratio:16}  {meaning}"


def _program(name: str, program: dict[str, int]) -> str:
    return (
        f"  {name:24} {program['instructions']:6,} instructions, the verifier processed "
        f"{program['verified_instructions']:6,}, {program['jited_bytes']:6,} bytes of machine code"
    )


def as_table(measured: Measured) -> str:
    """Return the result as text for people."""
    forwarder = [cost for cost in measured.rows if cost.base == "floor"]
    tc = [cost for cost in measured.rows if cost.base != "floor"]
    egress = [cost for cost in tc if cost.name.startswith("egress")]
    redirector = [cost for cost in tc if cost not in egress]
    lines = [
        f"Nanoseconds per packet on one core of {cpu_model()}, Linux {os.uname().release};",
        f"{SERVICES:,} services, {DIPS:,} DIPs, {BUCKETS:,} buckets, all counters on.",
        "",
        f"Forwarder (XDP), without the {measured.harness_ns:.1f} ns of the harness.",
        f"The floor adds {WRAP_LEN} bytes and writes constants: {measured.floor_ns:.1f} ns.",
        *(_line(cost, MEANINGS.get(cost.name, "")) for cost in forwarder),
        "Compared with one flow to each of the same 16 services:",
        _line(measured.flows, MEANINGS[FLOWS_ROW]),
        "",
        "Redirector (TC), from entry to the next packet, without sending.",
        f"A program that does nothing: {measured.noop_tc_ns:.1f} ns.",
        *(_line(cost, MEANINGS.get(cost.name, "")) for cost in redirector),
        "",
        "Egress program (TC), likewise.",
        *(_line(cost, MEANINGS.get(cost.name, "")) for cost in egress),
        "",
        "Controls of the harness: the floor with a read of the clock must cost more than it,",
        "the floor compared with itself must not.",
        *(_line(cost, "") for cost in measured.controls),
        "",
        f"Programs, compiled and loaded in {measured.load_seconds:.1f} s:",
        *(_program(name, program) for name, program in measured.programs.items()),
    ]
    return "\n".join(lines)
