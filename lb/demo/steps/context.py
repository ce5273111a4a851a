"""The objects that every step works with."""

from __future__ import annotations

from dataclasses import dataclass, field

from lb.demo import scenario
from lb.demo.progress import ProgressLog
from lb.demo.results import Findings
from lb.demo.scenario import Amounts
from lb.demo.site.site import Site
from netns.brigade import server_name

EQUAL_SHARES_SECONDS = 60.0


@dataclass
class StepContext:
    """The site, the amounts of traffic, the progress log, and the results so far."""

    site: Site
    amounts: Amounts
    progress: ProgressLog
    findings: Findings = field(default_factory=Findings)

    def serving(self) -> list[int]:
        """Return the numbers of the servers that run, in order."""
        return sorted(number for number, programs in self.site.running.items() if programs)

    def use_daily_pool(self, *, without: int, known: bool) -> None:
        """Add the pool of defaults, with all servers but ``without``, which may be known or not."""
        site = self.site
        for number in set(scenario.FIRST_SERVERS) - {without, *self.serving()}:
            site.switch_on(number)
            site.await_ready([number])
        self.restore_equal_shares()
        site.end_connections()
        if without in self.serving():
            site.run_lbctl("drain", server_name(without), "--wait")
            site.take_down(without)
            site.run_lbctl("undrain", server_name(without))
        site.known = [number for number in site.known if number != without]
        if known:
            site.known.append(without)
        site.daily = True
        site.reload_controller()
        self.restore_equal_shares()
        with self.progress.task("waiting for the pool of defaults"):
            site.await_equal((scenario.DAILY,), self.serving(), EQUAL_SHARES_SECONDS)
            site.await_active(self.serving())

    def restore_equal_shares(self) -> None:
        """Cancel all drains and exclusions, and wait until all servers have equal shares."""
        drained = self.site.store.drained()
        for server in sorted(drained):
            self.site.run_lbctl("undrain", server)
        self.site.exclude([])
        with self.progress.task("waiting until all servers have equal shares"):
            self.site.await_equal(
                (scenario.WEB, scenario.PLAIN), self.serving(), EQUAL_SHARES_SECONDS
            )
            self.site.await_active(self.serving())
