"""The demo's machines with the default settings of pools."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lb.demo import scenario
from lb.demo.site.site import Site
from netns.brigade import brigade
from netns.network import Network
from tests.netns import sites

DEMO_ONLY = f"drain_time_seconds = {scenario.DRAIN_TIME_SECONDS}\n"
"""The demo forgets later hops after so short a time; on a busy machine a test may last longer."""


class DefaultsSite(Site):
    """Its pools `web` and `work` have what the settings leave out, `plain` is unchained."""

    def write_settings(self) -> None:
        """Write the controller's settings."""
        super().write_settings()
        text = self.control_file.read_text(encoding="utf-8")
        assert DEMO_ONLY in text
        self.control_file.write_text(text.replace(DEMO_ONLY, ""), encoding="utf-8")


@pytest.fixture(scope="module")
def running_site() -> Iterator[Site]:
    """Four servers that share equally."""
    with Network(brigade(servers=len(scenario.FIRST_SERVERS) + 1)) as network:
        made = DefaultsSite(network)
        try:
            sites.start(made)
            yield made
        finally:
            made.store.close()
