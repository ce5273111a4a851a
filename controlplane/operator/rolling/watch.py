"""What stops a rolling run although no server of its own failed: what got worse since it began."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from controlplane.domain.objects import Report
from controlplane.operator.rolling.facts import FleetFacts, Sign

SIGN_SECONDS = 5.0
"""A sign has to last for so long: agents that are slow for a moment stop nothing."""
LEADER_SECONDS = 30.0
"""How long the fleet may be without a controller: one that is restarted, or its successor."""
NO_LEADER = "no controller leads"


def strays_of(report: Report) -> int | None:
    """Return how many connections of a server no table leads to; ``None``: it does not count them.

    An agent that counts them sends ``presence`` now and then; one that does not has neither.
    """
    if report.strays:
        return sum(one.count for one in report.strays)
    return None if report.presence is None else 0


def key_of(sign: Sign) -> Sign:
    """Return a sign without its numbers: a TROUBLE whose seconds change is the same one."""
    return Sign(sign.server, re.sub(r"\d+(\.\d+)?", "#", sign.text))


def names(text: str, servers: Collection[str]) -> bool:
    """Whether a text contains the name of one of these servers as a word."""
    words = set(re.findall(r"[a-z0-9][a-z0-9._-]*", text))
    return any(name in words for name in servers)


@dataclass
class Growth:
    """How much counters have grown, each since it was first seen. A counter may begin anew.

    ``from_zero``: what is seen for the first time counts as grown from 0.
    """

    last: dict[str, int] = field(default_factory=dict)
    grown: dict[str, int] = field(default_factory=dict)
    from_zero: bool = False

    def observe(self, counts: Mapping[str, int]) -> dict[str, int]:
        """Take the counts of now; return what has grown since the call before."""
        more = {}
        for name, count in counts.items():
            before = self.last.get(name, 0 if self.from_zero else count)
            if count > before:
                more[name] = count - before
                self.grown[name] = self.grown.get(name, 0) + more[name]
            self.last[name] = count
        return more


@dataclass
class Watch:
    """Compares the fleet with what it was at first. ``now`` is monotonic seconds."""

    known: frozenset[Sign] = frozenset()
    forced: Growth = field(default_factory=Growth)
    strays: Growth = field(default_factory=Growth)
    proved: Growth = field(default_factory=Growth)
    _since: dict[Sign, float] = field(default_factory=dict)

    def begin(self, facts: FleetFacts) -> frozenset[Sign]:
        """Take the state of now as the one to compare with; return what is wrong in it."""
        self.known = frozenset(map(key_of, facts.signs))
        self.forced.observe(facts.forced or {})
        self.strays.observe(facts.strays)
        self.proved.observe(facts.proved)
        self.strays.from_zero = True  # an agent that has none mentions it only now and then
        return facts.signs

    def measured(self, servers: Collection[str]) -> bool:
        """Whether each of these servers has counted its stray connections."""
        return bool(servers) and set(servers) <= self.strays.last.keys()

    def observe(self, facts: FleetFacts, working: Collection[str], now: float) -> str:
        """Return why the run must stop, an empty text for no reason.

        ``working``: servers whose turn it is. What happens to them, and what others report about
        them, is expected; their own turn judges it.
        """
        strays = self.strays.observe(facts.strays)
        if strays:
            parts = ", ".join(f"{count} on {name}" for name, count in sorted(strays.items()))
            return f"connections broke: no table leads to {parts}"
        proved = self.proved.observe(facts.proved)
        if proved:
            parts = ", ".join(f"{count} of {name}" for name, count in sorted(proved.items()))
            return f"connections broke: other servers answered {parts} with a reset"
        forced = self.forced.observe(facts.forced or {})
        if forced:
            parts = ", ".join(f"{count:,} of pool {pool}" for pool, count in sorted(forced.items()))
            return f"hops that may have connections were pushed out: {parts}"
        return self._new_sign(facts.signs, working, now)

    def _new_sign(self, signs: Collection[Sign], working: Collection[str], now: float) -> str:
        new = [
            sign
            for sign in sorted(signs)
            if key_of(sign) not in self.known
            and sign.server not in working
            and not names(sign.text, working)
        ]
        self._since = {sign: self._since.get(sign, now) for sign in map(key_of, new)}
        for sign in new:
            patience = LEADER_SECONDS if sign.text == NO_LEADER else SIGN_SECONDS
            if now - self._since[key_of(sign)] >= patience:
                return f"{sign.server}: {sign.text}" if sign.server else sign.text
        return ""
