"""Probes of one server at a time through the tunnel: a SYN to a VIP, encapsulated to its DIP."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from controlplane.domain.objects import Address, Cluster
from controlplane.domain.vips import VipPrefixes
from controlplane.observe.probe.packet import Probe, answers
from controlplane.observe.probe.sockets import Prober
from controlplane.observe.probe.target import (
    ProbeTarget,
    best_targets,
    candidates,
    checked_targets,
    choose,
    outside,
)
from controlplane.settings.models import ControlConfig

AGAIN_SECONDS = 1.0
"""When a probe counts as not answered, and the next one is sent."""
SKIPPED = ""


class TunnelProbes:
    """Asks servers that return from a command. For one thread.

    Each checked TCP service of the server's pools has to accept; without one, any answer will do.
    """

    def __init__(
        self, prober: Prober | None, config: ControlConfig, clock: Callable[[], float]
    ) -> None:
        self._prober = prober
        self._config = config
        self._clock = clock
        self._sent: dict[str, list[tuple[Probe, ProbeTarget]]] = {}
        self._sent_at: dict[str, float] = {}
        self._wrong: dict[str, str] = {}
        self._open: dict[str, set[tuple[Address, int]]] = {}

    def forget(self, server: str) -> None:
        """Forget what was sent to a server: later answers to that prove nothing."""
        for kept in (self._sent, self._sent_at, self._wrong, self._open):
            kept.pop(server, None)

    def ask(self, server: str, cluster: Cluster | None) -> str | None:
        """Return an empty text once all targets have answered, else what is wrong so far.

        ``None``: nothing is known yet. Without a prober, or a target that this machine gets answers
        from, there is nothing to ask: empty, too.
        """
        known = cluster.server(server) if cluster else None
        if self._prober is None or cluster is None or known is None:
            return SKIPPED
        targets = self._targets(server, cluster, self._prober)
        if not targets:
            return SKIPPED
        self._hear(self._prober)
        waiting = [t for t in targets if (t.address, t.port) not in self._open.get(server, set())]
        if not waiting:
            return ""
        now = self._clock()
        if now - self._sent_at.get(server, now - AGAIN_SECONDS) >= AGAIN_SECONDS:
            if self._sent.get(server) and server not in self._wrong:
                self._wrong[server] = f"no answer from {waiting[0].text}"
            self._send(server, known.dip, waiting, self._prober)
            self._sent_at[server] = now
        return self._wrong.get(server)

    def _send(
        self, server: str, dip: object, targets: Sequence[ProbeTarget], prober: Prober
    ) -> None:
        sent = []
        for target in targets:
            probe = prober.send(dip, target.address, target.port)  # type: ignore[arg-type]
            if probe is not None:
                sent.append((probe, target))
        self._sent[server] = sent

    def _hear(self, prober: Prober) -> None:
        """Match answers with the newest probes."""
        for answer in prober.received():
            for server, sent in self._sent.items():
                for probe, target in sent:
                    if not answers(answer, probe):
                        continue
                    if answer.reset and target.service:
                        self._wrong[server] = f"{target.text} refuses connections"
                    else:
                        self._open.setdefault(server, set()).add((target.address, target.port))
                        self._wrong.pop(server, None)

    def _targets(self, server: str, cluster: Cluster, prober: Prober) -> Sequence[ProbeTarget]:
        configured = self._config.server_named(server)
        if configured is None:
            return ()
        source = outside(VipPrefixes(s.vip for s in cluster.services), prober.source)
        checked = checked_targets(cluster.services)
        own = [t for t in candidates(checked, configured.serves) if configured.serves(t.pool)]
        usable = [target for target in own if source(target.address) is not None]
        if usable:
            return usable
        best = choose(candidates(best_targets(cluster.services), configured.serves), source)
        return () if best is None else (best,)
