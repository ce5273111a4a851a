"""Rolling: `lbctl rolling` restarts all servers, twice in a row, with the default settings."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from controlplane.domain.errors import BrigadeError
from lb.demo import scenario
from lb.demo.results import StepResult
from lb.demo.site import counters, remote
from lb.demo.site.remote import Remote
from lb.demo.site.site import lbctl
from lb.demo.steps import experiment
from lb.demo.steps.context import StepContext
from lb.demo.traffic.churn import IS_BACK, LEAVES
from lb.demo.traffic.cohort import BrokenFlow, Cohort, Count
from netns.brigade import server_name
from netns.process import Process

RESTART, REBOOT = "restart", "reboot"
ROUNDS = (RESTART, REBOOT)
"""What the command does in each round: restart the services and the agent, or all of it with `lbctl
down` before and `lbctl up` after."""
AT_ONCE = 2
"""Servers whose turn it is at the same time; four servers can spare two."""
POLL_SECONDS = 0.1
IDLE_PART = 0.4
PLACES = 1.15
"""So many more places than flows that must be open: some are just being opened or completed."""
UDP_PORTS = 12_000
FORCED = "bucket_brigade_controller_hops_forced_total"


@dataclass
class Rolls:
    """What was measured in all restarts."""

    seconds: list[float] = field(default_factory=list)
    waited: list[float] = field(default_factory=list)
    open_flows: list[Count] = field(default_factory=list)
    broken: Sequence[BrokenFlow] = ()
    flows: int = 0
    refused: int = 0
    """Drains that the controller held back, until one was accepted."""
    forced: int | None = 0
    """None: the controller does not count them."""
    first_hop: int = 0
    chained: int = 0


def rolling(context: StepContext) -> list[StepResult]:
    """Restart all servers twice in a row, by `lbctl rolling`."""
    context.progress.heading(f"rolling: every server is restarted, {len(ROUNDS)} times in a row")
    context.use_daily_pool(without=scenario.NEWCOMER, known=False)
    site = context.site
    site.control.stop()
    site.default_timing = True
    site.start_controller()
    rolls = Rolls()
    begun = time.monotonic()
    try:
        _restart_all(context, rolls)
    finally:
        site.control.stop()
        site.default_timing = False
        site.start_controller()
    result = StepResult("rolling", seconds=time.monotonic() - begun)
    judge(result, rolls, context.amounts.churn_tcp, context.amounts.churn_udp)
    return [result]


def judge(result: StepResult, rolls: Rolls, tcp: int, udp: int) -> None:
    """No flow may break, and as many as promised must have been open all the time."""
    result.tcp_open = result.tcp_after = min((c.tcp for c in rolls.open_flows), default=0)
    result.udp_open = result.udp_after = min((c.udp for c in rolls.open_flows), default=0)
    result.broken, result.daisy_chained = len(rolls.broken), rolls.chained
    result.more = {
        "restarts": len(rolls.seconds),
        "flows": rolls.flows,
        "forced_hops": rolls.forced,
        "drains_refused": rolls.refused,
        "first_hop_packets": rolls.first_hop,
        "drain_seconds_max": round(max(rolls.waited, default=0.0), 1),
        "restart_seconds_max": round(max(rolls.seconds, default=0.0), 1),
    }
    result.promise(rolls.forced is not None, "the controller does not count forced hops")
    result.promise(bool(rolls.seconds), "no server was restarted")
    result.promise(result.tcp_open >= tcp, f"only {result.tcp_open} TCP flows were open once")
    result.promise(result.udp_open >= udp, f"only {result.udp_open} UDP flows were open once")
    result.promise(
        not rolls.broken, f"{len(rolls.broken)} broken: {experiment.listed(rolls.broken)}"
    )
    extra = rolls.chained / max(1, rolls.first_hop)
    result.shown = (
        f"{len(rolls.seconds)} restarts under {rolls.flows} flows, {len(rolls.broken)} broken, "
        f"{rolls.forced} hops forced out; {rolls.chained} packets daisy-chained, {extra:.1%} of "
        f"{rolls.first_hop}"
    )


def _restart_all(context: StepContext, rolls: Rolls) -> None:
    site = context.site
    site.await_rounds()
    before = _packets(context)
    cohort = _flows(context)
    with context.progress.task("opening flows of mixed lifetimes"):
        cohort.wait_open()
    rolls.open_flows.append(cohort.count())
    numbers = {server_name(number): number for number in context.serving()}
    actions = {
        RESTART: lambda name: site.restart(numbers[name]),
        REBOOT: lambda name: site.reboot(numbers[name]),
    }
    socket = site.controller.run_dir / "remote.sock"
    with Remote(socket, actions):
        for how in ROUNDS:
            with context.progress.task(f"lbctl rolling: {how} of {', '.join(numbers)}"):
                try:
                    _Round(context, cohort, rolls).run(how, remote.command(socket, how))
                except BrigadeError as error:
                    _finish(cohort, rolls)
                    counted = f"{len(rolls.broken)} flows broke ({experiment.listed(rolls.broken)})"
                    raise BrigadeError(f"{error}. By the clients' count, {counted}") from error
    _finish(cohort, rolls)
    # The controller was started for this step: it counts from 0.
    forced = site.controller_metric(FORCED, pool=scenario.DAILY)
    rolls.forced = None if forced is None else int(forced)
    now = _packets(context)
    rolls.first_hop, rolls.chained = (now[n] - before[n] for n in (0, 1))


def _finish(cohort: Cohort, rolls: Rolls) -> None:
    """Complete all flows, and take their verdict."""
    cohort.finish()
    verdict = cohort.verdict()
    rolls.broken, rolls.flows = verdict.broken, verdict.flows


def _flows(context: StepContext) -> Cohort:
    amounts, site = context.amounts, context.site
    tcp, udp = round(amounts.churn_tcp * PLACES), round(amounts.churn_udp * PLACES)
    idle = round(tcp * IDLE_PART)
    arguments = [
        f"--downloads={tcp - idle}",
        f"--idle={idle}",
        f"--udp={udp}",
        f"--udp-source-port={site.take_udp_ports(UDP_PORTS)}",
        f"--udp-ports={UDP_PORTS}",
        f"--longest={amounts.churn_seconds}",
        *(f"--file={path}" for path in site.files),
    ]
    return Cohort(site.client, scenario.DAILY_VIP, "traffic-rolling", arguments, "churn")


def _packets(context: StepContext) -> tuple[int, int]:
    sums = context.site.counters.read().values()
    first_hop = sum(counters.total(one, counters.FIRST_HOP) for one in sums)
    return first_hop, sum(one[counters.DAISY_CHAINED] for one in sums)


class _Round:
    """One `lbctl rolling` for all servers, followed by its events."""

    def __init__(self, context: StepContext, cohort: Cohort, rolls: Rolls) -> None:
        self._context = context
        self._cohort = cohort
        self._rolls = rolls
        self._begun: dict[str, float] = {}

    def run(self, how: str, command: Sequence[str]) -> None:
        """Restart all servers. Raises ``BrigadeError``: the command stopped before that."""
        site = self._context.site
        journal = site.controller.base / f"rolling-{how}.jsonl"
        options = ["--json", "--at-once", str(AT_ONCE), "--journal", str(journal)]
        words = [lbctl(), "rolling", *options, "--config", str(site.control_file), "--", *command]
        process = site.controller.popen(words, f"rolling-{how}")
        for event in _events(process):
            self._take(event)
        if process.wait(0.0):
            last = process.output().strip().splitlines()[-1:]
            raise BrigadeError(f"lbctl rolling: {''.join(last)}")

    def _take(self, event: dict[str, Any]) -> None:
        name, now, rolls = event.get("server", ""), time.monotonic(), self._rolls
        match event["event"]:
            case "drain":
                self._begun[name] = now
                self._cohort.note(f"{LEAVES} {name}")
            case "drain_held":
                rolls.refused += 1
            case "command":
                rolls.waited.append(now - self._begun[name])
            case "undrain":
                self._cohort.note(f"{IS_BACK} {name}")
            case "done":
                rolls.seconds.append(now - self._begun[name])
                rolls.open_flows.append(self._cohort.count())


def _events(process: Process) -> Iterator[dict[str, Any]]:
    """Yield the events that `lbctl rolling --json` prints, until it ends."""
    shown = 0
    while True:
        ended = process.poll() is not None
        whole = process.output().rpartition("\n")[0].splitlines()
        for line in whole[shown:]:
            if line.startswith("{"):
                yield json.loads(line)
        shown = len(whole)
        if ended:
            return
        time.sleep(POLL_SECONDS)
