"""Root file systems of Debian releases, set up as the README says: `scripts/setup`, on a fresh one.

They lie in the cache. Everything that has to be mounted meanwhile is mounted in a mount namespace
that ends with its last process, so that nothing can stay mounted.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.vm.errors import TrialError
from tests.vm.running import follow, run
from tests.vm.sources import Mirrors
from tests.vm.trials import Trial

PROJECT = Path(__file__).resolve().parents[2]
HOME = Path("srv/bucket-brigade")
"""Where a root has the project."""
INSIDE = Path(__file__).with_name("inside.sh")
NEEDED = ("ca-certificates", "kmod", "iproute2", "python3-bpfcc", "linux-libc-dev")
"""What a release's root has before `scripts/setup`, or without it."""
BASE_SECONDS = 600
SETUP_SECONDS = 900
SYSTEM_LIBRARIES = ("libc.", "libm.", "libpthread.", "libdl.", "librt.", "libstdc++.", "libgcc_s.")
"""Those that a newer release has in a compatible form."""
LIBRARIES = Path("usr/lib/x86_64-linux-gnu")


def make_base(release: str, mirrors: Mirrors, cache: Path, say: Callable[[str], None]) -> Path:
    """Have the bare root of a release."""
    folder = cache / "roots" / release
    if folder.is_dir():
        return folder
    say(f"making a root file system of {release}")
    fresh = folder.with_name(f"{release}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.parent.mkdir(parents=True, exist_ok=True)
    command = [
        *("unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child"),
        *("mmdebstrap", "--quiet", "--mode=root", "--variant=minbase"),
        *(f"--include={','.join(NEEDED)}", release, str(fresh), *mirrors.lines(release)),
    ]
    run(command, BASE_SECONDS, env=os.environ)
    fresh.rename(folder)
    return folder


def copy_project(root: Path) -> None:
    """Have the project's files as they are here, uncommitted ones too, and what set-up made."""
    home = root / HOME
    home.mkdir(parents=True, exist_ok=True)
    for path in home.iterdir():
        if path.name == ".venv":
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=PROJECT,
        check=True,
        capture_output=True,
    )
    for name in map(os.fsdecode, filter(None, listed.stdout.split(b"\0"))):
        source, target = PROJECT / name, home / name
        if source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)


def prepare(trial: Trial, mirrors: Mirrors, cache: Path, say: Callable[[str], None]) -> Path:
    """Have a trial's root, with the project in it, set up if all of it is to run."""
    root = make_base(trial.root, mirrors, cache, say)
    copy_project(root)
    if trial.whole:
        output: list[str] = []
        code = follow(
            ["bash", str(INSIDE), "setup", str(root)], output.append, SETUP_SECONDS, env=os.environ
        )
        if code != 0:
            raise TrialError("\n".join(["scripts/setup failed in it:", *output[-25:]]))
    return root


def borrow_bcc(release: str, mirrors: Mirrors, cache: Path, say: Callable[[str], None]) -> Path:
    """Have a layer with bcc and the libraries it needs from another release, under /opt/bcc."""
    layer = cache / "bcc" / release
    if layer.is_dir():
        return layer
    source = make_base(release, mirrors, cache, say)
    fresh = layer.with_name(f"{release}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    libraries = fresh / "opt/bcc/lib"
    libraries.mkdir(parents=True)
    shutil.copytree(source / "usr/lib/python3/dist-packages/bcc", fresh / "opt/bcc/python/bcc")
    bcc = LIBRARIES / "libbcc.so.0"
    listed = run(["chroot", source, "ldd", f"/{bcc}"], 30, env=os.environ)
    for path in (f"/{bcc}", *needed_libraries(listed)):
        shutil.copy2((source / path.lstrip("/")).resolve(), libraries / Path(path).name)
    fresh.rename(layer)
    return layer


def needed_libraries(listed: str) -> list[str]:
    """Return the paths in `ldd`'s output that another release has to be given."""
    words = [line.split() for line in listed.splitlines() if "=> /" in line]
    return [w[2] for w in words if not w[0].startswith(SYSTEM_LIBRARIES)]
