"""The egress program on all interfaces that answers of VIPs leave by."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from lb.agent.attach import bpffs
from lb.agent.attach.attachment import Programs
from lb.agent.attach.egress import EgressAttachment
from lb.agent.config import AgentConfig
from lb.agent.watch.registry import Drift, Thing

EGRESS = "egress"


class WatchedEgress:
    """``links``: the names of the interfaces that it has to be on, beside our own."""

    def __init__(
        self,
        config: AgentConfig,
        egress: EgressAttachment,
        plane: Programs,
        links: Callable[[], Sequence[str]],
    ) -> None:
        self._config = config
        self._egress = egress
        self._plane = plane
        self._links = links

    def things(self) -> Iterator[Thing]:
        """Yield it. No packet needs it, so a server without it stays in use."""
        yield Thing(EGRESS, self._look, self._attach, essential=False)

    def _look(self) -> Drift | None:
        missing = self._egress.without(self._links())
        if any(self._egress.is_new(place) for place in missing):  # a route leads there now
            self._attach()
            return None
        if not missing:
            return None
        names = ", ".join(place.name for place in missing)
        return Drift(
            f"the egress program is not on {names}: connections that break are not counted where "
            "their resets leave there",
            f"see tc qdisc show dev {missing[0].name}, tc filter show dev {missing[0].name} egress",
        )

    def _attach(self) -> None:
        with bpffs.swapping(self._config.bpffs, wait=False):
            self._egress.attach(self._plane.egress_fd, self._egress.without(self._links()))
