"""The demo from beginning to end."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from controlplane.domain.errors import BrigadeError, UsageError
from lb.demo import plan
from lb.demo.keep import commands
from lb.demo.narrator import Narrator
from lb.demo.results import Findings, StepResult
from lb.demo.site.site import Site, lbctl
from lb.demo.stage import Stage
from lb.demo.steps.balance import balance
from lb.demo.steps.kill import kill
from lb.demo.steps.membership import drain, join
from lb.demo.steps.reshuffle import reshuffle
from lb.demo.steps.restarts import agent_restart, controller_restart
from lb.demo.steps.spread import spread
from netns.brigade import brigade, server_name
from netns.errors import NetworkError
from netns.leftovers import remove_leftovers
from netns.network import Network, endings_as_interrupts

Step = Callable[[Stage], list[StepResult]]
STEPS: Mapping[str, Step] = {
    "spread": spread,
    "join": join,
    "drain": drain,
    "reshuffle": reshuffle,
    "agent_restart": agent_restart,
    "controller_restart": controller_restart,
    "kill": kill,
    "balance": balance,
}
NEEDED = {"nginx": "nginx-light", "ss": "iproute2"}
START_SECONDS = 60.0


@dataclass(frozen=True)
class Options:
    """What the command line asks for. No ``only``: every step."""

    quick: bool = False
    keep: bool = False
    only: Sequence[str] = ()


def chosen_steps(only: Sequence[str]) -> list[str]:
    """Return the steps to run, in their order. A control stands for the step that measures it.

    Raises:
        UsageError: there is no such step.

    """
    step_of = {control: step for step, control in plan.CONTROLS.items()}
    wanted = {step_of.get(name, name) for name in only}
    unknown = sorted(wanted - set(STEPS))
    if unknown:
        raise UsageError(f"no step is called {unknown[0]!r}: choose from {', '.join(STEPS)}")
    return [name for name in STEPS if not wanted or name in wanted]


def run(options: Options, narrator: Narrator) -> Findings:
    """Build the network, run the steps, take the network away, and return what was found.

    Raises:
        BrigadeError: the demo cannot run here, or could not be set up.

    """
    steps = chosen_steps(options.only)
    check_machine()
    begun = time.monotonic()
    try:
        with endings_as_interrupts():
            for leftover in remove_leftovers(kept=True):
                narrator.say(f"removed what an earlier run left behind ({leftover})")
            with Network(brigade(servers=len(plan.FIRST_SERVERS) + 1)) as network:
                findings = _perform(network, options, steps, narrator)
                findings.seconds = time.monotonic() - begun
                if options.keep:
                    network.keep()
                    findings.to_try = commands(network)
    except NetworkError as error:
        raise BrigadeError(str(error)) from error
    return findings


def check_machine() -> None:
    """See that this machine can run the demo.

    Raises:
        BrigadeError: something is missing; the line says what to do.

    """
    if os.geteuid() != 0:
        raise BrigadeError("the demo makes network namespaces and loads BPF: run it with sudo")
    lbctl()
    for program, package in NEEDED.items():
        if shutil.which(program) is None:
            raise BrigadeError(f"{program} is missing: apt-get install {package}")


def _perform(
    network: Network, options: Options, steps: Sequence[str], narrator: Narrator
) -> Findings:
    site = Site(network)
    stage = Stage(site, plan.QUICK if options.quick else plan.FULL, narrator)
    try:
        _set_up(stage)
        for name in steps:
            results = _step(stage, name)
            stage.findings.steps += results
            if any(result.fatal for result in results):
                narrator.say("the steps after this one need what it should have left: ending here")
                break
    finally:
        site.fleet.close()
    return stage.findings


def _step(stage: Stage, name: str) -> list[StepResult]:
    """Run one step. What it cannot do is a promise that was not kept."""
    begun = time.monotonic()
    try:
        results = STEPS[name](stage)
    except (BrigadeError, NetworkError) as error:
        result = StepResult(name, seconds=time.monotonic() - begun, fatal=True)
        result.promise(False, str(error))  # noqa: FBT003 (the promise is that it can be done)
        result.shown = "could not be carried out"
        results = [result]
    for ended in stage.site.ended():
        results[0].promise(False, f"{ended} has ended by itself")  # noqa: FBT003 (the same)
    for result in results:
        stage.narrator.result(result)
    return results


def _set_up(stage: Stage) -> None:
    site, narrator = stage.site, stage.narrator
    names = ", ".join(server_name(number) for number in plan.FIRST_SERVERS)
    narrator.step("set-up: a client, a router with ECMP, a controller, four servers")
    site.start_router()
    for number in plan.FIRST_SERVERS:
        site.start_services(number)
        site.start_agent(number)
    site.start_controller()
    with narrator.doing(f"lbctl up on {names}; lbctl control"):
        site.await_ready(plan.FIRST_SERVERS)
        site.await_equal((plan.WEB, plan.PLAIN), plan.FIRST_SERVERS, START_SECONDS)
        site.await_equal((plan.WORK,), list(plan.CAPACITIES), START_SECONDS)
    narrator.say("all servers are ready, announced, and share equally")
