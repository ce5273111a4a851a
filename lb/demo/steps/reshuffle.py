"""Reshuffle: the router changes its ECMP set, also during the publication of a table.

One agent is suspended before each publication, so that its server forwards by the previous table.
The router then moves flows from servers with the new table to this one, and back. The drain of a
server causes the publications.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from lb.demo import scenario
from lb.demo.results import StepResult
from lb.demo.steps import experiment
from lb.demo.steps.context import StepContext
from lb.demo.steps.experiment import Experiment
from lb.demo.steps.membership import EVENT_SECONDS
from netns.brigade import server_name

LAGGING = 2
DRAINED = 3
"""Not the server of the step `drain`: buckets that return to a server move in one step."""
PUBLICATIONS = 2
"""A move takes two: the new server is put second, then the two are exchanged."""
HOLD_SECONDS = 0.3
"""How long each ECMP set stays: every flow sends some packets."""


def reshuffle(context: StepContext) -> list[StepResult]:
    """Change the ECMP set of the router during publications, and when tables are settled."""
    context.progress.heading("reshuffle: the router changes its ECMP set, also during publications")
    context.restore_equal_shares()
    # A suspended agent would also hold back any other document, so wait for those first.
    context.site.await_active(context.serving())
    reshuffles = _Reshuffles(context)
    outcomes = experiment.run(context, (scenario.WEB,), reshuffles.event)
    result = experiment.judge(context, "reshuffle", outcomes[scenario.WEB])
    result.more = {"changes": reshuffles.changes, "mid_publication": reshuffles.unsettled}
    result.promise(reshuffles.unsettled > 0, "no change of the ECMP set was during a publication")
    result.promise(result.daisy_chained > 0, "no packet was daisy-chained")
    result.shown += (
        f"; {reshuffles.changes} changes of the ECMP set, {reshuffles.unsettled} of them while "
        f"{server_name(LAGGING)} was a generation behind"
    )
    return [result]


class _Reshuffles:
    """The event, with the number of changes of the ECMP set."""

    def __init__(self, context: StepContext) -> None:
        self._context = context
        self._site = context.site
        self.changes = 0
        self.unsettled = 0

    def event(self, running: Experiment) -> None:
        """Change the ECMP set of the router while the buckets of a server move."""
        serving = self._context.serving()
        self._site.suspend_agent(LAGGING)
        try:
            self._site.run_lbctl("drain", server_name(DRAINED))
            for publication in range(PUBLICATIONS):
                self._site.await_behind(LAGGING, scenario.WEB)
                if not publication:
                    running.open_newcomers()
                self._context.progress.log(
                    f"{server_name(LAGGING)} is a generation behind; the router moves flows to it"
                )
                self._change_ecmp_sets(serving)
                if publication + 1 < PUBLICATIONS:
                    self._site.catch_up(LAGGING, scenario.WEB)
        finally:
            self._site.resume_agent(LAGGING)
        others = [number for number in serving if number != DRAINED]
        with self._context.progress.task("waiting until the tables are settled"):
            self._site.await_equal((scenario.WEB,), others, EVENT_SECONDS)
        self._change_ecmp_sets(serving)

    def _change_ecmp_sets(self, serving: list[int]) -> None:
        others = [number for number in serving if number != LAGGING]
        for excluded in ([LAGGING], others, others[:1], others[1:2], []):
            self._exclude(excluded)
            time.sleep(HOLD_SECONDS)

    def _exclude(self, numbers: Iterable[int]) -> None:
        self._site.exclude(numbers)
        self.changes += 1
        if not self._site.store.is_settled(scenario.WEB, [server_name(LAGGING)]):
            self.unsettled += 1
