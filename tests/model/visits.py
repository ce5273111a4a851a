"""In which order a packet visits the servers of its bucket's chain."""

from __future__ import annotations

from tests.model.headers import PROTOCOL_TCP


def visiting_order(chain: tuple[int, ...], protocol: int, *, stateless: bool) -> tuple[int, ...]:
    """DIP indices in the order of wire.md, section 3: first hop, then the hop list.

    ``chain`` is newest first and not empty; ``protocol`` is 6 or 17, of an ICMP error that of the
    packet it speaks of. ``stateless`` on a TCP service has no meaning.
    """
    if protocol == PROTOCOL_TCP:
        return chain
    if stateless:
        return chain[:1]
    return chain[::-1]
