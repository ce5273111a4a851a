"""Empty hops leave chains, and no history of a bucket breaks a connection (docs/adr/0015).

The second half leaves one rule out at a time: each time there is a history that breaks one.
"""

from __future__ import annotations

import pytest

from tests.property.one_bucket import explore
from tests.property.one_bucket.states import Rules

HISTORIES = {
    "TCP": Rules(depth=2),
    "TCP, cookies, late documents": Rules(depth=2, cookies=True, late_cluster=True, deaths=False),
    "TCP, depth 3": Rules(depth=3, silence=False),
    "TCP, depth 4": Rules(depth=4, deaths=False),
    "UDP": Rules(depth=2, udp=True),
    "UDP, depth 3": Rules(depth=3, udp=True, silence=False, deaths=False),
    "UDP, depth 4": Rules(depth=4, udp=True, silence=False, deaths=False),
}

CALM = Rules(silence=False, deaths=False)
CONTROLS = {
    "two steps": CALM,
    "strictly settled": Rules(deaths=False),
    "second dump": CALM,
    "dumps in a row": CALM,
    "mark": CALM,
    "mark at the beginning": CALM,
    "cookie": Rules(cookies=True, silence=False, deaths=False),
    "cookie at the beginning": Rules(cookies=True, silence=False, deaths=False),
    "newest cluster document": Rules(late_cluster=True, silence=False, deaths=False),
    "time to open": Rules(udp=True, silence=False, deaths=False),
}


@pytest.mark.parametrize("rules", HISTORIES.values(), ids=HISTORIES)
def test_no_history_breaks_a_connection(rules: Rules) -> None:
    done = explore(rules)
    assert done.history == []
    assert done.proved, "no hop ever left because it was empty"
    assert bool(done.forced) == (rules.depth == 2), "only two slots are too few for three servers"


@pytest.mark.parametrize(("rule", "rules"), CONTROLS.items(), ids=CONTROLS)
def test_without_one_rule_a_connection_breaks(rule: str, rules: Rules) -> None:
    assert explore(rules.leave_out(rule)).history
