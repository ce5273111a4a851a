"""Restarts: agents and the controller are killed and started again."""

from __future__ import annotations

import time

from lb.demo import scenario
from lb.demo.results import StepResult
from lb.demo.steps import experiment
from lb.demo.steps.context import StepContext
from lb.demo.steps.experiment import Experiment
from netns.brigade import server_name
from netns.polling import wait_until

AGENTS = (2, 4)
"""The servers whose agents are killed, one after the other."""
AWAY_SECONDS = 1.5
DRAINED_MEANWHILE = 1
"""A server that no earlier step drained, so that its buckets move in two steps."""
EVENT_SECONDS = 60.0
PUBLISH_SECONDS = 20.0


def agent_restart(context: StepContext) -> list[StepResult]:
    """Kill agents with SIGKILL and start them again."""
    names = " and ".join(server_name(number) for number in AGENTS)
    context.progress.heading(f"agent_restart: SIGKILL for the agents of {names}")
    context.restore_equal_shares()

    def event(running: Experiment) -> None:
        for number in AGENTS:
            context.site.running[number]["agent"].kill()
            if number == AGENTS[0]:
                running.open_newcomers()
            with context.progress.task(f"{server_name(number)} forwards without an agent"):
                time.sleep(AWAY_SECONDS)
            started_at = time.time()
            context.site.start_agent(number)
            with context.progress.task(f"{server_name(number)}: lbctl up again"):
                context.site.await_ready([number], started_at)
        context.site.await_equal((scenario.WEB,), context.serving(), EVENT_SECONDS)

    return _judged(context, "agent_restart", event)


def controller_restart(context: StepContext) -> list[StepResult]:
    """Kill the controller during a move, and start it again."""
    leaver = server_name(DRAINED_MEANWHILE)
    context.progress.heading("controller_restart: SIGKILL for the controller during a move")
    context.restore_equal_shares()
    site = context.site

    def event(running: Experiment) -> None:
        generation = site.store.generation(scenario.WEB)
        site.run_lbctl("drain", leaver)
        wait_until(
            lambda: site.store.generation(scenario.WEB) > generation, "the controller publishes",
            PUBLISH_SECONDS,
        )  # fmt: skip
        site.control.kill()
        running.open_newcomers()
        with context.progress.task("servers forward without a controller"):
            time.sleep(AWAY_SECONDS)
        site.start_controller()
        others = [number for number in context.serving() if number != DRAINED_MEANWHILE]
        with context.progress.task(f"the new controller completes the drain of {leaver}"):
            site.await_equal((scenario.WEB,), others, EVENT_SECONDS)

    return _judged(context, "controller_restart", event)


def _judged(context: StepContext, name: str, event: experiment.Event) -> list[StepResult]:
    outcomes = experiment.run(context, (scenario.WEB,), event)
    result = experiment.judge(context, name, outcomes[scenario.WEB])
    return [result]
