"""Files for the web servers of the demo, each named after the hash of its content."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

FILES = 4
FILE_BYTES = 256 * 1024
SEED = 20


def write_files(folder: Path) -> list[str]:
    """Write the files and return their URL paths."""
    source = random.Random(SEED)  # noqa: S311 (content, no secret)
    paths = []
    for _ in range(FILES):
        content = source.randbytes(FILE_BYTES)
        name = f"{hashlib.sha256(content).hexdigest()}.bin"
        (folder / name).write_bytes(content)
        paths.append(f"/files/{name}")
    return paths
