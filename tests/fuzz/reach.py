"""The code paths that a campaign must reach to count, and its report."""

from __future__ import annotations

from collections.abc import Iterator

from tests.fuzz.campaign import FORWARDER, REDIRECTOR, Findings
from tests.model import FORWARDER_COUNTERS, KERNEL_COUNTERS, REDIRECTOR_COUNTERS

ENCAPSULATED = {"tx_forward", "tx_forward_chain", "pass_to_self"}
LEAST_SHARE = 0.3
LEAST_OF_A_MILLION = 100
COUNTERS = {FORWARDER: FORWARDER_COUNTERS, REDIRECTOR: REDIRECTOR_COUNTERS}


def encap_or_decap(findings: Findings) -> int:
    """Packets that were wrapped by the forwarder or unwrapped by the redirector.

    What a redirector passes on is neither.
    """
    return sum(
        count
        for counts in findings.reach.values()
        for name, count in counts.items()
        if name in ENCAPSULATED or name.startswith("accept_")
    )


def shortfalls(findings: Findings) -> Iterator[str]:
    """What was not reached, a line each; what only a kernel's refusal causes is not asked for."""
    packets = findings.packets
    least = max(1, LEAST_OF_A_MILLION * packets // 1_000_000)
    for program, names in COUNTERS.items():
        for name in sorted(names - KERNEL_COUNTERS):
            count = findings.reach[program][name]
            if count < least:
                yield f"{program}: {name} {count} times, at least {least} wanted"
    share = encap_or_decap(findings) / max(packets, 1)
    if share < LEAST_SHARE:
        yield f"encapsulated or decapsulated: {share:.1%}, at least {LEAST_SHARE:.0%} wanted"
    if not {1, 2, 3} <= findings.hops.keys():
        yield f"hop lists of 1, 2 and 3: only {sorted(findings.hops)}"


def report(findings: Findings) -> str:
    """The reach, for people."""
    lines = []
    for program, counts in findings.reach.items():
        lines.append(f"{program}: {sum(counts.values()):,} packets")
        lines += [f"  {name:24} {count:8,}" for name, count in sorted(counts.items())]
    lines.append(
        f"hop lists of so many: { {n: findings.hops[n] for n in sorted(findings.hops) if n} }"
    )
    share = encap_or_decap(findings) / max(findings.packets, 1)
    lines.append(f"encapsulated or decapsulated: {share:.1%}")
    return "\n".join(lines)


def summary(findings: Findings, seed: int) -> dict[str, object]:
    """What machines read: counts only."""
    total = sum(findings.reach.values(), start=type(findings.hops)())
    return {
        "packets": findings.packets,
        "differences": len(findings.differences),
        "seed": seed,
        "encap_or_decap": encap_or_decap(findings),
        "reasons": dict(sorted(total.items())),
        "by_program": {
            name: dict(sorted(counts.items())) for name, counts in findings.reach.items()
        },
        "not_caused_by_packets": sorted(KERNEL_COUNTERS),
    }
