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
from lb.agent.attach import bpffs
from lb.dataplane.load import bpf_syscall

def pin(base, interface):
    bpffs.prepare(base)
    fresh = bpffs.fresh_directory(base, interface)
    fd = bpf_syscall.map_create(bpf_syscall.MAP_TYPE_ARRAY, 4, 8, 1, name="test")
    bpf_syscall.obj_pin(fd, fresh / "forwarder")
    return bpffs.swap_in(base, interface, fresh)

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


def test_new_pins_take_the_place_of_old_ones_and_of_what_dead_agents_left(tmp_path: Path) -> None:
    run(
        tmp_path,
        """
base = usual / "bucket-brigade"
pin(base, "eth0")
old = (base / "eth0" / "forwarder").stat().st_ino
for _ in range(2):
    half = bpffs.fresh_directory(base, "eth0")
    fd = bpf_syscall.map_create(bpf_syscall.MAP_TYPE_ARRAY, 4, 8, 1, name="half")
    bpf_syscall.obj_pin(fd, half / "half")
bpffs.fresh_directory(base, "eth0.1")
found = [str(p.relative_to(base)) for p in sorted(base.rglob("*"))]
left = ["eth0:0", "eth0:0/half", "eth0:1", "eth0:1/half"]
assert found == ["eth0", "eth0/forwarder", *left, "eth0~1:0"], found
pin(base, "eth0")
assert sorted(p.name for p in base.iterdir()) == ["eth0", "eth0~1:0"]
assert [p.name for p in (base / "eth0").iterdir()] == ["forwarder"]
assert (base / "eth0" / "forwarder").stat().st_ino != old
""",
    )


def test_there_are_pins_at_each_moment_while_new_ones_take_place(tmp_path: Path) -> None:
    """A process that is killed between two steps leaves all of them; from 5.16 there is one."""
    run(
        tmp_path,
        """
import os
base = usual / "bucket-brigade"
pin(base, "eth0")
seen = []
rename, exchange = Path.rename, bpffs.exchange
def look():
    seen.append({p.name: [q.name for q in p.iterdir()] for p in base.iterdir()})
Path.rename = lambda self, to: (rename(self, to), look())
bpffs.remove_pins = lambda directory, kept=None: look()
pin(base, "eth0")
assert seen == [{"eth0": ["forwarder"], "eth0:0": ["forwarder"]}], seen
seen.clear()
bpffs.exchange = lambda one, other: False
pin(base, "eth0")
assert seen[0].keys() == {"eth0:0", "eth0:1", "eth0:1-old"}, seen
assert all(found == ["forwarder"] for found in seen[0].values())
assert "eth0" in seen[1]
""",
    )


def test_what_others_need_is_kept(tmp_path: Path) -> None:
    run(
        tmp_path,
        """
base = usual / "bucket-brigade"
pin(base, "eth0")
fd = bpf_syscall.map_create(bpf_syscall.MAP_TYPE_PROG_ARRAY, 4, 4, 5, name="root")
bpf_syscall.obj_pin(fd, base / "eth0" / "root")
bpffs.fresh_directory(base, "eth0")
bpffs.clean(base, "eth0", (base,), base / "eth0" / "root")
assert [str(p.relative_to(base)) for p in base.rglob("*")] == ["eth0", "eth0/root"]
bpffs.clean(base, "eth0", ())
assert bpffs.mounts() == before
""",
    )
