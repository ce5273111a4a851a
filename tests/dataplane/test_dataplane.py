"""The Python side: what packets see while the agent changes things, and what stays behind."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

import numpy as np
import pytest

from lb import abi
from lb.dataplane.dataplane import Dataplane
from lb.dataplane.errors import DataplaneError
from lb.dataplane.load import bpf_syscall
from lb.dataplane.maps import grace
from lb.dataplane.maps.tables import PoolWord
from lb.dataplane.objects import ClusterView, Identity, ServiceEntry
from lb.dataplane.pinned import PinnedDataplane
from tests.model import Flow, host
from tests.model.flow import bucket_of
from tests.model.frames import SERVER_MAC, ethernet, tcp_packet
from tests.packets.out import hops_of
from tests.packets.world import ACK, CLIENT, KEY, VIP, dip, tcp

OWN, B, C, D = (dip(number) for number in range(1, 5))
MAC = SERVER_MAC
IDENTITY = Identity(dip=OWN, mac=MAC, mtu=1500, ifindex=1)
WEB = ServiceEntry(host(VIP), 6, 80, "web")
VIEW = ClusterView(services=(WEB,), dips={1: OWN, 2: B, 3: C})
FRAME = ethernet(tcp(ACK))
PASS = 2


LOADS = 4


def loading_seconds() -> float:
    """Load all programs, and return how many seconds of CPU it took."""
    before = time.process_time()
    with Dataplane.load(IDENTITY):
        return time.process_time() - before


@pytest.fixture(scope="module")
def measured() -> Iterator[tuple[Dataplane, float]]:
    """The programs, and how many seconds of CPU it took to load them."""
    before = time.process_time()
    with Dataplane.load(IDENTITY) as dataplane:
        yield dataplane, time.process_time() - before


@pytest.fixture(scope="module")
def loaded(measured: tuple[Dataplane, float]) -> Dataplane:
    return measured[0]


@pytest.fixture
def dataplane(loaded: Dataplane, monkeypatch: pytest.MonkeyPatch) -> Dataplane:
    """One without tables; nothing has to wait for packets in flight, there are none."""
    monkeypatch.setattr(grace, "GRACE_SECONDS", 0.0)
    for pool in list(loaded._tables._pools):
        loaded.remove_table(pool)
    loaded.set_cluster(ClusterView())
    loaded.set_identity(IDENTITY)
    loaded.set_cluster(VIEW)
    return loaded


def table_of(index: int, buckets: int = 256, depth: int = 1) -> np.ndarray:
    table = np.zeros((buckets, depth), dtype=np.uint16)
    table[:, 0] = index
    return table


def sent_to(dataplane: Dataplane, frame: bytes = FRAME) -> IPv4Address | int:
    """The first hop of a frame, or the verdict if it was not encapsulated."""
    run = bpf_syscall.prog_test_run(dataplane.forwarder_fd, frame)
    return IPv4Address(run.data[30:34]) if run.retval == 3 else run.retval


def visited(dataplane: Dataplane, frame: bytes) -> list[IPv4Address]:
    """The servers that an encapsulated frame visits."""
    return hops_of(bpf_syscall.prog_test_run(dataplane.forwarder_fd, frame).data)


def counter(dataplane: Dataplane, name: str) -> int:
    return dataplane.counters()[name]


def test_without_a_table_packets_are_dropped_and_counted(dataplane: Dataplane) -> None:
    before = counter(dataplane, "drop_no_table")
    assert sent_to(dataplane) == 1
    assert counter(dataplane, "drop_no_table") == before + 1


def test_tables_follow_each_other(dataplane: Dataplane) -> None:
    for index, address in ((2, B), (3, C), (2, B), (3, C)):
        dataplane.set_table("web", table_of(index), KEY)
        assert sent_to(dataplane) == address


def test_a_spare_is_not_written_within_the_grace_period(
    dataplane: Dataplane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    assert grace.GRACE_SECONDS >= 0.1
    dataplane.set_table("web", table_of(2), KEY)
    dataplane.set_table("web", table_of(3), KEY)
    started = time.monotonic()
    dataplane.set_table("web", table_of(2), KEY)
    assert time.monotonic() - started >= grace.GRACE_SECONDS * 0.9


DEPTH_AND_LONGEST = [(1, 1), (2, 1), (2, 2), (3, 1), (3, 3), (4, 1), (4, 2), (4, 4)]


@pytest.mark.parametrize(("depth", "longest"), DEPTH_AND_LONGEST)
@pytest.mark.parametrize("buckets", [256, 65536, 131072, 1 << 20])
def test_every_bucket_of_tables_of_all_sizes(
    dataplane: Dataplane, buckets: int, depth: int, longest: int
) -> None:
    table = table_of(3, buckets, depth)
    dataplane.set_cluster(replace(VIEW, dips={1: OWN, 2: B, 3: C, 4: D}))
    flow = Flow(6, CLIENT, 40000, VIP, 80)
    table[bucket_of(flow.hash(KEY), buckets), :longest] = (2, 1, 4, 3)[:longest]
    dataplane.set_table("web", table, KEY)
    dataplane.set_table("web", table, KEY)
    assert visited(dataplane, FRAME) == [B, OWN, D, C][:longest]
    others = (tcp_packet(CLIENT, port, VIP, 80, flags=ACK) for port in range(41000, 41050))
    assert sum(visited(dataplane, ethernet(packet)) == [C] for packet in others) >= 49


@pytest.mark.parametrize("buckets", [256, 1 << 20])
def test_neighbouring_buckets_of_a_table_at_rest(dataplane: Dataplane, buckets: int) -> None:
    table = np.zeros((buckets, 2), dtype=np.uint16)
    table[:, 0] = np.arange(buckets) % 3 + 2
    dataplane.set_cluster(replace(VIEW, dips={1: OWN, 2: B, 3: C, 4: D}))
    dataplane.set_table("web", table, KEY)
    for _ in ("inline tables", "separate tables"):
        for port in range(42000, 42040):
            bucket = bucket_of(Flow(6, CLIENT, port, VIP, 80).hash(KEY), buckets)
            frame = ethernet(tcp_packet(CLIENT, port, VIP, 80, flags=ACK))
            assert sent_to(dataplane, frame) == (B, C, D)[bucket % 3]
        dataplane.set_table("web", table, KEY)


def test_a_table_at_rest_keeps_room_for_the_next_move(
    dataplane: Dataplane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(abi, "MAX_INNER", 32)
    at_rest, moving = table_of(2, 1 << 20, 4), table_of(2, 1 << 20, 4)
    moving[:, 1:] = 3
    for table in (at_rest, at_rest, moving, moving, at_rest):
        dataplane.set_table("web", table, KEY)
    assert sent_to(dataplane) == B


def test_a_pool_that_grows_and_shrinks(dataplane: Dataplane) -> None:
    for buckets, depth, index, address in (
        *((256, 1, 2, B), (131072, 1, 3, C), (262144, 1, 2, B), (65536, 1, 3, C)),
        *((65536, 4, 2, B), (131072, 3, 3, C), (131072, 2, 2, B), (256, 4, 3, C)),
    ):
        dataplane.set_table("web", table_of(index, buckets, depth), KEY)
        assert visited(dataplane, FRAME) == [address]


def test_another_key_moves_flows(dataplane: Dataplane) -> None:
    table = np.array([[2 + bucket % 2] for bucket in range(65536)], dtype=np.uint16)
    seen = set()
    for number in range(6):
        key = bytes([number]) * 16
        dataplane.set_table("web", table, key)
        expected = 2 + bucket_of(Flow(6, CLIENT, 40000, VIP, 80).hash(key), 65536) % 2
        assert sent_to(dataplane) == VIEW.dips[expected]
        seen.add(expected)
    assert seen == {2, 3}


def test_a_removed_table_drops_and_can_come_back(dataplane: Dataplane) -> None:
    dataplane.set_table("web", table_of(2), KEY)
    dataplane.remove_table("web")
    assert sent_to(dataplane) == 1
    dataplane.set_table("web", table_of(3), KEY)
    assert sent_to(dataplane) == C
    dataplane.remove_table("never-there")


def test_pools_do_not_share_inner_tables(dataplane: Dataplane) -> None:
    services = tuple(ServiceEntry(host(VIP), 6, 80 + n, f"pool{n}") for n in range(8))
    dataplane.set_cluster(replace(VIEW, services=services))
    for n in range(8):
        dataplane.set_table(f"pool{n}", table_of(2 + n % 2, 65536 << n % 3, 1 + n % 4), KEY)
    dataplane.remove_table("pool3")
    dataplane.set_table("pool5", table_of(2, 1 << 18), KEY)
    for n in range(8):
        expected = {3: 1, 5: B}.get(n, (B, C)[n % 2])
        frame = ethernet(tcp_packet(CLIENT, 40000, VIP, 80 + n, flags=ACK))
        assert sent_to(dataplane, frame) == expected


def test_counters_of_surviving_services_stay_and_new_ones_begin_at_zero(
    dataplane: Dataplane,
) -> None:
    dataplane.set_table("web", table_of(2), KEY)
    sent_to(dataplane)
    other = ServiceEntry(host(VIP), 17, 53, "web", stateless=True)
    dataplane.set_cluster(replace(VIEW, services=(other, WEB)))
    sent_to(dataplane)
    counts = dataplane.service_counters()
    assert counts == {WEB: (2, 2 * len(FRAME)), other: (0, 0)}
    dataplane.set_cluster(replace(VIEW, services=(other,)))
    dataplane.set_cluster(replace(VIEW, services=(WEB, other)))
    assert dataplane.service_counters()[WEB] == (0, 0)


def test_a_view_replaces_everything_in_one_step(dataplane: Dataplane) -> None:
    dataplane.set_table("web", table_of(2), KEY)
    moved = ServiceEntry(host(IPv4Address("192.0.2.77")), 6, 80, "web")
    dataplane.set_cluster(ClusterView((moved,), {1: OWN, 2: B}))
    assert sent_to(dataplane) == 2
    frame = ethernet(tcp_packet(CLIENT, 40000, moved.vip.network_address, 80, flags=ACK))
    assert sent_to(dataplane, frame) == B


def test_a_dip_that_moves_to_another_address_loses_its_mac(dataplane: Dataplane) -> None:
    dataplane.set_table("web", table_of(2), KEY)
    dataplane.set_neighbour(2, bytes.fromhex("02aaaaaaaaaa"))
    dataplane.set_cluster(replace(VIEW, dips={1: OWN, 2: IPv4Address("10.0.0.50"), 3: C}))
    run = bpf_syscall.prog_test_run(dataplane.forwarder_fd, FRAME)
    assert (run.data[:6], run.data[30:34]) == (FRAME[6:12], bytes((10, 0, 0, 50)))
    assert sum(run.data[n] << 8 | run.data[n + 1] for n in range(14, 34, 2)) % 0xFFFF == 0


def test_neighbours_come_and_go(dataplane: Dataplane) -> None:
    dataplane.set_table("web", table_of(2), KEY)
    for mac in (bytes.fromhex("02aabbccddee"), None, bytes.fromhex("0600000000ff"), bytes(6)):
        dataplane.set_neighbour(2, mac)
        run = bpf_syscall.prog_test_run(dataplane.forwarder_fd, FRAME)
        ends = (run.data[:6], run.data[6:12])
        assert ends == ((mac, MAC) if mac is not None and any(mac) else (FRAME[6:12], FRAME[:6]))


def test_a_new_identity_is_in_every_header(dataplane: Dataplane) -> None:
    dataplane.set_table("web", table_of(2), KEY)
    dataplane.set_neighbour(2, MAC)
    own = IPv4Address("172.16.5.9")
    mac = bytes(5) + b"\x09"
    dataplane.set_identity(replace(IDENTITY, dip=own, mac=mac, gue_port=7000))
    data = bpf_syscall.prog_test_run(dataplane.forwarder_fd, mac + FRAME[6:]).data
    assert (data[6:12], data[26:30], data[36:38]) == (mac, own.packed, b"\x1b\x58")
    assert sum(data[n] << 8 | data[n + 1] for n in range(14, 34, 2)) % 0xFFFF == 0


def test_frames_are_for_this_host_by_the_new_mac_after_a_change(dataplane: Dataplane) -> None:
    """Whoever changes it: a packet to the old MAC is another host's from then on."""
    dataplane.set_table("web", table_of(2), KEY)
    new = bytes.fromhex("020000000a02")
    assert (sent_to(dataplane), sent_to(dataplane, new + FRAME[6:])) == (B, PASS)
    dataplane.set_identity(replace(IDENTITY, mac=new))
    before = counter(dataplane, "pass_other_host")
    assert (sent_to(dataplane), sent_to(dataplane, new + FRAME[6:])) == (PASS, B)
    assert counter(dataplane, "pass_other_host") == before + 1


def test_the_limits_fit(dataplane: Dataplane) -> None:
    services = tuple(
        ServiceEntry(host(IPv4Address("192.0.2.0") + n // 16), 6, 1000 + n % 16, "web")
        for n in range(abi.MAX_SERVICES)
    )
    dips = {index: IPv4Address("10.0.0.0") + index for index in range(1, abi.MAX_DIPS)}
    dataplane.set_cluster(ClusterView(services, dips))
    dataplane.set_table("web", table_of(abi.MAX_DIPS - 1), KEY)
    for service in services[::97]:
        address, port = service.vip.network_address, service.port or 1
        frame = ethernet(tcp_packet(CLIENT, 1, address, port, flags=ACK))
        assert sent_to(dataplane, frame) == dips[abi.MAX_DIPS - 1]
    assert len(dataplane.service_counters()) == abi.MAX_SERVICES


@pytest.mark.parametrize(
    ("view", "says"),
    [
        (replace(VIEW, dips={0: OWN}), "indices"),
        (replace(VIEW, dips={4096: OWN}), "indices"),
        (replace(VIEW, dips={1: OWN, 2: OWN}), "two DIP"),
        (replace(VIEW, services=(WEB, replace(WEB, pool="x"))), "two services"),
        (replace(VIEW, probers=frozenset({IPv4Address(0)})), "prober"),
        (replace(VIEW, services=(replace(WEB, pool="p" * 64),)), "longer"),
    ],
)
def test_views_that_cannot_be(dataplane: Dataplane, view: ClusterView, says: str) -> None:
    dataplane.set_table("web", table_of(2), KEY)
    with pytest.raises(DataplaneError, match=says):
        dataplane.set_cluster(view)
    assert sent_to(dataplane) == B


@pytest.mark.parametrize(
    ("table", "key", "says"),
    [
        (table_of(2, 300), KEY, "power of two"),
        (table_of(2, 128), KEY, "power of two"),
        (table_of(2, 256, 5), KEY, "shape"),
        (table_of(4096), KEY, "at most 4095"),
        (table_of(2), KEY[:15], "16 bytes"),
    ],
)
def test_tables_that_cannot_be(
    dataplane: Dataplane,
    table: np.ndarray,
    key: bytes,
    says: str,
) -> None:
    dataplane.set_table("web", table_of(2), KEY)
    with pytest.raises(DataplaneError, match=says):
        dataplane.set_table("web", table, key)
    assert sent_to(dataplane) == B


@pytest.fixture
def pins(bpffs: Path) -> Path:
    return bpffs / "server" / "eth0"


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_pins_show_another_process_everything(dataplane: Dataplane, pins: Path, depth: int) -> None:
    table = table_of(2, 131072, depth)
    table[:, 1:] = (np.arange(131072)[:, None] + np.arange(1, depth)) % 4
    dataplane.set_table("web", table, KEY)
    dataplane.set_neighbour(2, MAC)
    sent_to(dataplane)
    dataplane.pin(pins)
    with pytest.raises(DataplaneError, match="File exists"):
        dataplane.pin(pins)
    assert sorted(path.name for path in pins.parent.iterdir()) == ["eth0"]
    assert {"forwarder", "redirector"} < {path.name for path in pins.iterdir()}
    with PinnedDataplane(pins) as seen:
        assert seen.counters() == dataplane.counters()
        assert seen.service_counters() == dataplane.service_counters()
        assert seen.program_ids() == dataplane.program_ids()
        assert seen.dips() == {1: (OWN, None), 2: (B, MAC), 3: (C, None)}
        assert int(seen._state.config["dip"]) == int(OWN)
        assert np.array_equal(seen.chains("web"), table)
        assert seen.pool_words() == {"web": PoolWord(131072, 0, depth, 2 if depth == 2 else 4)}
        with pytest.raises(DataplaneError, match="no table"):
            seen.chains("mail")


def test_pins_of_another_layout_are_not_read(
    dataplane: Dataplane, pins: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataplane.pin(pins)
    with PinnedDataplane(pins) as seen:
        assert int(seen._state.config["dip"]) == int(OWN)
    monkeypatch.setattr(abi, "LAYOUT", abi.LAYOUT + 1)
    with pytest.raises(DataplaneError, match="another version: lbctl up again"):
        PinnedDataplane(pins)


def test_pins_without_the_newest_map_are_of_another_version(
    dataplane: Dataplane, pins: Path
) -> None:
    dataplane.pin(pins)
    (pins / "openings").unlink()
    with pytest.raises(DataplaneError, match="another version: lbctl up again"):
        PinnedDataplane(pins)


def test_pinned_programs_outlive_their_loader(pins: Path) -> None:
    with Dataplane.load(IDENTITY) as first:
        first.set_cluster(VIEW)
        first.set_table("web", table_of(2), KEY)
        first.pin(pins)
    fd = bpf_syscall.obj_get(pins / "forwarder")
    try:
        assert bpf_syscall.prog_test_run(fd, FRAME).retval == 3
    finally:
        os.close(fd)


def test_no_pins_is_one_line_with_a_remedy(tmp_path: Path, pins: Path) -> None:
    with pytest.raises(DataplaneError, match="lbctl up"):
        PinnedDataplane(pins / "nobody")


def test_pinning_outside_a_bpffs_is_one_line(dataplane: Dataplane, tmp_path: Path) -> None:
    with pytest.raises(DataplaneError, match="bpffs"):
        dataplane.pin(tmp_path / "eth0")
    assert not list(tmp_path.iterdir())


def test_without_bcc_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "bcc", None)
    with pytest.raises(DataplaneError, match="python3-bpfcc"):
        Dataplane.load(IDENTITY)


def test_without_permission_the_error_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> int:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(bpf_syscall, "map_create", refuse)
    with pytest.raises(DataplaneError, match="run as root"):
        Dataplane.load(IDENTITY)


def test_a_broken_source_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    from lb.dataplane import dataplane as module

    monkeypatch.setattr(module, "source_text", lambda: "int lb_forwarder( {\n")
    with pytest.raises(DataplaneError, match=r"error: ") as caught:
        Dataplane.load(IDENTITY)
    assert "\n" not in str(caught.value)


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_closing_leaves_no_descriptor_behind() -> None:
    Dataplane.load(IDENTITY).close()
    before = open_descriptors()
    dataplane = Dataplane.load(IDENTITY)
    dataplane.set_cluster(VIEW)
    dataplane.set_table("web", table_of(2), KEY)
    dataplane.close()
    dataplane.close()
    assert open_descriptors() == before


def test_loading_is_quick(dataplane: Dataplane, measured: tuple[Dataplane, float]) -> None:
    # CPU time: what else runs on the machine counts little. It does count, in shared caches, so
    # that a load that took longer is repeated: the least is what loading costs.
    assert measured[1] < 3 or min(loading_seconds() for _ in range(LOADS)) < 3
    assert dataplane.load_seconds > 0
    for fd in (dataplane.forwarder_fd, dataplane.redirector_fd):
        info = bpf_syscall.prog_info(fd)
        print(f"\n{info.name}: {info.instructions} instructions, {info.verified} verified")
