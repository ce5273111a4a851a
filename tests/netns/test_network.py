"""Networks of namespaces: as described, complete, and gone without a trace."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from netns.brigade import INTERFACE, brigade, client_address, dip, server_name
from netns.build import set_link
from netns.errors import NetworkError
from netns.host import Host
from netns.leftovers import remove_leftovers
from netns.libc import unmount
from netns.names import mount_points, remove_name
from netns.network import Network
from netns.polling import NotInTimeError, wait_until
from netns.process import Process, is_alive, start_time
from netns.record import NAMESPACES, records
from tests.netns import snapshot
from tests.netns.traces import differs_in_nothing

VIP = IPv4Address("192.0.2.10")
PORT = 9000
FLOWS = 64


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    with Network(brigade(servers=2, clients=1, vips=[VIP])) as made:
        for number in (1, 2):
            made[server_name(number)].run(["ip", "address", "add", f"{VIP}/32", "dev", "lo"])
        yield made


def test_hosts_have_their_links_addresses_and_mtu(network: Network) -> None:
    assert f"{dip(1)}/30" in network["server1"].run(["ip", "-br", "address"]).stdout
    assert f"{client_address(1)}/30" in network["client1"].run(["ip", "-br", "address"]).stdout
    assert "mtu 1548" in network["server1"].run(["ip", "link", "show", INTERFACE]).stdout
    assert "mtu 1500" in network["client1"].run(["ip", "link", "show", INTERFACE]).stdout


def test_the_routers_end_of_server_links_has_native_xdp(network: Network) -> None:
    shown = network["router"].run(["ip", "link", "show", "server1"]).stdout
    assert " xdp " in shown
    assert "xdpgeneric" not in shown


def test_originators_finish_checksums_and_segments_themselves(network: Network) -> None:
    for host in ("client1", "server1", "controller"):
        features = network[host].run(["ethtool", "-k", INTERFACE]).stdout
        for feature in ("tx-checksum-ip-generic", "tx-tcp-segmentation"):
            assert f"{feature}: off" in features
        assert "generic-segmentation-offload: off" in features


def test_the_router_spreads_flows_over_all_servers_by_their_ports(network: Network) -> None:
    answered = _who_answers(network)
    assert sum(answered.values()) == FLOWS
    assert set(answered) == {"server1", "server2"}


def test_a_server_without_carrier_gets_nothing(network: Network) -> None:
    set_link(network["server2"], INTERFACE, up=False)
    try:
        wait_until(lambda: set(_who_answers(network)) == {"server1"}, "server1 alone", 5.0)
    finally:
        set_link(network["server2"], INTERFACE, up=True)
        # Its default route went with the link.
        network["server2"].run(["ip", "route", "replace", "default", "via", "10.0.2.1"])


def _who_answers(network: Network) -> dict[str, int]:
    """Send from many ports, and count which server each datagram arrives at."""
    listeners = {}
    for name in ("server1", "server2"):
        with network[name].entered():
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.settimeout(0.3)
        sock.bind((str(VIP), PORT))
        listeners[name] = sock
    with network["client1"].entered():
        senders = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(FLOWS)]
    for sender in senders:
        sender.sendto(b"hello", (str(VIP), PORT))
        sender.close()
    counts = {}
    for name, sock in listeners.items():
        count = _drain(sock)
        sock.close()
        if count:
            counts[name] = count
    return counts


def _drain(sock: socket.socket) -> int:
    count = 0
    while True:
        try:
            sock.recv(100)
        except TimeoutError:
            return count
        count += 1


def test_entering_holds_for_the_calling_thread_alone_and_ends(network: Network) -> None:
    def here() -> int:
        return Path("/proc/thread-self/ns/net").stat().st_ino

    def elsewhere() -> int:
        found: list[int] = []
        thread = threading.Thread(target=lambda: found.append(here()))
        thread.start()
        thread.join()
        return found[0]

    before = here()
    with network["client1"].entered():
        inside = here()
        assert inside == network["client1"].namespace.stat().st_ino != before
    assert here() == before == elsewhere()
    assert network["client1"].call(here) == inside
    with pytest.raises(ZeroDivisionError), network["client1"].entered():
        _ = 1 / 0
    assert here() == before


def test_only_the_network_namespace_is_entered(network: Network) -> None:
    listing = network["server1"].run(["readlink", "/proc/self/ns/net", "/proc/self/ns/mnt"]).stdout
    net, mount = listing.split()
    assert net == f"net:[{network['server1'].namespace.stat().st_ino}]"
    assert mount == str(Path("/proc/self/ns/mnt").readlink())


def test_a_failing_program_is_reported_in_one_line(network: Network) -> None:
    with pytest.raises(NetworkError, match=r"on server1: sh -c .*exit code 3: alas"):
        network["server1"].run(["sh", "-c", "echo alas >&2; exit 3"])
    with pytest.raises(NetworkError, match="timeout after"):
        network["server1"].run(["sleep", "30"], timeout_seconds=0.2)


def test_a_network_is_gone_without_a_trace_with_all_that_its_processes_forked() -> None:
    before = snapshot.take()
    with Network(brigade(servers=1)) as network:
        host = network["server1"]
        forking = host.popen(["sh", "-c", "sleep 1000 & trap '' TERM; sleep 1000 & wait"])
        assert before.difference(snapshot.take())
    assert not is_alive(forking.id)
    assert differs_in_nothing(before) == []


def test_an_exception_inside_and_a_failure_while_building_leave_no_trace() -> None:
    before = snapshot.take()
    with pytest.raises(ZeroDivisionError), Network(brigade(servers=1)):
        _ = 1 / 0
    twice = brigade(servers=1)
    broken = Network(twice)
    # Found out only when the kernel is asked: an address that the peer has already.
    broken.topology = type(twice)(twice.hosts, (*twice.links, twice.links[0]), twice.routes)
    with pytest.raises(NetworkError, match=r"cannot be built here: .*File exists"), broken:
        pass
    assert differs_in_nothing(before) == []


def test_a_program_whose_start_is_interrupted_ends_with_the_network(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also one that has put something else over its environment since, as nginx does."""
    started: list[Process] = []

    def interrupted_after(call: Callable[[Callable[[], Process]], Process]) -> Callable[..., None]:
        def interrupted(function: Callable[[], Process]) -> None:
            started.append(call(function))
            monkeypatch.undo()
            raise KeyboardInterrupt

        return interrupted

    def start(host: Host) -> None:
        monkeypatch.setattr(host, "call", interrupted_after(host.call))
        host.popen(["env", "-i", "sleep", "60"])

    with pytest.raises(KeyboardInterrupt), Network(brigade(servers=1)) as made:
        start(made["server1"])
    assert [start_time(process.pid) for process in started] == [None]


HOLD = """
import signal
from netns.brigade import brigade
from netns.network import Network, endings_as_interrupts
with endings_as_interrupts(), Network(brigade(servers=1)) as network:
    network["server1"].popen(["sh", "-c", "sleep 1000 & sleep 1000"])
    print(network.record.run, flush=True)
    {then}
"""


Holding = Callable[..., tuple[subprocess.Popen[str], str]]


@pytest.fixture
def holding() -> Iterator[Holding]:
    """Start processes that hold a network each; gives them with their runs' ids."""
    held = []

    def hold(then: str = "signal.pause()") -> tuple[subprocess.Popen[str], str]:
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD.format(then=then)], stdout=subprocess.PIPE, text=True
        )
        held.append(process)
        assert process.stdout is not None
        return process, process.stdout.readline().strip()

    yield hold
    for process in held:
        if process.poll() is None:
            process.terminate()
        process.wait(20)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_no_trace(number: signal.Signals, holding: Holding) -> None:
    before = snapshot.take()
    process, run = holding()
    assert list(NAMESPACES.glob(f"bb-{run}-*"))
    process.send_signal(number)
    assert process.wait(10) != 0
    assert differs_in_nothing(before) == []


def test_a_person_who_interrupts_again_and_again_leaves_no_trace(holding: Holding) -> None:
    before = snapshot.take()
    process, run = holding()
    while process.poll() is None:
        process.send_signal(signal.SIGINT)
        with suppress(NotInTimeError):
            wait_until(lambda: process.poll() is not None, "its end", 0.02)
    assert not list(NAMESPACES.glob(f"bb-{run}-*"))
    assert run not in [record.run for record in records()]
    assert differs_in_nothing(before) == []


def test_after_sigkill_the_next_run_removes_what_was_left_and_only_that(holding: Holding) -> None:
    before = snapshot.take()
    living, kept_alive = holding()
    killed, left = holding()
    foreign = subprocess.Popen(["nsenter", f"--net={NAMESPACES}/bb-{left}-server1", "sleep", "60"])
    try:
        killed.kill()
        killed.wait()
        assert list(NAMESPACES.glob(f"bb-{left}-*"))
        assert _marked(left)
        with Network(brigade(servers=1)):
            assert not list(NAMESPACES.glob(f"bb-{left}-*"))
            assert not _marked(left)
            assert list(NAMESPACES.glob(f"bb-{kept_alive}-*"))
            assert _marked(kept_alive)
        # Somebody's own program in there is nobody's to end.
        assert foreign.poll() is None
    finally:
        foreign.kill()
        foreign.wait()
        living.terminate()
        living.wait(10)
    assert differs_in_nothing(before) == []


def _marked(run: str) -> list[str]:
    return [line for line in snapshot.take().found["processes"] if f"run {run!r}" in line]


def test_a_kept_network_stays_until_somebody_removes_the_kept(holding: Holding) -> None:
    before = snapshot.take()
    process, run = holding("network.keep()")
    try:
        assert process.wait(10) == 0
    finally:
        process.kill()
    try:
        assert remove_leftovers() == []
        assert list(NAMESPACES.glob(f"bb-{run}-*"))
        assert _marked(run)
    finally:
        assert run in remove_leftovers(kept=True)
    assert run not in [record.run for record in records()]
    assert differs_in_nothing(before) == []


ADD_BY_HAND = """\
mount --make-rshared {0} 2>/dev/null || {{ mount --rbind {0} {0} && mount --make-rshared {0}; }}
touch {0}/theirs
mount --bind /proc/self/ns/net {0}/theirs
"""
"""What `ip netns add theirs` does with its directory, ip-netns(8)."""


@pytest.mark.parametrize("theirs_stay", [False, True], ids=["removed", "stay"])
def test_somebody_may_add_a_namespace_by_hand_during_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, theirs_stay: bool
) -> None:
    """Then the names of the run could not be removed, and no other run could begin."""
    directory = tmp_path / "netns"
    for module in ("record", "network", "leftovers"):
        monkeypatch.setattr(f"netns.{module}.NAMESPACES", directory)
    by_hand = ["unshare", "--net", "sh", "-ec", ADD_BY_HAND.format(directory)]
    try:
        with Network(brigade(servers=1)):
            subprocess.run(by_hand, check=True)
            if not theirs_stay:
                remove_name(directory / "theirs")
        points = [point for point in mount_points() if directory in point.parents]
        if theirs_stay:
            assert [path.name for path in directory.iterdir()] == ["theirs"]
            assert points == [directory / "theirs"]
        else:
            assert not points
            assert not directory.exists()
    finally:
        for point in mount_points():
            if point == directory or directory in point.parents:
                unmount(point)
