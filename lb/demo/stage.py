"""What every step is given."""

from __future__ import annotations

from dataclasses import dataclass, field

from lb.demo import plan
from lb.demo.narrator import Narrator
from lb.demo.plan import Amounts
from lb.demo.results import Findings
from lb.demo.site.site import Site

REST_SECONDS = 60.0
FIRST_UDP_PORT = 10_000
"""Source ports of UDP flows are counted from here, below those that the kernel gives out."""


@dataclass
class Stage:
    """The site, how much traffic, who tells, and what was found so far."""

    site: Site
    amounts: Amounts
    narrator: Narrator
    findings: Findings = field(default_factory=Findings)
    next_udp_port: int = FIRST_UDP_PORT

    def take_udp_ports(self, count: int) -> int:
        """Return the first of so many source ports, none of which any flow had before."""
        first = self.next_udp_port
        self.next_udp_port += count
        return first

    def serving(self) -> list[int]:
        """Return the numbers of the servers that run, in order."""
        return sorted(number for number, programs in self.site.running.items() if programs)

    def rest(self) -> None:
        """Begin with nobody drained, all servers sharing equally, and the router using all."""
        drained = self.site.fleet.drained()
        for server in sorted(drained):
            self.site.operate("undrain", server)
        self.site.exclude([])
        with self.narrator.doing("waiting until all servers share equally"):
            self.site.await_equal((plan.WEB, plan.PLAIN), self.serving(), REST_SECONDS)
