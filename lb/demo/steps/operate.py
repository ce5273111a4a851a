"""Operate: a bad day. Many things go wrong at once, and each is reported by name."""

from __future__ import annotations

import time
from collections.abc import Callable

from controlplane.domain.errors import BrigadeError
from controlplane.domain.objects import ServerState
from lb.demo import scenario
from lb.demo.results import StepResult
from lb.demo.site import faults
from lb.demo.site.clock import SteppedClock
from lb.demo.steps import experiment
from lb.demo.steps.alarms import REPORTED_SECONDS_MAX, Alarm, Alarms, Sign
from lb.demo.steps.context import StepContext
from lb.demo.steps.experiment import Experiment, PoolOutcome
from lb.demo.steps.kill import connections
from lb.demo.steps.lookout import CONTROLLER_LOG, SERVERS, Lookout, log_of, status_of
from netns.brigade import server_name
from netns.errors import NetworkError
from netns.polling import NotInTimeError, wait_until

ALTERED, UNFILTERED, KILLED, CUT_OFF = 1, 2, 3, 4
NEWCOMER = scenario.NEWCOMER
EVERYBODY = (*scenario.FIRST_SERVERS, NEWCOMER)
HOUR = 3600
PATIENCE_SECONDS = 4 * REPORTED_SECONDS_MAX
"""How long to wait for a report, so that a late one is measured."""
JOIN_SECONDS = 90.0
REACT_SECONDS = 60.0
WHOLE_SECONDS = 120.0
"""A server that was cut off comes back after 30 s of reach."""

VIP_GONE = f"{server_name(ALTERED)}: its VIP is removed"
SYSCTLS = f"{server_name(ALTERED)}: its sysctls are changed"
FILTER_GONE = f"{server_name(UNFILTERED)}: its clsact filter is deleted"
DEAD = f"{server_name(KILLED)}: its agent and its services are killed"
BLOCKED = f"{server_name(CUT_OFF)}: UDP 6080 towards it is blocked"
NO_CONTROLLER = f"the controller is killed while {server_name(NEWCOMER)} joins"
CLOCK = "the controller's clock is stepped from an hour ahead to an hour behind"


def alarms_of_the_day() -> Alarms:
    """Return all faults, and the lines that report each by name."""
    altered = (log_of(ALTERED), status_of(ALTERED))
    unfiltered = (log_of(UNFILTERED), status_of(UNFILTERED))
    others = [status_of(n) for n in (ALTERED, UNFILTERED, NEWCOMER)]
    killed, cut_off = server_name(KILLED), server_name(CUT_OFF)
    return Alarms(
        [
            Alarm(NO_CONTROLLER, (Sign(SERVERS, "NO CONTROLLER LEADS"),)),
            Alarm(VIP_GONE, _signs(altered, rf"\bvips\b|{scenario.DAILY_VIP}")),
            Alarm(SYSCTLS, _signs(altered, r"\bsysctls\b|rp_filter|arp_ignore")),
            Alarm(FILTER_GONE, _signs(unfiltered, r"clsact|\bredirector\b|detached")),
            Alarm(
                DEAD,
                (
                    Sign(SERVERS, rf"{killed}\b.*\bsilent\b"),
                    Sign(CONTROLLER_LOG, rf"\b{killed}\b"),
                ),
            ),
            Alarm(
                BLOCKED,
                (
                    *_signs(others, rf"\b{cut_off}\b.*\blost\b"),
                    Sign(SERVERS, rf"\b{cut_off}\b.*\b(lost|cut off)\b"),
                    Sign(CONTROLLER_LOG, rf"\b{cut_off}\b"),
                ),
            ),
            Alarm(CLOCK, (Sign(CONTROLLER_LOG, r"\bclock\b"),)),
        ]
    )


def _signs(sources: tuple[str, ...] | list[str], pattern: str) -> tuple[Sign, ...]:
    return tuple(Sign(source, pattern) for source in sources)


def operate(context: StepContext) -> list[StepResult]:
    """Break many things at once, and mend them."""
    context.progress.heading("operate: many things go wrong at once")
    context.use_daily_pool(without=NEWCOMER, known=True)
    day = _Day(context)
    try:
        outcome = experiment.run(context, (scenario.DAILY,), day.event)[scenario.DAILY]
    finally:
        day.mend()
    result = StepResult("operate")
    judge(result, outcome, day.expected, day.alarms)
    amounts = context.amounts
    result.promise(outcome.before.tcp >= amounts.tcp, f"only {outcome.before.tcp} TCP were open")
    result.promise(outcome.before.udp >= amounts.udp, f"only {outcome.before.udp} UDP were open")
    for failure in day.failures:
        result.failures.append(failure)
    return [result]


def judge(
    result: StepResult, outcome: PoolOutcome, expected: frozenset[str], alarms: Alarms
) -> None:
    """Only flows of the killed and the cut-off server may break; each fault must be reported."""
    outcome.fill(result)
    others = [flow for flow in outcome.broken if flow.flow not in expected]
    result.broken_expected = len(outcome.broken) - len(others)
    result.more = {"broken_unexpected": len(others), "reports": alarms.as_json()}
    result.promise(bool(expected), "no flow was on the killed or the cut-off server")
    result.promise(
        not others, f"{len(others)} flows of other servers broke: {experiment.listed(others)}"
    )
    alarms.judge(result)
    slowest = max((alarm.seconds or 0.0 for alarm in alarms.alarms.values()), default=0.0)
    result.shown = (
        f"{len(outcome.broken)} broken, {result.broken_expected} of {len(expected)} on "
        f"{server_name(KILLED)} and {server_name(CUT_OFF)}; each of {len(alarms.alarms)} faults "
        f"reported, the last after {slowest:.1f} s"
        if result.ok
        else f"{len(outcome.broken)} broken, {result.broken_expected} of them expected"
    )


class _Day:
    """The event. ``failures``: promises about the fleet that were not kept."""

    def __init__(self, context: StepContext) -> None:
        self._context = context
        self._site = context.site
        self._clock = SteppedClock(context.site.controller.base)
        self.alarms = alarms_of_the_day()
        self._lookout = Lookout(context.site, EVERYBODY, self.alarms)
        self._mended = True
        self.expected: frozenset[str] = frozenset()
        self.failures: list[str] = []

    def event(self, running: Experiment) -> None:
        """Cause all faults, wait for their reports, open new flows, mend everything."""
        self._mended = False
        self._begin_join()
        self._record_before()
        site = self._site
        self.expected = running.names() & (
            connections(site, KILLED, scenario.DAILY_VIP)
            | connections(site, CUT_OFF, scenario.DAILY_VIP)
        )
        self._context.progress.log(
            f"{len(self.expected)} open flows are on {server_name(KILLED)} and "
            f"{server_name(CUT_OFF)}, of which the first is killed, the second cut off"
        )
        self._cause_all()
        # Only now: a command that was begun before the faults would delay the one that shows them.
        with self._lookout.watching():
            with self._context.progress.task("waiting for reports"):
                self._lookout.await_reports(PATIENCE_SECONDS)
            self._controller_again()
            self._agent_again()
            self._await("new connections avoid both", self._avoided, REACT_SECONDS)
            running.open_newcomers()
            running.await_newcomers()
            self._lookout.look()
        for line in self.alarms.lines():
            self._context.progress.log(line)
        self._find_repairs()
        self.mend()

    def _begin_join(self) -> None:
        """Let a server join, and wait until it has a part of its share."""
        site, name = self._site, server_name(NEWCOMER)
        site.switch_on(NEWCOMER)
        with self._context.progress.task(f"{name} joins"):
            full = sum(site.store.buckets(scenario.DAILY).values()) // (NEWCOMER + 1)
            wait_until(
                lambda: (
                    site.store.state(name) is ServerState.JOINING
                    and 0 < site.store.buckets(scenario.DAILY).get(name, 0) < full
                ),
                f"{name} has a part of its share",
                JOIN_SECONDS,
            )

    def _record_before(self) -> None:
        try:
            self._lookout.baseline()
        except ValueError as error:
            raise BrigadeError(str(error)) from error

    def _cause_all(self) -> None:
        site = self._site
        causes: tuple[tuple[str, Callable[[], object]], ...] = (
            (NO_CONTROLLER, site.control.kill),
            (VIP_GONE, lambda: faults.remove_vip(site, ALTERED)),
            (SYSCTLS, lambda: faults.change_sysctls(site, ALTERED)),
            (FILTER_GONE, lambda: faults.delete_filter(site, UNFILTERED)),
            (DEAD, lambda: site.stop_agent_and_services(KILLED)),
            (BLOCKED, lambda: faults.block(site, CUT_OFF)),
        )
        for name, cause in causes:
            # The time before: a report can be as fast as the command that causes the fault.
            self.alarms.caused(name, time.monotonic())
            cause()
            self._context.progress.log(name)

    def _controller_again(self) -> None:
        """Start the controller with a clock that is an hour ahead; step it to an hour behind."""
        site = self._site
        self._clock.step(HOUR)
        site.controller_environment = self._clock.environment
        site.start_controller()
        with self._context.progress.task("the controller is started, its clock an hour ahead"):
            generation = site.store.generation(scenario.DAILY)
            self._await(
                "the controller publishes again",
                lambda: site.store.generation(scenario.DAILY) > generation,
                REACT_SECONDS,
            )
        self._clock.step(-HOUR)
        self.alarms.caused(CLOCK, time.monotonic())
        self._context.progress.log(CLOCK)
        self._lookout.await_reports(PATIENCE_SECONDS)

    def _agent_again(self) -> None:
        """Start the killed agent, as systemd does after a second; its services stay dead.

        Until then its programs forward by their last table, and the router knows no better: new
        connections that arrive there and are its own by that table are refused.
        """
        self._site.start_agent(KILLED)
        self._context.progress.log(f"the agent of {server_name(KILLED)} is started, no service yet")

    def _avoided(self) -> bool:
        buckets = self._site.store.buckets(scenario.DAILY)
        settled = self._site.store.is_settled(scenario.DAILY, self._site.alive())
        return settled and not any(buckets.get(server_name(n)) for n in (KILLED, CUT_OFF))

    def _find_repairs(self) -> None:
        """The agents themselves must have put back what was removed."""
        for what, missing in faults.missing(self._site, ALTERED, UNFILTERED).items():
            if missing:
                self.failures.append(f"not put back: {what}")

    def _await(self, what: str, condition: Callable[[], bool], seconds: float) -> None:
        """Wait; it is a broken promise, but not the end, if this takes too long."""
        try:
            with self._context.progress.task(f"waiting until {what}"):
                wait_until(condition, what, seconds)
        except NotInTimeError as error:
            self.failures.append(str(error))

    def mend(self) -> None:
        """Mend everything, also what the agents should have mended; then the fleet is whole."""
        if self._mended:
            return
        self._mended = True
        site = self._site
        faults.unblock(site, CUT_OFF)
        faults.put_back(site, ALTERED)
        if faults.missing(site, ALTERED, UNFILTERED)[faults.FILTER]:
            site.running[UNFILTERED]["agent"].stop()
            site.start_agent(UNFILTERED)
        site.control.stop()
        site.controller_environment = {}
        site.start_controller()
        if "nginx" not in site.running[KILLED]:
            site.start_services(KILLED)
        if "agent" not in site.running[KILLED]:
            site.start_agent(KILLED)
        try:
            with self._context.progress.task("everything is mended; waiting for equal shares"):
                site.await_equal((scenario.DAILY, scenario.WEB), EVERYBODY, WHOLE_SECONDS)
                site.await_active(EVERYBODY)
                site.await_ready(EVERYBODY)
                wait_until(lambda: not self._lookout.troubles(), "no TROUBLE is left")
        except NetworkError as error:
            self.failures.append(f"the fleet is not whole again: {error}")
            troubles = [f"TROUBLE of {line}" for line in self._lookout.troubles()]
            seen = site.run_lbctl("servers").splitlines()
            self._context.progress.print_lines([*seen, *troubles])
