"""`lbctl down`: undoes what `lbctl up` did, from the record, also without a running agent."""

from __future__ import annotations

import os
import secrets
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import partial
from pathlib import Path

import lb
from controlplane.documents.check import decode_cluster, decode_table
from controlplane.documents.fields import DocumentError
from controlplane.domain.errors import BrigadeError, ExitCode
from controlplane.domain.objects import CLUSTER, Origin, Report, vip_text
from controlplane.store.contract import AgentStore, StoreError
from controlplane.store.open import open_agent_store
from controlplane.store.state_dir import StateDir
from lb.agent.attach import bpffs, clsact, egress, guests, xdp
from lb.agent.attach.program_info import pinned_ids
from lb.agent.config import XDP_MODES, AgentConfig
from lb.agent.documents.last_good import tables_in
from lb.agent.machine import sysctls
from lb.agent.machine.boot import current_namespace
from lb.agent.machine.lock import find_holder, interface_lock
from lb.agent.machine.undo_record import Journal, Record, erase_record, read_record
from lb.agent.mss.mirror import clear
from lb.agent.netlink.links import find_link
from lb.agent.netlink.route_socket import RouteSocket
from lb.agent.ready.announcer import ON_WITHDRAW, READY_FILE, hook_variables
from lb.agent.ready.hooks import run_hook
from lb.agent.ready.leave import (
    LEAVE_ROLE,
    WITHDRAW_ROLE,
    check_controller,
    wait_until_unused,
)
from lb.agent.report.presence.dump import count_open
from lb.agent.report.status_file import STATUS_FILE
from lb.agent.vips.addresses import remove_vips
from lb.agent.watch.preflight import check_root

AGENT_END_SECONDS = 10.0
POLL_SECONDS = 0.05
AGENT_WITHDRAW_SECONDS = 3.0
"""For how long, beside its hook, a running agent may take to withdraw."""
LEAVE_TIMEOUT_SECONDS = 60.0

Show = Callable[[str], None]


def current_buckets(config: AgentConfig) -> dict[str, int]:
    """Return how many buckets of each pool this server has, by the last good tables.

    Raises:
        BrigadeError: they are damaged, or the cluster document is missing.

    """
    documents = StateDir(config.state_dir).documents()
    if not documents:
        return {}  # it never had any
    try:
        server = decode_cluster(documents[CLUSTER]).server(config.name)
        tables = [decode_table(data) for data in tables_in(documents).values()]
    except (KeyError, DocumentError) as error:
        damaged = "the cluster document is missing" if isinstance(error, KeyError) else str(error)
        raise BrigadeError(
            f"whether {config.name} has buckets is not known ({config.state_dir}: {damaged}): let "
            "its agent (lbctl up) get documents from the store, or use --force",
            ExitCode.REFUSED,
        ) from error
    if server is None or server.dip != config.dip:
        return {}  # not in the cluster, or another machine with this name
    counts = {table.pool: int((table.chains[:, 0] == server.index).sum()) for table in tables}
    return {pool: count for pool, count in counts.items() if count}


def connections(config: AgentConfig, record: Record | None) -> int:
    """Return the number of open connections on this server's VIPs.

    Raises:
        BrigadeError: they cannot be counted.

    """
    if record is None:
        return 0
    saved = StateDir(config.state_dir).load_document(CLUSTER)
    try:
        return count_open(decode_cluster(saved).services) if saved else 0
    except (DocumentError, OSError) as error:
        raise BrigadeError(
            f"connections on VIPs cannot be counted ({error}): modprobe tcp_diag udp_diag, or use "
            "--force",
            ExitCode.REFUSED,
        ) from error


def find_record(config: AgentConfig) -> Record | None:
    """Return the record of this network namespace; if it is lost, one made from the pins."""
    namespace = current_namespace()
    record = read_record(config.state_dir)
    if record is not None and record.namespace == namespace:
        return record
    pins = bpffs.pin_directories(config.bpffs, config.interface)
    forwarders = pinned_ids(pins, bpffs.FORWARDERS)
    redirectors = pinned_ids(pins, bpffs.REDIRECTORS)
    if not forwarders and not redirectors:
        return None
    return Record(
        namespace,
        config.interface,
        str(config.bpffs),
        config.xdp_mode,
        forwarders=tuple(sorted(forwarders)),
        redirectors=tuple(sorted(redirectors)),
        egresses=tuple(sorted(pinned_ids(pins, [bpffs.EGRESS]))),
        mss_table=config.mss_table,
    )


def take_down(
    config: AgentConfig,
    show: Show,
    *,
    force: bool,
    timeout_seconds: float = LEAVE_TIMEOUT_SECONDS,
) -> None:
    """Leave the other servers' tables, withdraw routes, end the agent, detach, restore.

    In this order, except that a server without an agent withdraws first: its table is old. With
    ``force`` nobody is asked or waited for.

    Raises:
        BrigadeError: exit code 3 if the server is in use, or no controller can be asked, and
            ``force`` is not set; 4 if the others do not go on without it in time; 1 if a hook or
            the kernel refused (with ``force`` a hook may fail).

    """
    check_root("down")
    with ExitStack() as held, RouteSocket() as netlink:
        held.enter_context(interface_lock(config.interface, "down"))
        record = find_record(config)
        if record is None and find_holder(config.interface) is None:
            _nothing_to_undo(config, show)
            return
        if not force:
            _refuse_if_in_use(config, record)
            _leave(config, record, show, timeout_seconds, held)
        held.enter_context(interface_lock(config.interface, WITHDRAW_ROLE))
        _withdraw(config, show, force=force)
        with _agent_ended(config, show, force=force):
            record = find_record(config)
            if record is not None:
                _undo(netlink, record, show)
                _remove_run_files(config, record)
                erase_record(config.state_dir)
            _report_stop(config, show)


def _nothing_to_undo(config: AgentConfig, show: Show) -> None:
    """Remove a record of another boot; one of another namespace of this boot stays."""
    record = read_record(config.state_dir)
    if record is not None and record.namespace.boot_id == current_namespace().boot_id:
        show("nothing to undo here: the record is of another network namespace")
        return
    erase_record(config.state_dir)
    show("nothing to undo")


def _refuse_if_in_use(config: AgentConfig, record: Record | None) -> None:
    buckets = current_buckets(config)
    reasons = [f"current for {count} buckets of pool {pool}" for pool, count in buckets.items()]
    if count := connections(config, record):
        reasons.append(f"serving {count} connections on VIPs")
    if reasons:
        drain = f"lbctl drain {config.name} --wait on the controller"
        remedy = f"drain it first ({drain})" if buckets else f"wait for their end ({drain})"
        raise BrigadeError(
            f"{config.name} is {' and '.join(reasons)}: {remedy}, or use --force, which breaks "
            "its connections",
            ExitCode.REFUSED,
        )


def _leave(
    config: AgentConfig,
    record: Record | None,
    show: Show,
    timeout_seconds: float,
    held: ExitStack,
) -> None:
    """Ask the controller to take this server out of all tables; wait until these are in use."""
    if record is None or not record.forwarders:
        return  # nothing was ever attached, so nobody's packets are forwarded here
    if _known_by_another_dip(config):
        return  # the tables name the server that has this name
    with closing(open_agent_store(config.store, config.token_file, config.ca_file)) as store:
        check_controller(store)
        send: Callable[[int], None] | None = None
        if find_holder(config.interface) is None:
            _withdraw(config, show, force=False)
            send = partial(_send_leaving, config, store, secrets.token_hex(8))
        held.enter_context(interface_lock(config.interface, LEAVE_ROLE))
        wait_until_unused(store, config.name, show, timeout_seconds=timeout_seconds, send=send)
    show("no server sends packets here any more")


def _origin(config: AgentConfig) -> Origin:
    return Origin(str(config.dip), current_namespace().boot_id)


def _known_by_another_dip(config: AgentConfig) -> str:
    """Return the DIP that this server's name has in the saved cluster document, if not its own."""
    saved = StateDir(config.state_dir).load_document(CLUSTER)
    try:
        own = decode_cluster(saved).server(config.name) if saved else None
    except DocumentError:
        return ""
    return str(own.dip) if own is not None and own.dip != config.dip else ""


def _send_leaving(config: AgentConfig, store: AgentStore, boot_id: str, sequence: int) -> None:
    """Report for a server without an agent that it leaves and announces nothing."""
    store.report(
        Report(
            server=config.name,
            boot_id=boot_id,
            sequence=sequence,
            sent_at=time.time(),
            leaving=True,
            version=lb.__version__,
            **vars(_origin(config)),
        )
    )


def _withdraw(config: AgentConfig, show: Show, *, force: bool) -> None:
    """Withdraw this server's routes, unless that is done; then wait until routers know it."""
    record = find_record(config)
    if record is None or not record.announced:
        return
    if not _agent_withdraws(config, show):
        if config.on_withdraw:
            _run_on_withdraw(config, record, show, force=force)
        (config.run_dir / READY_FILE).unlink(missing_ok=True)
        if find_holder(config.interface) is None:
            Journal(config.state_dir, record).note(announced=False)
    if config.withdraw_settle_seconds:
        show(f"waiting {config.withdraw_settle_seconds:g} s until routers send nothing here")
        time.sleep(config.withdraw_settle_seconds)


def _agent_withdraws(config: AgentConfig, show: Show) -> bool:
    """Let the agent withdraw, which it does when it sees the lock; return whether it did.

    It does not if there is none, if it hangs, or if its hook fails.
    """
    now = time.monotonic()
    deadline, print_at = now + config.hook_timeout_seconds + AGENT_WITHDRAW_SECONDS, now + 2.0
    while find_holder(config.interface) is not None and time.monotonic() < deadline:
        record = find_record(config)
        if record is None or not record.announced:
            show("the agent withdrew the routes")
            return True
        if time.monotonic() >= print_at:
            show("waiting for the agent to withdraw the routes")
            print_at = deadline
        time.sleep(POLL_SECONDS)
    return False


def _run_on_withdraw(config: AgentConfig, record: Record, show: Show, *, force: bool) -> None:
    try:
        run_hook(
            ON_WITHDRAW,
            config.on_withdraw,
            config.hook_timeout_seconds,
            hook_variables(config, record.vips),
        )
    except BrigadeError as error:
        if not force:
            raise BrigadeError(
                f"{error}; nothing was changed: repair it, or use --force"
            ) from error
        show(f"warning: {error}")
    show(f"ran on_withdraw: {' '.join(config.on_withdraw)}")


@contextmanager
def _agent_ended(config: AgentConfig, show: Show, *, force: bool) -> Iterator[None]:
    """End a running agent and hold its lock."""
    holder = find_holder(config.interface)
    if holder is not None:
        if holder.pid == 0 or holder.uid != os.geteuid():
            raise BrigadeError(
                f"the agent is {holder} of another user: end it there", ExitCode.REFUSED
            )
        _end(holder.pid, config.interface, force=force)
        show(f"ended the agent, {holder}")
    with interface_lock(config.interface):
        yield


def _end(pid: int, interface: str, *, force: bool) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL) if force else (signal.SIGTERM,):
        with suppress(ProcessLookupError):
            os.kill(pid, number)
        deadline = time.monotonic() + AGENT_END_SECONDS
        while time.monotonic() < deadline:
            if find_holder(interface) is None:
                return
            time.sleep(POLL_SECONDS)
    raise BrigadeError(f"the agent, process {pid}, does not end: use --force, or kill -9 {pid}")


def _undo(netlink: RouteSocket, record: Record, show: Show) -> None:
    """Undo in the reverse order of `up`; what is undone already is skipped."""
    remove_vips(netlink, record.vips)
    for vip in record.vips:
        show(f"removed {vip_text(vip)} from lo")
    _undo_mss(netlink, record, show)
    for path, (old, new) in reversed(record.sysctls.items()):
        _restore(path, old, new, show)
    link = find_link(netlink, record.interface)
    with bpffs.swapping(Path(record.bpffs)):
        if link is not None:
            _detach(netlink, link.index, record, show)
        kept = guests.keep_for_guests(Path(record.bpffs), record.interface)
        made = tuple(Path(path) for path in record.directories_made)
        bpffs.clean(Path(record.bpffs), record.interface, made, kept)
    show(f"removed the pins in {record.bpffs}")
    if kept is not None:
        _show_guests(kept, show)


def _show_guests(pin: Path, show: Show) -> None:
    """Name others' programs that ran beside the forwarder, and the pin of their array."""
    for slot, program in guests.guest_programs(pin).items():
        show(f"left {program} in slot {int(slot)} of {pin}: it runs again after the next lbctl up")
    show(f"if nothing needs them: rm {pin}")


def _undo_mss(netlink: RouteSocket, record: Record, show: Show) -> None:
    if not record.mss_table:
        return
    try:
        outcome = clear(netlink, record.mss_table)
    except OSError as error:
        raise BrigadeError(
            f"cannot clear routing table {record.mss_table}: {error.strerror}; then by hand: "
            f"ip rule del table {record.mss_table}, ip route flush table {record.mss_table}"
        ) from error
    show(f"removed {outcome.changes} rules and routes of routing table {record.mss_table}")


def _restore(path: str, old: str, new: str, show: Show) -> None:
    try:
        now = sysctls.read_sysctl(path)
        if now == new:
            sysctls.write_sysctl(path, old)
            show(f"restored {path.replace('/', '.')} to {old}")
        elif now != old:
            show(f"left {path.replace('/', '.')} at {now}: somebody changed it since")
    except FileNotFoundError:
        show(f"{path} is gone with its interface")


def _detach(netlink: RouteSocket, ifindex: int, record: Record, show: Show) -> None:
    pins = bpffs.pin_directories(Path(record.bpffs), record.interface)
    forwarders = {*record.forwarders, *pinned_ids(pins, bpffs.FORWARDERS)}
    for mode in XDP_MODES:
        for program_id in sorted(forwarders):
            if xdp.detach_xdp(netlink, ifindex, mode, program_id):
                show(f"detached the forwarder from {record.interface}")
    for program_id in sorted(xdp.query_xdp(netlink, ifindex).ids - forwarders):
        show(f"left a foreign XDP program on {record.interface}: id {program_id}")
    redirectors = frozenset(record.redirectors) | pinned_ids(pins, bpffs.REDIRECTORS)
    if clsact.detach_filter(netlink, ifindex, redirectors):
        show(f"detached the redirector from {record.interface}")
    egresses = frozenset(record.egresses) | pinned_ids(pins, [bpffs.EGRESS])
    for name in egress.detach(netlink, record, egresses):
        show(f"detached the egress program from {name}")
    if record.clsact_made and clsact.remove_clsact_if_unused(netlink, ifindex):
        show(f"removed the clsact qdisc of {record.interface}")


def _remove_run_files(config: AgentConfig, record: Record) -> None:
    for name in (READY_FILE, STATUS_FILE):
        (config.run_dir / name).unlink(missing_ok=True)
    if record.run_dir_made:
        with suppress(OSError):  # it has files of somebody else
            config.run_dir.rmdir()


def _report_stop(config: AgentConfig, show: Show) -> None:
    """Report to the store that this server's forwarder has stopped."""
    if dip := _known_by_another_dip(config):
        show(f"not reported to the store: {config.name} is the server with DIP {dip}")
        return
    report = Report(
        server=config.name,
        boot_id=secrets.token_hex(8),
        sequence=1,
        sent_at=time.time(),
        stopped=True,
        version=lb.__version__,
        **vars(_origin(config)),
    )
    try:
        with closing(open_agent_store(config.store, config.token_file, config.ca_file)) as store:
            store.report(report)
    except StoreError as error:
        show(f"warning: cannot report to the store that {config.name} stopped: {error}")
    else:
        show(f"reported to the store that {config.name} stopped")
