"""What is tried: kernels with userlands. Data only."""

from __future__ import annotations

from dataclasses import dataclass

BULLSEYE, BOOKWORM, TRIXIE = "bullseye", "bookworm", "trixie"
VERSIONS = {BULLSEYE: "Debian 11", BOOKWORM: "Debian 12", TRIXIE: "Debian 13"}


@dataclass(frozen=True)
class Trial:
    """One combination.

    ``kernel`` is the suite that the kernel comes from, None for the one that runs here. ``root``
    is the release of everything else. ``bcc`` is the release that bcc and its LLVM come from where
    it is not that of ``root``. ``whole``: everything; else, the programs are loaded and attached by
    that release's own Python, which is too old for the rest.
    """

    name: str
    kernel: str | None
    root: str
    bcc: str | None = None
    whole: bool = True

    @property
    def userland(self) -> str:
        """Release and foreign bcc, for people."""
        borrowed = f" with {VERSIONS[self.bcc]}'s bcc" if self.bcc else ""
        return f"{VERSIONS[self.root]}{borrowed}"


TRIALS = (
    Trial("bcc-0.18", kernel=None, root=BOOKWORM, bcc=BULLSEYE),
    Trial("bcc-0.31", kernel=None, root=TRIXIE),
    Trial("debian12", kernel=BOOKWORM, root=BOOKWORM),
    Trial("debian12-kernel5.10", kernel=BULLSEYE, root=BOOKWORM),
    Trial("debian12-kernel6.12", kernel=f"{BOOKWORM}-backports", root=BOOKWORM),
    Trial("debian13", kernel=TRIXIE, root=TRIXIE),
    Trial("debian11", kernel=BULLSEYE, root=BULLSEYE, whole=False),
)
