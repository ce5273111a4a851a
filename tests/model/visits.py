"""In which order a packet visits the servers of its bucket's chain."""

from __future__ import annotations

from tests.model.headers import PROTOCOL_TCP


def visiting_order(chain: tuple[int, ...], protocol: int, *, stateless: bool) -> tuple[int, ...]:
    """DIP indices in the order of wire.md, section 3: first hop, then the hop list.

    ``chain`` is newest first and not empty. AMBIGUOUS in wire.md: only UDP services are said
    to be ``stateless``; a TCP service that claims it is treated like any other.
    """
    if protocol == PROTOCOL_TCP:
        return chain
    if stateless:
        return chain[:1]
    return chain[::-1]
