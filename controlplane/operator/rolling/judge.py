"""Whether a server may go on to its next phase. Pure: facts and times are given."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from controlplane.domain.errors import ExitCode
from controlplane.domain.objects import IN_USE, ServerState
from controlplane.operator.requests import request_text
from controlplane.operator.rolling.facts import FleetFacts, Limits, Phase, ServerFacts, Turn

REPORTS = 2
"""New reports after a command, before what they contain counts. The first may have been composed
before the command ended, and have been on its way."""


class Answer(Enum):
    """What to do now."""

    WAIT = "wait"
    GO = "go on"
    STOP = "stop"


@dataclass(frozen=True)
class Verdict:
    """``text``: what it waits for, or why the run stops."""

    answer: Answer
    text: str = ""
    exit_code: int = ExitCode.FAILED


GO = Verdict(Answer.GO)


def drained(turn: Turn, facts: ServerFacts, now: float, limits: Limits) -> Verdict:
    """Judge a server whose drain is requested; its command may begin with ``GO``.

    After the limit its command begins with connections left, which it may break; not while new
    ones can still come.
    """
    if lost := _lost(facts):
        return Verdict(Answer.STOP, f"{turn.name} is lost before its command began: {lost}")
    if other := _not_ours(turn, facts):
        return Verdict(Answer.STOP, other)
    if facts.drain.done:
        return GO
    if now - turn.since < limits.connections_seconds:
        return Verdict(Answer.WAIT, str(facts.drain))
    found = facts.drain
    if found.noted and not found.buckets and not found.waiting_for and found.connections:
        return GO
    return _timeout(turn, limits.connections_seconds, str(found))


def returned(turn: Turn, facts: ServerFacts, now: float, limits: Limits) -> Verdict:
    """Judge a server whose command has ended; with ``GO``, its drain is cancelled.

    A server that the command took out of the cluster (`lbctl down`) does not get ready while its
    drain is requested: what it reports is judged afterwards.
    """
    if other := _not_ours(turn, facts):
        return Verdict(Answer.STOP, other)
    missing = list(_not_back(turn, facts, limits))
    if not missing and facts.state in IN_USE:
        missing = list(_not_well(turn, facts, now))
        turn.was_well = not missing
    else:
        if facts.state is not ServerState.REGISTERED:
            missing.append(f"it is {facts.state or 'unknown'}")
        if facts.lost_by:  # it is cut off, and would not join
            missing.append(_lost_packets(facts))
    return _until(turn, missing, now, limits.ready_seconds)


def joined(
    turn: Turn, facts: ServerFacts, fleet: FleetFacts, now: float, limits: Limits
) -> Verdict:
    """Judge a server whose drain is cancelled; with ``GO``, it has its share."""
    if facts.request is not None:
        text = f"the drain of {turn.name} was requested{request_text(facts.request)}"
        return Verdict(Answer.STOP, text)
    if turn.was_well and (lost := _lost(facts)):
        return Verdict(Answer.STOP, f"{turn.name} is lost: {lost}")
    if turn.was_well and facts.unhealthy:
        return Verdict(Answer.STOP, f"{turn.name}: its check fails: {', '.join(facts.unhealthy)}")
    missing = [*_not_back(turn, facts, limits), *_not_well(turn, facts, now)]
    turn.was_well = turn.was_well or not missing
    if facts.state is not ServerState.ACTIVE:
        missing.append(f"it is {facts.state or 'unknown'}")
    missing += [*facts.lacking, *fleet.waiting]
    return _until(turn, missing, now, limits.share_seconds)


def _not_back(turn: Turn, facts: ServerFacts, limits: Limits) -> Iterator[str]:
    """Yield what shows that the server is not there yet after its command."""
    anew = [mark for mark in turn.reports if mark != turn.after]
    if limits.restarts_agent:
        anew = [mark for mark in anew if mark.run != turn.before.run]
    if len(anew) < REPORTS:
        yield "no report of a new run of its agent" if limits.restarts_agent else "no new report"
    elif not facts.heard or facts.stopped or facts.leaving:
        yield "its agent is silent" if not facts.heard else "its agent has stopped, or leaves"


def _not_well(turn: Turn, facts: ServerFacts, now: float) -> Iterator[str]:
    """Yield what a server lacks that is there: readiness, checks, reach."""
    if not facts.ready:
        yield "it is not ready (lbctl status there shows why)"
    if facts.unhealthy:
        yield f"its check fails: {', '.join(facts.unhealthy)}"
    elif facts.unchecked:
        yield f"not checked yet: {', '.join(facts.unchecked)}"
    elif turn.healthy_since is None or now - turn.healthy_since < facts.notice_seconds:
        yield f"its checks have to pass for {facts.notice_seconds:.0f} s"
    if facts.lost_by:
        yield _lost_packets(facts)
    if turn.probed is None or turn.probed:
        yield f"probe through the tunnel: {turn.probed or 'no answer yet'}"


def _lost_packets(facts: ServerFacts) -> str:
    return f"packets to it are lost from {', '.join(facts.lost_by)}"


def _lost(facts: ServerFacts) -> str:
    if facts.state is None or facts.state is ServerState.DOWN:
        return f"it is {facts.state or 'not in the cluster any more'}"
    return "its agent has stopped" if facts.stopped else ""


def _not_ours(turn: Turn, facts: ServerFacts) -> str:
    """Return who has changed the drain that this run requested; empty: nobody."""
    if facts.request is None:
        return f"somebody cancelled the drain of {turn.name}"
    if turn.request is not None and facts.request != turn.request:
        return f"the drain of {turn.name} was requested again{request_text(facts.request)}"
    return ""


def _until(turn: Turn, missing: list[str], now: float, seconds: float) -> Verdict:
    if not missing:
        return GO
    text = "; ".join(dict.fromkeys(missing))
    if now - turn.since < seconds:
        return Verdict(Answer.WAIT, text)
    return _timeout(turn, seconds, text)


def _timeout(turn: Turn, seconds: float, text: str) -> Verdict:
    what = {Phase.DRAINING: "drain", Phase.RETURNING: "return", Phase.JOINING: "share"}
    part = what.get(turn.phase, turn.phase.value)
    message = f"{turn.name}: {part} not complete after {seconds:g} s: {text}"
    return Verdict(Answer.STOP, message, ExitCode.TIMEOUT)
