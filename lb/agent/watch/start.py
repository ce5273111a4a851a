"""The start of an agent whose interface is not ready yet: it waits, and announces nothing.

An interface or an address that is missing is not a mistake: a driver is loaded again, a network is
configured late. What an earlier agent announced is withdrawn meanwhile.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import structlog

from controlplane.domain.errors import BrigadeError, ExitCode
from lb.agent.attach.attachment import Attachment
from lb.agent.config import AgentConfig
from lb.agent.facts import SharedFacts
from lb.agent.machine.boot import current_namespace
from lb.agent.machine.undo_record import Journal, Record, read_record
from lb.agent.netlink.links import LOOPBACK_INDEX, LinkInfo, find_link, is_up
from lb.agent.netlink.route_socket import RouteSocket
from lb.agent.ready.systemd import try_notify
from lb.agent.ready.withdrawal import withdraw
from lb.agent.report.status_file import status_of, write_status
from lb.agent.watch.preflight import Unfit, interface_faults

POLL_SECONDS = 0.5
PROGRESS_SECONDS = 10.0
RETRY_SECONDS = 5.0
TOPIC = "start"


def open_journal(config: AgentConfig) -> Journal:
    """Continue the record of this network namespace, or begin one.

    Raises:
        BrigadeError: the record is about another interface here.

    """
    namespace = current_namespace()
    fresh = Record(namespace, config.interface, str(config.bpffs), config.xdp_mode)
    record = read_record(config.state_dir)
    if record is None or record.namespace != namespace:
        return Journal(config.state_dir, fresh)
    if (record.interface, record.bpffs) != (config.interface, str(config.bpffs)):
        raise BrigadeError(
            f"{config.state_dir} is of an agent that runs, or ran, on {record.interface} with pins "
            f"in {record.bpffs}: undo that first, with its own settings: lbctl down",
            ExitCode.REFUSED,
        )
    return Journal(config.state_dir, record)


class Start:
    """The time before the parts of an agent run. ``pause`` waits for so many seconds, or raises."""

    def __init__(
        self,
        config: AgentConfig,
        journal: Journal,
        facts: SharedFacts,
        pause: Callable[[float], None],
    ) -> None:
        self._config = config
        self._journal = journal
        self._facts = facts
        self._pause = pause
        self._log = structlog.get_logger()
        self._began = time.monotonic()
        self._line = ""
        self._log_at = 0.0
        self._withdraw_at = 0.0

    def await_interface(self, netlink: RouteSocket) -> LinkInfo:
        """Return the interface as soon as it can be used, with its DIP."""
        while True:
            link = find_link(netlink, self._config.interface)
            lo_up = is_up(netlink, LOOPBACK_INDEX)
            fault = next(interface_faults(self._config, link, lo_up=lo_up), None)
            if link is not None and fault is None:
                break
            if fault is not None:
                self._report(fault)
                self._withdraw()
                self._pause(POLL_SECONDS)
        if self._line:
            self._facts.set_trouble(TOPIC, None)
            self._log.info("the interface is ready", seconds=self._waited(), every_time=True)
        return link

    def withdraw_unless_attached(self, attachment: Attachment) -> None:
        """Withdraw what an earlier agent announced, if its programs are not on the interface."""
        if self._journal.record.announced and not attachment.is_attached():
            self._log.warning("announced, but nothing is attached: withdrawing first")
            self._withdraw()

    def _waited(self) -> float:
        return round(time.monotonic() - self._began, 1)

    def _report(self, fault: Unfit) -> None:
        now = time.monotonic()
        if fault.line != self._line or now >= self._log_at:
            self._line, self._log_at = fault.line, now + PROGRESS_SECONDS
            self._log.warning(
                "waiting for the interface",
                every_time=True,
                reason=fault.line,
                remedy=fault.remedy,
                seconds=self._waited(),
            )
            try_notify(f"STATUS=waiting: {fault.line}", os.environ)
        self._facts.set_trouble(TOPIC, f"waiting: {fault}")
        try:
            status = status_of(self._facts.current, self._config, time.time())
            write_status(self._config.run_dir, status)
        except BrigadeError as error:
            self._log.warning("no status file", reason=str(error))
        if os.environ.get("WATCHDOG_USEC"):
            try_notify("WATCHDOG=1", os.environ)

    def _withdraw(self) -> None:
        now = time.monotonic()
        if now < self._withdraw_at:
            return
        try:
            withdraw(self._config, self._journal, self._facts)
        except BrigadeError as error:
            self._log.warning("hook failed, will run again", about="on_withdraw", reason=str(error))
            self._facts.set_trouble("hook", str(error))
            self._withdraw_at = now + RETRY_SECONDS
        else:
            self._facts.set_trouble("hook", None)
