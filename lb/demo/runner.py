"""Runs the demo from beginning to end."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import closing

from controlplane.domain.errors import BrigadeError, UsageError
from controlplane.domain.names import guess
from lb.demo import scenario
from lb.demo.progress import ProgressLog
from lb.demo.results import Findings, StepResult
from lb.demo.site.site import Site, lbctl
from lb.demo.steps.balance import balance
from lb.demo.steps.context import StepContext
from lb.demo.steps.kill import kill
from lb.demo.steps.membership import drain, join
from lb.demo.steps.operate import operate
from lb.demo.steps.reshuffle import reshuffle
from lb.demo.steps.restarts import agent_restart, controller_restart
from lb.demo.steps.rolling import rolling
from lb.demo.steps.spread import spread
from lb.demo.suggestions import suggested_commands
from netns.brigade import brigade, server_name
from netns.errors import NetworkError
from netns.leftovers import remove_leftovers
from netns.network import Network, endings_as_interrupts
from netns.privileges import check_privileges

STEPS: dict[str, Callable[[StepContext], list[StepResult]]] = {
    step.__name__: step
    for step in (
        spread, join, drain, reshuffle, agent_restart, controller_restart, kill, operate,
        rolling, balance,
    )
}  # fmt: skip
NEEDED = {"nginx": "nginx-light", "ss": "iproute2"}
START_SECONDS = 60.0


def chosen_steps(only: Sequence[str], *, quick: bool = False) -> list[str]:
    """Return the steps to run, in order; all of them if ``only`` is empty.

    The name of a control selects the step that measures it. ``quick`` leaves out the steps of a day
    of operation, unless ``only`` names them.

    Raises:
        UsageError: there is no such step.

    """
    step_of = {control: step for step, control in scenario.CONTROLS.items()}
    wanted = {step_of.get(name, name) for name in only}
    unknown = sorted(wanted - set(STEPS))
    if unknown:
        raise UsageError(
            f"no step is called {unknown[0]!r}; {guess(unknown[0], STEPS)}"
            f"choose from {', '.join(STEPS)}"
        )
    left_out = scenario.BY_DAY if quick else ()
    return [name for name in STEPS if (name in wanted if wanted else name not in left_out)]


def run(progress: ProgressLog, only: Sequence[str], *, quick: bool, keep: bool) -> Findings:
    """Build the network, run the steps, remove the network unless ``keep``, return the results.

    Raises:
        BrigadeError: the demo cannot run here, or could not be set up.

    """
    steps = chosen_steps(only, quick=quick)
    check_machine()
    begun = time.monotonic()
    try:
        with endings_as_interrupts():
            for leftover in remove_leftovers(kept=True):
                progress.log(f"removed what an earlier run left behind ({leftover})")
            with Network(brigade(servers=len(scenario.FIRST_SERVERS) + 1)) as network:
                amounts = scenario.QUICK if quick else scenario.FULL
                findings = _perform(StepContext(Site(network), amounts, progress), steps)
                findings.seconds = time.monotonic() - begun
                if keep:
                    network.keep()
                    findings.to_try = suggested_commands(network)
    except NetworkError as error:
        raise BrigadeError(str(error)) from error
    return findings


def check_machine() -> None:
    """Check that this machine can run the demo.

    Raises:
        BrigadeError: something is missing; the message has the remedy.

    """
    if os.geteuid() != 0:
        raise BrigadeError("the demo makes network namespaces and loads BPF: run it with sudo")
    lbctl()
    try:
        check_privileges()
    except NetworkError as error:
        raise BrigadeError(str(error)) from error
    for program, package in NEEDED.items():
        if shutil.which(program) is None:
            raise BrigadeError(f"{program} is missing: apt-get install {package}")


def _perform(context: StepContext, steps: Sequence[str]) -> Findings:
    with closing(context.site.store):
        _set_up(context)
        for name in steps:
            results = _step(context, name)
            context.findings.steps += results
            if any(result.fatal for result in results):
                context.progress.log("the next steps depend on this one: the demo ends here")
                break
    return context.findings


def _step(context: StepContext, name: str) -> list[StepResult]:
    """Run one step. If it cannot be completed, that is a broken promise."""
    begun = time.monotonic()
    try:
        results = STEPS[name](context)
    except (BrigadeError, NetworkError) as error:
        result = StepResult(name, seconds=time.monotonic() - begun, fatal=True)
        result.promise(False, str(error))  # noqa: FBT003 (the promise is that it can be done)
        result.shown = "could not be completed"
        results = [result]
    for ended in context.site.ended():
        results[0].promise(False, f"{ended} has ended unexpectedly")  # noqa: FBT003 (the same)
    for result in results:
        context.progress.result(result)
    return results


def _set_up(context: StepContext) -> None:
    site, progress = context.site, context.progress
    names = ", ".join(server_name(number) for number in scenario.FIRST_SERVERS)
    progress.heading("set-up: a client, a router with ECMP, a controller, four servers")
    site.start_router()
    for number in scenario.FIRST_SERVERS:
        site.start_services(number)
        site.start_agent(number)
    site.start_controller()
    with progress.task(f"lbctl up on {names}; lbctl control"):
        site.await_ready(scenario.FIRST_SERVERS)
        site.await_equal((scenario.WEB, scenario.PLAIN), scenario.FIRST_SERVERS, START_SECONDS)
        site.await_equal((scenario.WORK,), list(scenario.CAPACITIES), START_SECONDS)
    progress.log("all servers are ready and announced, and have equal shares")
