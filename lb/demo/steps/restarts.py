"""Restarts: agents and the controller die without a word and come back."""

from __future__ import annotations

import time

from lb.demo import experiment, plan
from lb.demo.experiment import Experiment
from lb.demo.results import StepResult
from lb.demo.stage import Stage
from netns.brigade import server_name
from netns.polling import wait_until

AGENTS = (2, 4)
"""Whose agents are killed, one after the other."""
AWAY_SECONDS = 1.5
DRAINED_MEANWHILE = 1
"""One that no earlier step drained, so that its buckets move in two steps."""
EVENT_SECONDS = 60.0
PUBLISH_SECONDS = 20.0


def agent_restart(stage: Stage) -> list[StepResult]:
    """Kill agents with SIGKILL and start them again."""
    names = " and ".join(server_name(number) for number in AGENTS)
    stage.narrator.step(f"agent_restart: SIGKILL for the agents of {names}")
    stage.rest()

    def event(running: Experiment) -> None:
        for number in AGENTS:
            stage.site.running[number]["agent"].kill()
            if number == AGENTS[0]:
                running.open_newcomers()
            with stage.narrator.doing(f"{server_name(number)} forwards without an agent"):
                time.sleep(AWAY_SECONDS)
            started_at = time.time()
            stage.site.start_agent(number)
            with stage.narrator.doing(f"{server_name(number)}: lbctl up again"):
                stage.site.await_ready([number], started_at)
        stage.site.await_equal((plan.WEB,), stage.serving(), EVENT_SECONDS)

    return _judged(stage, "agent_restart", event)


def controller_restart(stage: Stage) -> list[StepResult]:
    """Kill the controller in the middle of a move, and start it again."""
    leaver = server_name(DRAINED_MEANWHILE)
    stage.narrator.step("controller_restart: SIGKILL for the controller in the middle of a move")
    stage.rest()
    site = stage.site

    def event(running: Experiment) -> None:
        generation = site.fleet.generation(plan.WEB)
        site.operate("drain", leaver)
        wait_until(
            lambda: site.fleet.generation(plan.WEB) > generation, "the controller publishes",
            PUBLISH_SECONDS,
        )  # fmt: skip
        site.control.kill()
        running.open_newcomers()
        with stage.narrator.doing("servers go on without a controller"):
            time.sleep(AWAY_SECONDS)
        site.start_controller()
        others = [number for number in stage.serving() if number != DRAINED_MEANWHILE]
        with stage.narrator.doing(f"the new controller ends the drain of {leaver}"):
            site.await_equal((plan.WEB,), others, EVENT_SECONDS)

    return _judged(stage, "controller_restart", event)


def _judged(stage: Stage, name: str, event: experiment.Event) -> list[StepResult]:
    outcomes = experiment.run(stage, (plan.WEB,), event)
    result = experiment.judge(stage, name, outcomes[plan.WEB])
    return [result]
