"""What the demo's web servers serve: files named after the hash of their content."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

FILES = 4
FILE_BYTES = 256 * 1024
SEED = 20


def write_files(folder: Path) -> list[str]:
    """Write the files and return their paths as a browser would ask for them."""
    source = random.Random(SEED)  # noqa: S311 (content, no secret)
    paths = []
    for _ in range(FILES):
        content = source.randbytes(FILE_BYTES)
        name = f"{hashlib.sha256(content).hexdigest()}.bin"
        (folder / name).write_bytes(content)
        paths.append(f"/files/{name}")
    return paths
