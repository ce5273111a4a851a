"""Programs, filters, slots, pins and files that somebody changes under an agent."""

from __future__ import annotations

import ctypes
import os
import shutil
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from lb.dataplane.dataplane import PIN_NAMES
from lb.dataplane.load import bpf_syscall
from netns import bpf, brigade
from netns.polling import wait_until
from tests.netns.field.watched import SOON_SECONDS, Watched, watched_servers

PROG_ATTACH, PROG_DETACH = 8, 9
SCHED_CLS = 3
ATTACH = struct.Struct("=IIIIIIQ")
"""union bpf_attr of the two: interface, program, hook, flags, two relations, revision."""
MATCHES_NOTHING = "1,6 0 0 0,"


@pytest.fixture(scope="module")
def watched() -> Iterator[Watched]:
    with watched_servers() as made:
        yield made


@pytest.fixture(autouse=True)
def at_rest(watched: Watched) -> None:
    watched.rest()


def tc(watched: Watched, *words: str) -> None:
    watched.run("tc", *words)


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("redirector", "tc qdisc del dev eth0 clsact"),
        ("redirector", "tc filter del dev eth0 ingress"),
        ("egress", "tc filter del dev eth0 egress"),
        ("forwarder", "ip link set dev eth0 xdp off"),
    ],
)
def test_detached_programs_are_attached_again(watched: Watched, what: str, words: str) -> None:
    with watched.put_back(what):
        watched.run(*words.split())
    assert "prog/xdp" in watched.run("ip", "-d", "link", "show", "dev", "eth0")
    for side in ("ingress", "egress"):
        assert "bucket-brigade" in watched.run("tc", "filter", "show", "dev", "eth0", side)
    watched.answers()


@pytest.mark.parametrize(
    ("array", "key"), [("root", 2), ("stages", 0), ("stages", 1), ("tc_stages", 0)]
)
def test_an_emptied_slot_is_filled(watched: Watched, array: str, key: int) -> None:
    with watched.put_back("slots"), pinned(watched.pins / array) as descriptor:
        before = bpf_syscall.map_lookup(descriptor, key, 4)
        bpf_syscall.map_delete(descriptor, key)
    with pinned(watched.pins / array) as descriptor:
        assert bpf_syscall.map_lookup(descriptor, key, 4) == before
    watched.answers()


@contextmanager
def pinned(path: Path) -> Iterator[int]:
    descriptor = bpf_syscall.obj_get(path)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def foreign_xdp(watched: Watched) -> Iterator[Path]:
    """A pinned XDP program of somebody else's."""
    path = watched.server.bpffs / "foreign"
    descriptor = bpf.load_pass_all()
    bpf_syscall.obj_pin(descriptor, path)
    os.close(descriptor)
    try:
        yield path
    finally:
        path.unlink()


def test_a_foreign_xdp_program_in_place_of_ours_is_named_and_left_alone(watched: Watched) -> None:
    with foreign_xdp(watched) as path:
        watched.run("ip", "-force", "link", "set", "dev", "eth0", "xdpdrv", "pinned", str(path))
        with watched.withdrawn("forwarder", "another XDP program is on eth0, bb_pass_all"):
            assert watched.status()["attached"] is False
            link = watched.run("ip", "-d", "link", "show", "dev", "eth0")
            assert "name bb_pass_all" in link or "prog/xdp" in link
            watched.run("ip", "link", "set", "dev", "eth0", "xdp", "off")
    watched.answers()


def test_a_foreign_filter_in_place_of_ours_is_named_and_left_alone(watched: Watched) -> None:
    place = ("dev", "eth0", "ingress", "prio", "49", "handle", "0xbb", "bpf")
    tc(watched, "filter", "replace", *place, "bytecode", MATCHES_NOTHING)
    with watched.withdrawn("redirector", "another tc filter is where the redirector has to be"):
        shown = watched.run("tc", "filter", "show", "dev", "eth0", "ingress")
        assert "bytecode" in shown
        tc(watched, "filter", "del", "dev", "eth0", "ingress", "prio", "49")
    watched.answers()


def test_a_filter_before_the_redirector_is_reported(watched: Watched) -> None:
    place = ("dev", "eth0", "ingress", "prio", "7", "bpf")
    tc(watched, "filter", "add", *place, "bytecode", MATCHES_NOTHING)
    wait_until(lambda: "kind bpf, priority 7" in watched.trouble(), "its name", SOON_SECONDS)
    assert watched.ready(), "it may be harmless"
    tc(watched, "filter", "del", "dev", "eth0", "ingress", "prio", "7")
    wait_until(lambda: watched.trouble() == "", "no trouble any more")


def tcx(watched: Watched, command: int, program: int) -> None:
    """Attach a program before all tc filters, or detach it."""

    def inside() -> None:
        hook = bpf_syscall.ATTACH_TYPE_TCX_INGRESS
        packed = ATTACH.pack(socket.if_nametoindex("eth0"), program, hook, 0, 0, 0, 0)
        bpf_syscall.bpf(command, ctypes.create_string_buffer(packed, len(packed)))

    watched.server.call(inside)


def send_datagrams(watched: Watched) -> None:
    """Send a hundred datagrams to the server's DIP."""

    def send() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for _ in range(100):
                sender.sendto(b"x", (str(brigade.dip(2)), 9))

    watched.router.call(send)


def load_tcx_pass() -> int:
    """A program that ends the way of every packet with "go on": nobody behind it sees any."""
    code = bpf_syscall.instruction(0xB7, 0, 0) + bpf_syscall.instruction(0x95)
    return bpf_syscall.prog_load(SCHED_CLS, code, name="bb_tcx_pass")


def test_a_tcx_program_that_takes_the_redirectors_packets_withdraws_the_server(
    watched: Watched,
) -> None:
    major, minor = os.uname().release.split(".")[:2]
    if (int(major), int(minor)) < (6, 6):
        pytest.skip("tcx needs Linux 6.6")
    program = load_tcx_pass()
    tcx(watched, PROG_ATTACH, program)
    try:
        wait_until(lambda: "tcx program bb_tcx_pass" in watched.trouble(), "named", SOON_SECONDS)
        assert watched.ready(), "without packets nothing shows that it takes them"
        send_datagrams(watched)
        with watched.withdrawn("redirector_packets", "do not reach the redirector"):
            tcx(watched, PROG_DETACH, program)
            send_datagrams(watched)
    finally:
        with suppress(OSError):  # the block has detached it, unless it failed
            tcx(watched, PROG_DETACH, program)
        os.close(program)
    watched.answers()


@pytest.mark.parametrize("which", ["all", "one", "replaced"])
def test_pins_are_there_again(watched: Watched, which: str) -> None:
    with watched.put_back("pins"):
        if which == "all":
            shutil.rmtree(watched.pins)
        else:
            (watched.pins / "tc_stages").unlink()
        if which == "replaced":
            descriptor = bpf.load_pass_all()
            bpf_syscall.obj_pin(descriptor, watched.pins / "tc_stages")
            os.close(descriptor)
    assert {path.name for path in watched.pins.iterdir()} == set(PIN_NAMES.values())
    watched.fleet.lbctl(2, "counters", "--json")


def test_pins_of_before_an_agents_end_keep_rare_packets_going(watched: Watched) -> None:
    """The kernel empties a program array with its last descriptor: the pin has to be there."""
    with watched.put_back("pins"):
        shutil.rmtree(watched.pins)
    watched.agents[2].kill()
    for array in ("stages", "tc_stages"):
        with pinned(watched.pins / array) as descriptor:
            bpf_syscall.map_lookup(descriptor, 0, 4)
    watched.agents[2] = watched.up(2)
    pid = watched.agents[2].id.pid
    wait_until(
        lambda: watched.status()["pid"] == pid and watched.status()["hooks"], "a new agent", 60
    )


def test_an_emptied_run_directory_has_its_files_again(watched: Watched) -> None:
    with watched.put_back("ready_file"):
        shutil.rmtree(watched.server.run_dir)


def test_a_lost_record_is_written_again(watched: Watched) -> None:
    record = watched.server.state_dir / "record.json"
    before = record.read_text()
    with watched.put_back("record"):
        record.unlink()
    assert record.read_text() == before


def test_an_unmounted_bpf_file_system_is_mounted_again(watched: Watched) -> None:
    """The last test here: both servers' pins are on it."""
    with watched.put_back("pins"):
        watched.run("umount", "--lazy", str(watched.network.record.path / "bpf"))
    assert {path.name for path in watched.pins.iterdir()} == set(PIN_NAMES.values())
