"""What an operator types at a site, with the exit code and the text that come back."""

from __future__ import annotations

import json
import re
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from lb.demo.site.site import Site, lbctl

MOST_SECONDS = 60.0
METRICS = "http://127.0.0.1:9108/metrics"


@dataclass(frozen=True)
class Answer:
    """How a command ended, and what it printed: results, and errors."""

    code: int
    out: str
    err: str

    def json(self) -> dict[str, Any]:
        """Return the object that it printed."""
        found: dict[str, Any] = json.loads(self.out)
        return found


def ask(site: Site, *words: str) -> Answer:
    """Run `lbctl` on the controller's machine, whatever its exit code."""
    command = [lbctl(), *words, "--config", str(site.control_file)]
    done = site.controller.run(command, MOST_SECONDS, check=False)
    return Answer(done.returncode, done.stdout, done.stderr)


def ask_at_once(site: Site, *commands: tuple[str, ...]) -> list[Answer]:
    """Run several `lbctl` at the same moment."""
    with ThreadPoolExecutor(len(commands)) as pool:
        return list(pool.map(lambda words: ask(site, *words), commands))


def metric(site: Site, name: str) -> float:
    """Return the sum of the samples of one of the controller's metrics."""

    def read() -> str:
        with urllib.request.urlopen(METRICS, timeout=5) as page:
            return bytes(page.read()).decode()

    pattern = rf"^bucket_brigade_controller_{name}(?:\{{[^}}]*\}})? (\S+)$"
    text = site.controller.call(read)
    return sum(float(value) for value in re.findall(pattern, text, re.MULTILINE))
