"""Explore everything at once, and print what was found: `make histories`."""

from __future__ import annotations

import sys
import time

from tests.property.one_bucket import explore
from tests.property.one_bucket.states import Rules

EVERYTHING = tuple(
    Rules(depth, udp=udp, cookies=not udp, late_cluster=True)
    for udp in (False, True)
    for depth in (2, 3, 4)
)


def main() -> int:
    """Explore everything at once, and print what was found."""
    broken = False
    for rules in EVERYTHING:
        started = time.monotonic()
        done = explore(rules)
        seconds = time.monotonic() - started
        print(
            f"{rules}: {done.states} states, {done.proved} hops left, {done.forced} forced out, "
            f"{seconds:.0f} s",
            *done.history,
            sep="\n    ",
            flush=True,
        )
        broken |= bool(done.history)
    return int(broken)


if __name__ == "__main__":
    sys.exit(main())
