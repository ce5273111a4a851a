"""Thousands of random frames through the programs and the model: verdict, bytes, counter, service.

`make fuzz` feeds a million. LB_FUZZ_SEED repeats a run, LB_FUZZ_PACKETS makes it longer.
"""

from __future__ import annotations

import os
import random
import sys

import pytest

from tests.fuzz.parallel import Plan, Progress, run
from tests.fuzz.reach import report, shortfalls

PACKETS = int(os.environ.get("LB_FUZZ_PACKETS", "50000"))
PROGRESS_SECONDS = 10.0


@pytest.fixture
def seed() -> int:
    return int(os.environ.get("LB_FUZZ_SEED", "0")) or random.SystemRandom().getrandbits(32)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_both_programs_agree_with_the_model(seed: int) -> None:
    print(f"seed {seed} (LB_FUZZ_SEED), {PACKETS:,} packets", file=sys.stderr)
    findings = run(Plan(seed, PACKETS), Progress(PACKETS, PROGRESS_SECONDS))
    print(report(findings))
    assert not findings.differences, "\n".join(map(str, findings.differences))
    assert not list(shortfalls(findings))
    assert findings.packets == PACKETS
