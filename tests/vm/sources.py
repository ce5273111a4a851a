"""Debian packages of any release, by an apt of our own beside the machine's: nothing is installed.

The mirror is the one that the machine's own apt uses; elsewhere than on Debian, LB_DEBIAN_MIRROR
and LB_DEBIAN_SECURITY_MIRROR name one.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.vm.errors import TrialError
from tests.vm.running import run

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
FIELDS = "$(ORIGIN)|$(LABEL)|$(REPO_URI)"
LABELS = {"Debian": "LB_DEBIAN_MIRROR", "Debian-Security": "LB_DEBIAN_SECURITY_MIRROR"}
FETCH_SECONDS = 600


@dataclass(frozen=True)
class Mirrors:
    """Where packages come from; ``security`` may be unknown."""

    main: str
    security: str | None

    def lines(self, suite: str) -> list[str]:
        """The lines of a sources.list for a suite, with its security updates if they are known."""
        option = f"[signed-by={KEYRING}]"
        lines = [f"deb {option} {self.main} {suite} main"]
        if self.security and "-" not in suite:
            lines.append(f"deb {option} {self.security} {suite}-security main")
        return lines


def find_mirrors(targets: Sequence[str], environment: dict[str, str]) -> Mirrors:
    """Return the mirrors among apt's index targets (lines of ``FIELDS``), or those named.

    Raises:
        TrialError: there is none.

    """
    found: dict[str, str] = {}
    for line in targets:
        origin, label, uri = line.split("|")
        if origin == "Debian" and label in LABELS:
            found.setdefault(label, uri)
    for label, variable in LABELS.items():
        if named := environment.get(variable):
            found[label] = named
    if "Debian" not in found:
        raise TrialError("apt knows no Debian mirror here: name one in LB_DEBIAN_MIRROR")
    return Mirrors(found["Debian"], found.get("Debian-Security"))


def machine_mirrors() -> Mirrors:
    """The mirrors of this machine's apt."""
    command = ["apt-get", "indextargets", "--format", FIELDS, "Created-By: Packages"]
    listed = run(command, 60, env=os.environ) if shutil.which("apt-get") else ""
    return find_mirrors(listed.split(), dict(os.environ))


class Suite:
    """One suite's packages, known to an apt whose every file lies in a folder of ours."""

    def __init__(self, name: str, mirrors: Mirrors, folder: Path) -> None:
        self.name = name
        self.lines = mirrors.lines(name)
        self._folder = folder / name
        self._env = {**os.environ, "APT_CONFIG": str(self._folder / "apt.conf"), "LC_ALL": "C"}
        self._fresh = False

    def _update(self) -> None:
        if self._fresh:
            return
        for name in ("lists/partial", "archives/partial", "etc/preferences.d", "etc/apt.conf.d"):
            (self._folder / name).mkdir(parents=True, exist_ok=True)
        (self._folder / "status").touch()
        (self._folder / "etc/sources.list").write_text("\n".join(self.lines) + "\n")
        (self._folder / "apt.conf").write_text(
            f'Dir::Etc "{self._folder}/etc";\n'
            f'Dir::State "{self._folder}";\n'
            f'Dir::State::lists "{self._folder}/lists";\n'
            f'Dir::State::status "{self._folder}/status";\n'
            f'Dir::Cache "{self._folder}";\n'
            'Acquire::Languages "none";\nAcquire::Retries "3";\nAPT::Sandbox::User "root";\n'
        )
        run(["apt-get", "--quiet", "update"], FETCH_SECONDS, env=self._env)
        self._fresh = True

    def newest_kernel(self) -> str:
        """Name the package of the stock kernel, the one that `linux-image-amd64` stands for."""
        self._update()
        shown = run(["apt-cache", "show", "linux-image-amd64"], 60, env=self._env)
        return stock_kernel(shown)

    def download(self, package: str, folder: Path) -> Path:
        """Fetch a package unless it is there, and return its file."""
        self._update()
        folder.mkdir(parents=True, exist_ok=True)
        if not (found := sorted(folder.glob(f"{package}_*.deb"))):
            fetch = 'cd "$0" && exec apt-get --quiet download "$1"'
            command = ["sh", "-c", fetch, str(folder), package]
            run(command, FETCH_SECONDS, env=self._env)
            found = sorted(folder.glob(f"{package}_*.deb"))
        return found[-1]


def stock_kernel(shown: str) -> str:
    """Return the kernel that `apt-cache show linux-image-amd64` says is meant, the newest first.

    Raises:
        TrialError: the suite has none.

    """
    names: list[str] = re.findall(
        r"^Depends:.*?\b(linux-image-[0-9][^ ,]*-amd64)\b", shown, re.MULTILINE
    )
    if not names:
        raise TrialError("this suite has no package linux-image-amd64")
    return max(names, key=version_of)


def version_of(package: str) -> tuple[int, ...]:
    """Return the numbers in a kernel package's name, for comparing."""
    return tuple(int(number) for number in re.findall(r"\d+", package.removesuffix("-amd64")))
