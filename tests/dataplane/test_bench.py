"""The benchmark runs, tells a slower program from a faster one, and leaves what it promises."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lb.bench import feeder
from lb.bench.dataplane import load_identity
from lb.bench.feeder import Harness, Program
from lb.bench.workload import forwarder_rows
from lb.cli.main import run
from lb.dataplane.errors import DataplaneError
from lb.dataplane.load import bpf_syscall
from lb.dataplane.pinned import PinnedDataplane

ROWS = {
    *("tcp4_syn", "tcp4_ack", "udp4", "tcp6_ack", "tcp4_ack_2e19_flows"),
    *("tcp4_ack_in_transition", "tcp4_any_port_and_prefix", "all_services_2e19_flows"),
    *("not_for_vip", "not_for_vip6", "redirector_other", "redirector_accept", "redirector_pass_on"),
    *("egress_segment", "egress_wrap", "egress_ack", "egress_reset"),
}


@pytest.mark.slow
def test_a_quick_run(bpffs: Path, tmp_path: Path) -> None:
    pins = bpffs / "bench"
    result, packets = tmp_path / "result.json", tmp_path / "packets.pcap"
    options = ["--quick", "--json", str(result), "--pin", str(pins), "--packets", str(packets)]
    affinity, policy = os.sched_getaffinity(0), os.sched_getscheduler(0)
    assert run(["bench", "dataplane", *options]) == 0
    assert (os.sched_getaffinity(0), os.sched_getscheduler(0)) == (affinity, policy)
    found = json.loads(result.read_text())
    assert {row["name"] for row in found["rows"]} == ROWS
    assert all(row["base"] in {"floor", "noop_tc"} for row in found["rows"])
    assert found["floor_ns"] > 0
    assert found["flows"]["base"] == "tcp4_ack"
    assert 0.7 < found["flows"]["ratio"] < 2
    # the control: a floor with one more helper call is dearer by far more than noise
    slower, same = found["controls"]
    assert slower["ratio"] > 1.5
    assert 0.7 < same["ratio"] < 1.4
    assert packets.stat().st_size > 24
    with PinnedDataplane(pins) as pinned:
        assert len(pinned.services()) == 1000
        assert len(pinned.dips()) == 1001
    assert run(["bench", "dataplane", "--quick", "--pin", str(pins)]) == 2


def test_every_packet_is_fresh_and_another_verdict_is_noticed() -> None:
    rows = forwarder_rows()
    ack = next(row for row in rows if row.name == "tcp4_ack")
    with load_identity() as empty, Harness(rows) as harness:
        floor = harness.floor(ack)
        harness.xdp(floor, floor, 2)
        # without services the forwarder passes what the row wants sent
        with pytest.raises(DataplaneError, match="verdict 2, not 3"):
            harness.xdp(floor, Program(empty.forwarder_fd, ack, 3, 36), 2)
        with pytest.raises(ValueError, match="at most"):
            harness.xdp(floor, floor, feeder.MAX_CYCLES + 1)
        # a program that grows less than said
        with pytest.raises(DataplaneError, match="wrong length"):
            harness.xdp(floor, Program(harness.fds["lb_floor"], ack, 3, 40), 2)


def test_each_lane_gets_its_own_packets_and_its_own_time() -> None:
    rows = forwarder_rows()
    ack, other = (
        next(row for row in rows if row.name == name) for name in ("tcp4_ack", "tcp6_ack")
    )
    with Harness(rows) as harness:
        pairs = [
            (
                harness.xdp(harness.floor(ack), harness.floor(other), 64),
                harness.xdp(harness.floor(ack), harness.floor(other, "lb_floor_slower"), 64),
            )
            for _ in range(3)
        ]
    assert all(one.shape == (64, 3) for pair in pairs for one in pair)
    # Another load of the machine may slow one lane of a run down: the calmest of three counts.
    same, slower = min((_ratio(same), _ratio(slower)) for same, slower in pairs)
    assert 0.5 < same < 1.5
    assert slower > 2


def _ratio(lanes: Any) -> float:
    """The second lane's time as a multiple of the first one's."""
    return float(np.median(lanes[:, 2] / lanes[:, 1]))


def test_many_flows_are_as_many_as_the_row_says() -> None:
    rows = forwarder_rows()
    ack, many = (
        next(row for row in rows if row.name == name)
        for name in ("tcp4_ack", "tcp4_ack_2e19_flows")
    )
    with Harness(rows) as harness:
        for base_last in (False, True):
            harness.xdp(harness.floor(ack), harness.floor(many), 8, base_last=base_last)
        fed = harness._flows[many.name, harness.floor(many).fd]
    assert fed == (2 * 9 * feeder.TURN, multiplier_after_one())


def multiplier_after_one() -> int:
    """The first packet of a pass chooses the order of its flows."""
    return feeder.MULTIPLIER * 6364136223846793005 + 2 & feeder.WORD


def test_without_the_feeder_a_program_meets_its_own_output() -> None:
    """Why there is one: repeated bare, the floor runs out of head room."""
    rows = forwarder_rows()
    frame = rows[0].frames[0]
    with Harness(rows) as harness:
        fd = harness.fds["lb_floor"]
        assert bpf_syscall.prog_test_run(fd, frame).retval == 3
        assert bpf_syscall.prog_test_run(fd, frame, repeat=feeder.TURN).retval == 1
