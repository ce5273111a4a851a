"""The VIPs on ``lo``, and the sysctls that they need."""

from __future__ import annotations

from collections.abc import Iterator

from controlplane.domain.objects import is_host, vip_text
from controlplane.domain.vips import in_order
from lb.agent.machine import sysctls
from lb.agent.machine.undo_record import Journal
from lb.agent.vips.keeper import VipKeeper
from lb.agent.watch.registry import Drift, Thing

VIPS, SYSCTLS = "vips", "sysctls"
SHOWN = 3
"""Names of missing things in one line, at most."""


def shortened(names: list[str]) -> str:
    """Return the first names, and how many more there are."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


class WatchedAddresses:
    """Sysctls before VIPs: IPv6 addresses need IPv6 on ``lo``."""

    def __init__(self, interface: str, journal: Journal, vips: VipKeeper) -> None:
        self._interface = interface
        self._journal = journal
        self._vips = vips

    def things(self) -> Iterator[Thing]:
        """Yield what is watched, in the order of the looks."""
        yield Thing(
            SYSCTLS,
            self._look_at_sysctls,
            self._set_sysctls,
            rivals="another program (systemd-sysctl, tuned, a configuration manager?)",
        )
        yield Thing(
            VIPS,
            self._look_at_vips,
            self._vips.put_back,
            rivals="another program (systemd-networkd, keepalived, ifupdown?)",
        )

    def _changes(self) -> dict[str, tuple[str, str]]:
        return {
            **sysctls.needed_sysctls(self._interface, sysctls.read_sysctl),
            **self._vips.sysctls_to_change(),
        }

    def _look_at_sysctls(self) -> Drift | None:
        changes = {path.replace("/", "."): pair for path, pair in self._changes().items()}
        if not changes:
            return None
        names = [f"{name} is {now}, not {wanted}" for name, (now, wanted) in changes.items()]
        remedy = " ".join(f"{name}={wanted}" for name, (_, wanted) in changes.items())
        return Drift(shortened(names), f"sysctl -w {remedy}")

    def _set_sysctls(self) -> None:
        sysctls.change(self._journal, self._changes(), sysctls.write_sysctl)

    def _look_at_vips(self) -> Drift | None:
        missing = in_order(self._vips.missing())
        if not missing:
            return None
        verb = "address add" if is_host(missing[0]) else "route add local"
        line = f"not on lo: {shortened([vip_text(vip) for vip in missing])}"
        return Drift(line, f"ip {verb} {missing[0]} dev lo")
