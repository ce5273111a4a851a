"""`python -m tests.fuzz`: many packets through both programs and the model, on all CPUs.

Ends with one line of JSON; exit status 1 on a difference, or if the packets did not reach far.
"""

from __future__ import annotations

import argparse
import json
import random
import sys

from tests.fuzz.campaign import FORWARDER, PACKETS_A_ROUND, REDIRECTOR
from tests.fuzz.parallel import Plan, Progress, run
from tests.fuzz.reach import report, shortfalls, summary
from tests.machine import why_no_bpf, why_no_netns

PROGRESS_SECONDS = 5.0


def arguments() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--packets", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, help="repeats a campaign; random by default")
    parser.add_argument("--round", type=int, help="one round alone, as a difference names it")
    parser.add_argument("--processes", type=int, default=0, help="one for each CPU by default")
    parser.add_argument("--only", choices=(FORWARDER, REDIRECTOR), default="")
    return parser.parse_args()


def main() -> int:
    """Run a campaign and print its result."""
    asked = arguments()
    if reason := why_no_bpf() or why_no_netns():
        print(f"this machine cannot fuzz: {reason}", file=sys.stderr)
        return 2
    seed = random.SystemRandom().getrandbits(32) if asked.seed is None else asked.seed
    packets = asked.packets
    if asked.round is not None:
        packets = min(packets, PACKETS_A_ROUND)
    plan = Plan(
        seed, packets, first_round=asked.round or 0, processes=asked.processes, only=asked.only
    )
    print(f"seed {seed}, {packets:,} packets", file=sys.stderr)
    findings = run(plan, Progress(packets, PROGRESS_SECONDS))
    print(report(findings), file=sys.stderr)
    missing = [] if asked.round is not None or asked.only else list(shortfalls(findings))
    for line in (*map(str, findings.differences), *missing):
        print(line, file=sys.stderr)
    print(json.dumps(summary(findings, seed)))
    return 1 if findings.differences or missing else 0


if __name__ == "__main__":
    sys.exit(main())
