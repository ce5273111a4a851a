"""Join and drain: servers come and go, with daisy chaining and, as a control, without.

Both pools are served by the same machines and live through the same event; `plain` has chains of
depth 1, which is what ordinary hashing does.
"""

from __future__ import annotations

from lb.demo import experiment, plan
from lb.demo.experiment import Experiment
from lb.demo.results import StepResult
from lb.demo.stage import Stage
from netns.brigade import server_name

POOLS = (plan.WEB, plan.PLAIN)
EVENT_SECONDS = 60.0
DRAINED = 4


def join(stage: Stage) -> list[StepResult]:
    """A fifth server joins."""
    newcomer = server_name(plan.NEWCOMER)
    stage.narrator.step(f"join: {newcomer} joins while connections are open")

    def event(running: Experiment) -> None:
        site = stage.site
        site.known.append(plan.NEWCOMER)
        site.reload_controller()
        site.start_services(plan.NEWCOMER)
        site.start_agent(plan.NEWCOMER)
        with stage.narrator.doing(f"{newcomer}: lbctl up"):
            site.await_ready([plan.NEWCOMER])
        running.open_newcomers()
        with stage.narrator.doing("waiting until it has its full share of both pools"):
            site.await_equal(POOLS, stage.serving(), EVENT_SECONDS)

    return _judged(stage, "join", event)


def drain(stage: Stage) -> list[StepResult]:
    """A server is drained."""
    leaver = server_name(DRAINED)
    stage.rest()
    stage.narrator.step(f"drain: {leaver} gives its buckets away while connections are open")

    def event(running: Experiment) -> None:
        site = stage.site
        site.operate("drain", leaver)
        running.open_newcomers()
        others = [number for number in stage.serving() if number != DRAINED]
        with stage.narrator.doing(f"waiting until {leaver} is current for no bucket"):
            site.await_equal(POOLS, others, EVENT_SECONDS)

    return _judged(stage, "drain", event)


def _judged(stage: Stage, name: str, event: experiment.Event) -> list[StepResult]:
    outcomes = experiment.run(stage, POOLS, event)
    step = experiment.judge(stage, name, outcomes[plan.WEB])
    step.promise(step.daisy_chained > 0, "no packet was daisy-chained")
    control = experiment.judge_control(f"{name}_unchained", outcomes[plan.PLAIN])
    return [step, control]
