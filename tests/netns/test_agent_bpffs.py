"""Where pins live: mounted if need be, shared with others, and gone without a trace.

In a mount namespace of the test's own, so that the machine's /sys/fs/bpf is left alone; /sys itself
stays the one that is there.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PRELUDE = """
import sys
from pathlib import Path
from lb.agent import bpffs
from lb.dataplane import bpf_syscall

def pin(base, interface):
    bpffs.prepare(base)
    fresh = bpffs.fresh_directory(base, interface)
    fd = bpf_syscall.map_create(bpf_syscall.MAP_TYPE_ARRAY, 4, 8, 1, name="test")
    bpf_syscall.obj_pin(fd, fresh / "forwarder")
    return bpffs.take_place(base, interface)

usual, tmp = Path("/sys/fs/bpf"), Path(sys.argv[1])
before = bpffs.mounts()
"""


def run(tmp_path: Path, code: str) -> None:
    """Run code in a private mount namespace where nothing is mounted on /sys/fs/bpf."""
    unmount = "while umount /sys/fs/bpf 2>/dev/null; do :; done"
    done = subprocess.run(
        [
            *("unshare", "--mount", "--propagation", "private", "sh", "-c"),
            f'{unmount}; exec "$@"',
            *("sh", sys.executable, "-c", PRELUDE + code, str(tmp_path)),
        ],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_usual_place_is_mounted_and_unmounted_by_the_last_one_out(tmp_path: Path) -> None:
    run(
        tmp_path,
        """
base = usual / "bucket-brigade"
assert usual not in before
assert pin(base, "eth0") == base / "eth0"
assert bpffs.mounts()[usual] == "bucket-brigade"
pin(base, "eth1")
bpffs.clean(base, "eth0", (base,))
assert [p.name for p in base.iterdir()] == ["eth1"]
bpffs.clean(base, "eth1", ())
assert bpffs.mounts() == before
""",
    )


def test_a_mount_that_was_there_stays(tmp_path: Path) -> None:
    run(
        tmp_path,
        """
import subprocess
subprocess.run(["mount", "-t", "bpf", "bpf", usual], check=True)
base = usual / "bucket-brigade"
pin(base, "eth0")
bpffs.clean(base, "eth0", (base,))
assert bpffs.mounts()[usual] == "bpf"
assert [p.name for p in usual.iterdir() if "." not in p.name] == []
""",
    )


def test_pins_of_others_keep_our_mount_alive(tmp_path: Path) -> None:
    run(
        tmp_path,
        """
base = usual / "bucket-brigade"
pin(base, "eth0")
(usual / "somebody").mkdir()
bpffs.clean(base, "eth0", (base,))
assert usual in bpffs.mounts()
assert [p.name for p in usual.iterdir() if "." not in p.name] == ["somebody"]
""",
    )


def test_a_base_elsewhere_gets_a_mount_of_its_own(tmp_path: Path) -> None:
    run(
        tmp_path,
        """
base = tmp / "a" / "pins"
made = bpffs.missing_directories(base)
assert made == (tmp / "a", base)
assert pin(base, "eth0.100") == base / "eth0~100"
assert base in bpffs.mounts()
bpffs.clean(base, "eth0.100", made)
assert bpffs.mounts() == before
assert list(tmp.iterdir()) == []
""",
    )


def test_new_pins_take_the_place_of_old_ones_and_of_a_dead_agents_half(tmp_path: Path) -> None:
    run(
        tmp_path,
        """
base = usual / "bucket-brigade"
pin(base, "eth0")
old = (base / "eth0" / "forwarder").stat().st_ino
bpffs.fresh_directory(base, "eth0")
fd = bpf_syscall.map_create(bpf_syscall.MAP_TYPE_ARRAY, 4, 8, 1, name="half")
bpf_syscall.obj_pin(fd, base / "eth0:new" / "half")
pin(base, "eth0")
assert [p.name for p in base.iterdir()] == ["eth0"]
assert [p.name for p in (base / "eth0").iterdir()] == ["forwarder"]
assert (base / "eth0" / "forwarder").stat().st_ino != old
""",
    )
