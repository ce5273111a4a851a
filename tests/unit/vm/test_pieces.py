"""What `make vm` is made of, as far as it needs neither a machine nor packages."""

from __future__ import annotations

import lzma
import os
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

from netns.polling import wait_until
from netns.process import ProcessId, is_alive, start_time
from tests.vm import initramfs, kernels, qemu
from tests.vm.__main__ import chosen, main
from tests.vm.errors import TrialError
from tests.vm.kernels import Kernel
from tests.vm.outcome import COLUMNS, NO_END, NOT_LOADED, Outcome
from tests.vm.roots import needed_libraries
from tests.vm.running import follow, run
from tests.vm.sources import Mirrors, find_mirrors, stock_kernel
from tests.vm.trials import STEPS, TRIALS

DEPENDENCIES = """\
kernel/fs/9p/9p.ko: kernel/net/9p/9pnet.ko kernel/fs/netfs/netfs.ko
kernel/net/9p/9pnet.ko:
kernel/fs/netfs/netfs.ko:
kernel/net/9p/9pnet_virtio.ko.xz: kernel/net/9p/9pnet.ko kernel/drivers/virtio/virtio.ko
"""


def unpack_newc(data: bytes) -> dict[str, tuple[int, bytes]]:
    """Read an archive by cpio(5): name -> mode, content."""
    found: dict[str, tuple[int, bytes]] = {}
    place = 0
    while True:
        assert place % 4 == 0
        assert data[place : place + 6] == b"070701"
        fields = [int(data[place + 6 + 8 * n :][:8], 16) for n in range(13)]
        mode, size, name_size = fields[1], fields[6], fields[11]
        name = data[place + 110 :][: name_size - 1].decode()
        if name == "TRAILER!!!":
            return found
        place += -(-(110 + name_size) // 4) * 4
        found[name] = (mode, data[place : place + size])
        place += -(-size // 4) * 4


def test_modules_are_loaded_after_what_they_need_and_once() -> None:
    dependencies = initramfs.read_dependencies(DEPENDENCIES)
    order = initramfs.load_order(dependencies, ["virtio_pci", "9pnet_virtio", "9p"])
    names = [Path(path).name for path in order]
    assert sorted(names) == sorted(
        {"9p.ko", "9pnet.ko", "netfs.ko", "9pnet_virtio.ko.xz", "virtio.ko"}
    )
    assert names.index("9pnet.ko") < names.index("9pnet_virtio.ko.xz")
    assert names.index("virtio.ko") < names.index("9pnet_virtio.ko.xz")
    assert max(names.index("9pnet.ko"), names.index("netfs.ko")) < names.index("9p.ko")


def test_the_initramfs_holds_what_init_names(tmp_path: Path) -> None:
    for line in DEPENDENCIES.splitlines():
        for name in line.replace(":", "").split():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            content = b"module " + path.name.encode()
            path.write_bytes(lzma.compress(content) if path.suffix == ".xz" else content)
    (tmp_path / "modules.dep").write_text(DEPENDENCIES)
    found = unpack_newc(initramfs.build(tmp_path, Path("/bin/true"), kernels.INIT))
    assert found["init"] == (0o100755, kernels.INIT.read_bytes())
    assert found["bin/busybox"][1].startswith(b"\x7fELF")
    assert {"proc", "root", "kernel", "bcc", "layer", "new"} <= found.keys()
    modules = {data for name, (_, data) in found.items() if name.startswith("modules/")}
    assert b"module 9pnet_virtio.ko.xz" in modules, "unpacked"
    assert len(modules) == 5


@pytest.mark.parametrize(
    ("member", "place"),
    [
        ("./boot/vmlinuz-6.1.0-1-amd64", "boot/vmlinuz-6.1.0-1-amd64"),
        ("./lib/modules/6.1.0-1-amd64/kernel/fs/9p/9p.ko", "usr"),
        ("./usr/lib/modules/6.12-amd64/kernel/net/9p/9pnet.ko.xz", "usr"),
        ("./lib/modules/6.1.0-1-amd64/kernel/drivers/net/veth.ko", "usr"),
        ("./lib/modules/6.1.0-1-amd64/kernel/drivers/gpu/drm/i915.ko", None),
        ("./usr/share/doc/linux/copyright", None),
    ],
)
def test_of_a_kernel_what_is_needed_is_kept_and_modules_lie_under_usr(
    member: str, place: str | None
) -> None:
    found = kernels.place_of(member)
    assert (found is None) == (place is None)
    if found is not None and place == "usr":
        assert found.parts[:3] == ("usr", "lib", "modules")
    elif found is not None:
        assert str(found) == place


def test_mirrors_are_those_of_apt_or_those_named() -> None:
    listed = [
        "Other|Other|http://o/",
        "Debian|Debian|http://m/",
        "Debian|Debian-Security|http://s/",
    ]
    assert find_mirrors(listed, {}) == Mirrors("http://m/", "http://s/")
    named = {"LB_DEBIAN_MIRROR": "http://mine/"}
    assert find_mirrors(listed[:1], named) == Mirrors("http://mine/", None)
    with pytest.raises(TrialError, match="LB_DEBIAN_MIRROR"):
        find_mirrors(listed[:1], {})
    backports = Mirrors("http://m/", "http://s/").lines("bookworm-backports")
    assert len(backports) == 1


def test_the_newest_stock_kernel_is_taken() -> None:
    shown = (
        "Package: linux-image-amd64\nDepends: linux-image-5.10.0-9-amd64 (= 5.10.70-1)\n\n"
        "Package: linux-image-amd64\nDepends: linux-image-5.10.0-46-amd64 (= 5.10.262-1)\n"
    )
    assert stock_kernel(shown) == "linux-image-5.10.0-46-amd64"
    with pytest.raises(TrialError):
        stock_kernel("")


def test_libraries_of_the_system_are_not_borrowed() -> None:
    listed = (
        "\tlibbpf.so.0 => /lib/libbpf.so.0 (0x1)\n\tlibc.so.6 => /lib/libc.so.6 (0x2)\n\tvdso\n"
    )
    assert needed_libraries(listed) == ["/lib/libbpf.so.0"]


def test_names_choose_trials_and_a_wrong_one_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert chosen([]) == list(TRIALS)
    assert {t.name for t in chosen(["debian12"])} == {
        t.name for t in TRIALS if t.name.startswith("debian12")
    }
    assert main(["debian12", "no-such"]) == 2
    assert "debian13" in capsys.readouterr().out


def test_every_kernel_gets_native_xdp_a_queue_for_each_processor() -> None:
    assert qemu.QUEUES >= 2 * qemu.PROCESSORS
    kernel = Kernel("6.1", Path("/k"), Path("/i"), Path("/l"))
    words = qemu.command(kernel, Path("/r"), Path("/b"), Path("/c"), ",".join(STEPS))
    assert any(word.endswith("-- load,dataplane,connections eth0 eth1") for word in words)
    shares = [word for word in words if word.startswith("local,")]
    assert len(shares) == 3
    assert all("readonly=on" in share for share in shares)


GOOD = [
    '@@ {"step": "load"}',
    '@@ {"kernel": "6.1", "bcc": "0.26.0"}',
    '@@ {"program": "lb_forwarder", "kind": "XDP", "instructions": 10, "verified": 20}',
    '@@ {"program": "lb_redirector", "kind": "SCHED_CLS", "instructions": 30, "verified": 40}',
    '@@ {"load_seconds": 1.5}',
    '@@ {"attached": "veth"}',
    '@@ {"step": "load", "exit": 0, "uptime": 1.0}',
    "SKIPPED [1] tests/vm/guest/test_end_to_end.py:1: no IPv6 yet",
    "5 passed, 1 skipped in 2.34s",
    '@@ {"end": 0}',
]


def outcome_of(lines: list[str]) -> Outcome:
    outcome = Outcome("Debian 12", emulated=True)
    for line in lines:
        outcome.take(line)
    outcome.finish()
    return outcome


def test_a_good_trial_is_a_row_with_its_figures() -> None:
    outcome = outcome_of(GOOD)
    assert outcome.problems == []
    assert outcome.skipped == ["no IPv6 yet"]
    assert outcome.row() == (
        "| 6.1 | Debian 12 | 0.26.0 | emulated | veth | forwarder 10 (20), redirector 30 (40) "
        "| 1.5 | 5 passed, 1 skipped | works |"
    )
    assert outcome.row().count(" | ") == len(COLUMNS) - 1


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        (GOOD[:-1], NO_END),
        ([], NO_END),
        (GOOD[-1:], "load was left out"),
        ([GOOD[0], GOOD[6], GOOD[-1]], NOT_LOADED),
        ([*GOOD[:-1], '@@ {"step": "dataplane", "exit": 1}', GOOD[-1]], "dataplane failed"),
    ],
)
def test_what_did_not_work_is_a_problem(lines: list[str], problem: str) -> None:
    assert problem in outcome_of(lines).problems


def test_a_program_that_takes_too_long_is_ended_with_its_children() -> None:
    script = "sleep 60 & echo $!; wait"
    children: list[ProcessId] = []

    def child(line: str) -> None:
        children.append(ProcessId(int(line), start_time(int(line)) or 0))

    began = time.monotonic()
    with pytest.raises(TrialError, match=r"no end after 0\.5 s"):
        follow(["sh", "-c", script], child, 0.5, env=os.environ)
    assert time.monotonic() - began < 20
    # killed is not yet gone
    wait_until(lambda: not is_alive(children[0]), "the child is gone", 5)


def test_a_program_that_fails_is_told_with_its_last_lines() -> None:
    with pytest.raises(TrialError, match=r"exit code 3(?s:.*)last words"):
        run(["sh", "-c", "echo last words; exit 3"], 20, env=os.environ)


def test_load_runs_with_a_python_that_is_too_old_for_the_rest() -> None:
    """It is imported by Debian 11's 3.9, as are the two modules that it takes from lb.dataplane."""
    root = Path(__file__).resolve().parents[3]
    words = (
        "import ast, sys; [ast.parse(open(p).read(), feature_version=(3, 9)) for p in sys.argv[1:]]"
    )
    names = ("load/compile.py", "load/bpf_syscall.py", "errors.py", "load/kernel_headers.py")
    files = [root / "lb/dataplane" / name for name in names]
    files += [root / "controlplane/domain/errors.py", root / "tests/vm/guest/load.py"]
    subprocess.run([sys.executable, "-c", words, *files], check=True)
    code = (
        f"import sys; sys.path.insert(0, {str(root)!r}); sys.modules['numpy'] = None; "
        "from tests.vm.guest.load import import_dataplane; import_dataplane()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_fields_of_an_entry_are_those_of_the_format() -> None:
    raw = initramfs.entry("a", initramfs.FILE, b"xyz", inode=7)
    assert len(raw) == 116
    assert struct.unpack_from("6s8s8s", raw) == (b"070701", b"00000007", b"000081ed")
