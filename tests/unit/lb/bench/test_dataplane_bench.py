"""The frames, rows and services of the data-plane benchmark."""

from __future__ import annotations

import struct
from collections import Counter
from ipaddress import IPv4Address
from pathlib import Path

import numpy as np
from click.testing import CliRunner

from controlplane.domain.errors import UsageError
from lb.bench import frames, workload
from lb.bench.dataplane import ratios, tcp4_ack_frames
from lb.cli.bench import dataplane
from tests.model import Config, Dip, Pool, Service, forward
from tests.model.checksum import internet_checksum


def test_every_frame_is_as_short_as_it_can_be_and_has_a_right_header() -> None:
    for row in workload.forwarder_rows():
        for frame in row.frames:
            if frame[12:14] == b"\x86\xdd":
                assert len(frame) == 14 + 40 + 20
            else:
                assert len(frame) == 64
                assert internet_checksum(frame[14:34]) == 0


def test_a_thousand_services_and_dips_and_this_server_owns_nothing() -> None:
    services = workload.services()
    assert len({service.address for service in services}) == workload.SERVICES
    assert sum(service.port is None for service in services) == workload.ANY_PORT
    prefixes = [service.vip for service in services if service.vip.num_addresses > 1]
    assert len(prefixes) == workload.PREFIXES
    assert len({(vip.version, vip.prefixlen) for vip in prefixes}) == 6
    assert {vip.version for vip in prefixes} == {4, 6}
    assert Counter(service.pool for service in services)[workload.MOVING_POOL] == 1
    dips = workload.dips()
    assert len(set(dips.values())) == workload.DIPS + 1
    assert dips[workload.OWN_INDEX] == workload.OWN_DIP


def test_the_model_agrees_with_each_row() -> None:
    services = tuple(
        Service(s.vip, s.protocol, s.port, s.pool, stateless=s.stateless)
        for s in workload.services()
    )
    pools = {
        workload.POOL: Pool(bytes(16), 256, dict.fromkeys(range(256), (1,)), 2),
        workload.MOVING_POOL: Pool(bytes(16), 256, dict.fromkeys(range(256), (1, 2)), 2),
    }
    dips = {index: Dip(address) for index, address in list(workload.dips().items())[:3]}
    config = Config(
        self_dip=workload.OWN_DIP,
        mac=frames.OWN_MAC,
        mtu=workload.MTU,
        services=services,
        pools=pools,
        dips=dips | {1: Dip(workload.FIRST_DIP + 1), 2: Dip(workload.FIRST_DIP + 2)},
    )
    for row in workload.forwarder_rows():
        for frame in row.frames[:20]:
            result = forward(frame, config)
            assert result.verdict == {workload.TX: "tx", workload.PASS: "pass"}[row.verdict]
            assert result.frame is not None
            assert len(result.frame) - len(frame) == row.growth


def test_many_flows_go_to_the_services_of_one_flow_and_to_all() -> None:
    rows = {row.name: row for row in workload.forwarder_rows()}
    assert rows["tcp4_ack_2e19_flows"].frames == rows["tcp4_ack"].frames
    assert rows["tcp4_ack_2e19_flows"].flow_bits == workload.FLOW_BITS
    at_rest = [
        service
        for service in workload.services()
        if (service.vip.version, service.protocol, service.pool) == (4, 6, workload.POOL)
    ]
    targets = [
        (IPv4Address(frame[30:34]), int.from_bytes(frame[36:38], "big"))
        for frame in rows["all_services_2e19_flows"].frames
    ]
    assert len(targets) == len(at_rest)
    for (address, port), service in zip(targets, at_rest, strict=True):
        assert address in service.vip
        assert service.port in {None, port}


def test_a_ratio_is_a_number_whatever_was_interrupted() -> None:
    program, base = np.array([30.0, 30.0, 0.0, 40.0]), np.array([10.0, 0.0, 0.0, -2.0])
    assert list(ratios(program, base)) == [3, np.inf, np.inf, np.inf]


def test_pcap_is_classic_ethernet(tmp_path: Path) -> None:
    path = tmp_path / "packets.pcap"
    wanted = tcp4_ack_frames()
    frames.write_pcap(path, wanted)
    raw = path.read_bytes()
    magic, _, _, _, _, _, link = struct.unpack_from("<IHHiIII", raw)
    assert (magic, link) == (0xA1B2C3D4, 1)
    at, found = 24, []
    while at < len(raw):
        _, _, length, _ = struct.unpack_from("<IIII", raw, at)
        found.append(raw[at + 16 : at + 16 + length])
        at += 16 + length
    assert found == list(wanted)


def test_pins_need_a_bpffs_which_is_checked_before_anything_is_measured(tmp_path: Path) -> None:
    result = CliRunner().invoke(dataplane, ["--pin", str(tmp_path / "pins")])
    assert isinstance(result.exception, UsageError)
    assert "not on a BPF file system" in str(result.exception)
    assert not (tmp_path / "pins").exists()


def test_pins_replace_nothing(tmp_path: Path) -> None:
    result = CliRunner().invoke(dataplane, ["--pin", str(tmp_path)])
    assert isinstance(result.exception, UsageError)
    assert "exists already" in str(result.exception)
