"""From a packet that has a service to its verdict: lines F14 to F22 of wire.md."""

from __future__ import annotations

from tests.model.arrival import Arrival, Found
from tests.model.config import Config, Dip
from tests.model.encap import wrap, wrap_length
from tests.model.flow import bucket_of, outer_source_port
from tests.model.link import header_to_self, header_towards
from tests.model.memory import FragmentKey, Memory, UpperLayer
from tests.model.result import Result
from tests.model.too_big import can_be_told, too_big
from tests.model.visits import visiting_order

_MOST_OUTER_LENGTH = 0xFFFF


def serve(arrival: Arrival, found: Found, config: Config, memory: Memory) -> Result:
    """Lines F14 to F22, for a packet that its service counts from here on.

    AMBIGUOUS in wire.md: whether a first fragment that one of the lines after F14 drops is
    remembered all the same. "One that passes F14 is remembered": it is.
    """

    def drop(counter: str) -> Result:
        return Result("drop", counter, None, found.service)

    packet = arrival.packet
    if not found.read <= packet.length <= len(arrival.data):  # F14
        return drop("drop_malformed")
    if packet.is_first_fragment:
        _remember(arrival, found, memory)
    service = config.services[found.service]
    pool = config.pools.get(service.pool)
    if pool is None:  # F15
        return drop("drop_no_table")
    flow_hash = found.flow.hash(pool.key, by_client=pool.by_client)
    chain = pool.chain(bucket_of(flow_hash, pool.buckets))
    if not chain:  # F16
        return drop("drop_no_bucket")
    order = visiting_order(chain, found.flow.protocol, stateless=service.stateless)
    if any(visit not in config.dips for visit in order):  # F17
        return drop("drop_no_dip")
    visits = tuple(config.dips[visit] for visit in order)
    to_self = visits[0].address == config.self_dip
    if to_self and len(visits) == 1:  # F18
        return Result("pass", "pass_local", arrival.frame, found.service)
    outer_length = packet.length + wrap_length(len(visits) - 1)
    if outer_length > _most_outer_length(arrival, found, config, to_self=to_self):  # F20
        return too_big(arrival, found, pool, config, memory)
    wrapped = _wrapped(arrival, visits, flow_hash, config)
    if to_self:  # F19
        header = header_to_self(arrival.frame, arrival.l3)
        return Result("pass", "pass_to_self", header + wrapped, found.service)
    counter = "tx_forward" if len(visits) == 1 else "tx_forward_chain"  # F21, F22
    header = header_towards(visits[0], arrival.frame, arrival.l3, config)
    return Result("tx", counter, header + wrapped, found.service)


def _remember(arrival: Arrival, found: Found, memory: Memory) -> None:
    """What section 4.4 wants to know when the later fragments come."""
    flow = found.flow
    upper = UpperLayer(flow.protocol, flow.source_port, flow.destination_port)
    memory.fragments.remember(FragmentKey.of(arrival.packet), upper)


def _wrapped(arrival: Arrival, visits: tuple[Dip, ...], flow_hash: int, config: Config) -> bytes:
    """The packet in its wrap, without a link-layer header."""
    addresses = tuple(dip.address for dip in visits)
    source_port = outer_source_port(flow_hash)
    outside = wrap(arrival.packet, config.self_dip, addresses, source_port, config.gue_port)
    return outside + arrival.data


def _most_outer_length(arrival: Arrival, found: Found, config: Config, *, to_self: bool) -> int:
    """The greatest outer total length that lines F19 to F22 let through.

    AMBIGUOUS in wire.md: an interface's MTU may be over 65,535 (as a loopback's is), and then F19
    and F20 let through what no IPv4 length field can say. The model takes 65,535 for the greatest
    MTU.
    """
    if to_self and not can_be_told(arrival, found):
        return _MOST_OUTER_LENGTH
    return min(config.mtu, _MOST_OUTER_LENGTH)
