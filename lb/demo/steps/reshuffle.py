"""Reshuffle: the router changes its mind about who gets what, also while a table is on its way.

One agent is suspended each time the controller is about to publish, so that its server forwards by
the table before; the router then sends it flows that were opened through up-to-date servers, and
the other way round. The publications come from draining a server.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from lb.demo import experiment, plan
from lb.demo.experiment import Experiment
from lb.demo.results import StepResult
from lb.demo.stage import Stage
from lb.demo.steps.membership import EVENT_SECONDS
from netns.brigade import server_name

LAGGING = 2
DRAINED = 3
"""Not the one that `drain` drained: buckets that come back to a server move in one step."""
PUBLICATIONS = 2
"""A move takes two: the newcomer is put behind, then the two swap."""
HOLD_SECONDS = 0.3
"""How long each of the router's choices lasts: some packets of every flow."""


def reshuffle(stage: Stage) -> list[StepResult]:
    """Change the router's ECMP set in the middle of publications, and at rest."""
    stage.narrator.step("reshuffle: the router changes its ECMP set, also in mid-publication")
    stage.rest()
    # Nothing else may be on its way when an agent is suspended: it would hold that back.
    stage.site.await_active(stage.serving())
    reshuffles = _Reshuffles(stage)
    outcomes = experiment.run(stage, (plan.WEB,), reshuffles.event)
    result = experiment.judge(stage, "reshuffle", outcomes[plan.WEB])
    result.more = {"changes": reshuffles.changes, "mid_publication": reshuffles.unsettled}
    result.promise(reshuffles.unsettled > 0, "no change fell into a publication")
    result.promise(result.daisy_chained > 0, "no packet was daisy-chained")
    result.shown += (
        f"; {reshuffles.changes} changes of the ECMP set, {reshuffles.unsettled} of them while "
        f"{server_name(LAGGING)} was a generation behind"
    )
    return [result]


class _Reshuffles:
    """The event, and how often the router changed its mind in it."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._site = stage.site
        self.changes = 0
        self.unsettled = 0

    def event(self, running: Experiment) -> None:
        """Let the router change its mind while a server's buckets move."""
        serving = self._stage.serving()
        self._site.freeze_agent(LAGGING)
        try:
            self._site.operate("drain", server_name(DRAINED))
            for publication in range(PUBLICATIONS):
                self._site.await_behind(LAGGING, plan.WEB)
                if not publication:
                    running.open_newcomers()
                self._stage.narrator.say(
                    f"{server_name(LAGGING)} is a generation behind; the router moves flows to it"
                )
                self._through_choices(serving)
                if publication + 1 < PUBLICATIONS:
                    self._site.catch_up(LAGGING, plan.WEB)
        finally:
            self._site.thaw_agent(LAGGING)
        others = [number for number in serving if number != DRAINED]
        with self._stage.narrator.doing("waiting until the tables are settled"):
            self._site.await_equal((plan.WEB,), others, EVENT_SECONDS)
        self._through_choices(serving)

    def _through_choices(self, serving: list[int]) -> None:
        others = [number for number in serving if number != LAGGING]
        for excluded in ([LAGGING], others, others[:1], others[1:2], []):
            self._exclude(excluded)
            time.sleep(HOLD_SECONDS)

    def _exclude(self, numbers: Iterable[int]) -> None:
        self._site.exclude(numbers)
        self.changes += 1
        if not self._site.fleet.is_settled(plan.WEB, [server_name(LAGGING)]):
            self.unsettled += 1
