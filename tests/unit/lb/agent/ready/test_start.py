"""How long an agent that starts leaves things as they are, and when saved documents are enough."""

from __future__ import annotations

import pytest

from lb.agent.ready import take_over as module
from lb.agent.ready.boot_wait import Beginning, BootWait
from lb.agent.ready.take_over import TakeOver

CONTINUED, NEW, REBOOTED = Beginning(continued=True), Beginning(), Beginning(rebooted=True)


@pytest.mark.parametrize(
    ("start", "saved", "ready"),
    [
        (CONTINUED, True, True),
        (CONTINUED, False, True),
        (NEW, False, True),
        (NEW, True, False),
        (REBOOTED, False, False),
        (REBOOTED, True, False),
    ],
)
def test_documents_from_before_a_boot_are_not_enough_for_60_s(
    start: Beginning, *, saved: bool, ready: bool
) -> None:
    wait = BootWait(start, 100.0, 60.0)
    found, trouble = wait.decide(159.9, saved=saved)
    assert (found, trouble is None) == (ready, ready)
    assert trouble is None or ("at most 60 s" in trouble and "lbctl control" in trouble)
    found, trouble = wait.decide(160.0, saved=saved)
    assert (found, trouble is None) == (True, ready)
    assert trouble is None or "READY BY SAVED DOCUMENTS" in trouble
    wait.controller_answered()
    assert wait.decide(100.0, saved=saved) == (True, None)


def test_what_the_agent_before_made_stays_for_a_while() -> None:
    first, second = TakeOver(0.0, announced=False), TakeOver(0.0, announced=True)
    assert not second.overdue(module.OVERDUE_SECONDS - 0.1)
    assert second.overdue(module.OVERDUE_SECONDS)
    assert not second.adapting(1.0), "not attached yet"
    for part in (first, second):
        part.attached(5.0)
    assert not first.adapting(6.0), "there is nothing to keep"
    assert second.adapting(5.0 + module.ADAPTING_SECONDS - 0.1)
    assert not second.adapting(5.0 + module.ADAPTING_SECONDS)
    assert not second.overdue(1000.0)
