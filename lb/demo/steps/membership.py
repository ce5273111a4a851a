"""Join and drain: servers are added and removed, with daisy chaining and, as a control, without.

The same machines serve both pools, and both have the same event. `plain` has chains of depth 1,
which is ordinary hashing.
"""

from __future__ import annotations

from lb.demo import scenario
from lb.demo.results import StepResult
from lb.demo.steps import experiment
from lb.demo.steps.context import StepContext
from lb.demo.steps.experiment import Experiment
from netns.brigade import server_name

POOLS = (scenario.WEB, scenario.PLAIN)
EVENT_SECONDS = 60.0
DRAINED = 4


def join(context: StepContext) -> list[StepResult]:
    """A fifth server joins."""
    newcomer = server_name(scenario.NEWCOMER)
    context.progress.heading(f"join: {newcomer} joins while connections are open")

    def event(running: Experiment) -> None:
        site = context.site
        site.known.append(scenario.NEWCOMER)
        site.reload_controller()
        site.start_services(scenario.NEWCOMER)
        site.start_agent(scenario.NEWCOMER)
        with context.progress.task(f"{newcomer}: lbctl up"):
            site.await_ready([scenario.NEWCOMER])
        running.open_newcomers()
        with context.progress.task("waiting until it has its full share of both pools"):
            site.await_equal(POOLS, context.serving(), EVENT_SECONDS)

    return _judged(context, "join", event)


def drain(context: StepContext) -> list[StepResult]:
    """A server is drained."""
    leaver = server_name(DRAINED)
    context.restore_equal_shares()
    context.progress.heading(f"drain: the buckets of {leaver} move while connections are open")

    def event(running: Experiment) -> None:
        site = context.site
        site.run_lbctl("drain", leaver)
        running.open_newcomers()
        others = [number for number in context.serving() if number != DRAINED]
        with context.progress.task(f"waiting until {leaver} is current for no bucket"):
            site.await_equal(POOLS, others, EVENT_SECONDS)

    return _judged(context, "drain", event)


def _judged(context: StepContext, name: str, event: experiment.Event) -> list[StepResult]:
    outcomes = experiment.run(context, POOLS, event)
    step = experiment.judge(context, name, outcomes[scenario.WEB])
    step.promise(step.daisy_chained > 0, "no packet was daisy-chained")
    control = experiment.judge_control(f"{name}_unchained", outcomes[scenario.PLAIN])
    return [step, control]
