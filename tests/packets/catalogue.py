"""All rows."""

from __future__ import annotations

from tests.packets import (
    forwarder,
    forwarder_icmp,
    fragments,
    fresh,
    openings,
    other_host,
    path_probe,
    redirector,
    redirector_inner,
    services,
    too_big,
)

FORWARDER_ROWS = (
    *(*forwarder.ROWS, *forwarder_icmp.ROWS, *services.ROWS),
    *(*fragments.FORWARDER_ROWS, *too_big.ROWS, *other_host.ROWS),
)
REDIRECTOR_ROWS = (
    *(*redirector.ROWS, *redirector_inner.ROWS, *path_probe.ROWS),
    *(*fragments.REDIRECTOR_ROWS, *fresh.ROWS, *openings.ROWS),
)
ROWS = (*FORWARDER_ROWS, *REDIRECTOR_ROWS)
