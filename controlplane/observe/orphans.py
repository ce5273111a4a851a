"""Which connections are proved to be broken: one server had no socket, another one has it.

Servers report flows that had nowhere to go (orphans). All are asked for some of them, by a part of
each one's hash; a server that has a socket of such a flow answers with the whole hash. Pure, but
for the log.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import structlog

from controlplane.documents.fields import DocumentError
from controlplane.documents.flows import ReportedFlows, decode_flows
from controlplane.domain.objects import AskedFlow, FlowName, Report
from controlplane.store.asked import MOST_ASKED

ASK_SECONDS = 4.0
"""For how long a flow is asked for: some reports, and a dump of the sockets."""
MOST_OF_ONE = 16
"""Flows of one server that are asked for at one time: one that lies leaves space for others."""
DONE_SECONDS = 60.0
"""For how long a flow is not asked for again."""
MOST_DONE = 4096


@dataclass
class _Asked:
    """A flow that is asked for. ``broken_by``: who reported it as an orphan, in this order."""

    name: FlowName
    until: float
    broken_by: list[str] = field(default_factory=list)


class Orphans:
    """Follows the reports of a fleet. For one thread.

    ``proved`` counts by the server that had no socket and the one that has it. ``refused`` counts,
    by server, reports whose flows could not be read, and answers that nobody asked for.
    """

    def __init__(self) -> None:
        self.proved: Counter[tuple[str, str]] = Counter()
        self.refused: Counter[str] = Counter()
        self._read: dict[str, tuple[str, int]] = {}
        self._asked: dict[AskedFlow, _Asked] = {}
        self._done: dict[FlowName, float] = {}

    @property
    def asked(self) -> frozenset[AskedFlow]:
        """What servers are to be asked for now."""
        return frozenset(self._asked)

    def observe(self, reports: Mapping[str, Report], now: float) -> None:
        """Take what is new in reports. ``now`` is monotonic seconds.

        A server's first report is only the one to begin with: it may be old.
        """
        self._forget(now)
        fresh = [name for name, report in reports.items() if self._is_fresh(name, report)]
        self._read = {name: _mark(report) for name, report in reports.items()}
        found = {name: self._flows(name, reports[name]) for name in sorted(fresh)}
        for name, flows in found.items():
            self._ask(name, flows.orphans, now)
        for name, flows in found.items():
            self._judge(name, flows.held, now)

    def _is_fresh(self, name: str, report: Report) -> bool:
        before = self._read.get(name)
        return _has_flows(report.flows) and before is not None and before != _mark(report)

    def _flows(self, name: str, report: Report) -> ReportedFlows:
        try:
            return decode_flows(report.flows)
        except DocumentError as error:
            self.refused[name] += 1
            structlog.get_logger().warning("flows refused", about=name, reason=str(error))
            return ReportedFlows()

    def _ask(self, name: str, orphans: Iterable[FlowName], now: float) -> None:
        """Ask for orphans of a server, as far as there is space for them."""
        count = sum(one.broken_by[0] == name for one in self._asked.values())
        for flow in orphans:
            known = self._asked.get(flow.asked)
            if known is not None:
                if known.name == flow and name not in known.broken_by:
                    known.broken_by.append(name)
                continue
            if flow in self._done or count >= MOST_OF_ONE or len(self._asked) >= MOST_ASKED:
                continue
            self._asked[flow.asked] = _Asked(flow, now + ASK_SECONDS, [name])
            count += 1

    def _judge(self, name: str, held: Iterable[FlowName], now: float) -> None:
        """Count what a server has of what was asked for."""
        for flow in held:
            known = self._asked.get(flow.asked)
            if known is None and flow in self._done:
                continue  # it still answers what is not asked for any more
            if known is None or known.name != flow:
                self.refused[name] += 1
                continue
            if name in known.broken_by:
                continue  # it answers to itself: a segment that did not fit its own socket
            self.proved[known.broken_by[0], name] += 1
            self._end(known, now)
            structlog.get_logger().warning(
                "a connection is broken", about=name, pool=flow.pool, reset_by=known.broken_by[0]
            )

    def _forget(self, now: float) -> None:
        for known in [one for one in self._asked.values() if one.until <= now]:
            self._end(known, now)
        self._done = {flow: until for flow, until in self._done.items() if until > now}

    def _end(self, known: _Asked, now: float) -> None:
        del self._asked[known.name.asked]
        self._done[known.name] = now + DONE_SECONDS
        while len(self._done) > MOST_DONE:
            del self._done[next(iter(self._done))]


def _has_flows(content: object) -> bool:
    """Whether there may be something to do: most reports have counts alone, which people read."""
    if isinstance(content, dict):
        return "orphans" in content or "held" in content
    return content is not None


def _mark(report: Report) -> tuple[str, int]:
    return report.boot_id, report.sequence
