"""A model of the data plane, in plain Python, written from docs/wire.md alone.

It is the independent half of every data-path test: the C and the model read the same page, and
where they differ one of them has misread it. So it imports nothing of the project and knows no
BPF; it is slow and literal. What a server knows is a ``Config``, what its sockets say is a
``SocketOracle``, what it remembers between packets is a ``Memory``, the only thing that changes.

One packet through one program::

    config = Config(
        self_dip=IPv4Address("10.0.0.1"),
        mac=bytes.fromhex("020000000001"),
        services=(Service(IPv4Network("192.0.2.10/32"), protocol=6, port=80, pool="web"),),
        pools={"web": Pool(key, buckets=65536, chains={42598: (2, 3)}, depth=2)},
        dips={2: Dip(IPv4Address("10.0.0.2"), mac), 3: Dip(IPv4Address("10.0.0.3"))},
        known=frozenset(map(IPv4Address, ("10.0.0.1", "10.0.0.2", "10.0.0.3"))),
    )
    result = forward(frame, config)
    result.verdict, result.counter, result.frame, result.service
    # ("tx", "tx_forward_chain", b"...", 0)

    result = redirect(frame, config, SameSocket(SocketState.KNOWN))

Several, of which some are fragments or too big::

    memory = Memory(answers_left=64)
    results = [forward(frame, config, memory) for frame in frames]

One packet through a fleet, each server with its own configuration, old or new::

    path = trace(frame, at=router_choice, servers={dip: Server(config, sockets), ...})
    path.outcome, path.last_server, path.counters

``Result`` says what the verdicts mean, ``tests.model.frames`` builds frames, right and wrong ones,
``tests.model.counters`` has all names. Words in the code marked AMBIGUOUS are places where the page
can be read in two ways.
"""

from __future__ import annotations

from tests.model.addresses import Address, Vip, host
from tests.model.config import Config, Dip, ForwarderConfig, Pool, RedirectorConfig, Service
from tests.model.counters import FORWARDER_COUNTERS, KERNEL_COUNTERS, REDIRECTOR_COUNTERS
from tests.model.encap import room
from tests.model.flow import Flow, bucket_of, outer_source_port
from tests.model.forwarder import forward
from tests.model.memory import FragmentKey, Memory, Remembered, UpperLayer
from tests.model.redirector import redirect
from tests.model.result import Result, Verdict
from tests.model.siphash import siphash, siphash_1_3
from tests.model.sockets import (
    SameSocket,
    SocketOracle,
    SocketState,
    SocketTable,
    numbers_fit,
)
from tests.model.stack import Outcome
from tests.model.trace import Path, Server, Step, trace

__all__ = [
    "FORWARDER_COUNTERS",
    "KERNEL_COUNTERS",
    "REDIRECTOR_COUNTERS",
    "Address",
    "Config",
    "Dip",
    "Flow",
    "ForwarderConfig",
    "FragmentKey",
    "Memory",
    "Outcome",
    "Path",
    "Pool",
    "RedirectorConfig",
    "Remembered",
    "Result",
    "SameSocket",
    "Server",
    "Service",
    "SocketOracle",
    "SocketState",
    "SocketTable",
    "Step",
    "UpperLayer",
    "Verdict",
    "Vip",
    "bucket_of",
    "forward",
    "host",
    "numbers_fit",
    "outer_source_port",
    "redirect",
    "room",
    "siphash",
    "siphash_1_3",
    "trace",
]
