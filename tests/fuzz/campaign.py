"""Rounds: a random configuration, some thousand packets for each program, every answer compared.

A round is made from its seed and number alone, so it can be repeated without those before it.
"""

from __future__ import annotations

import random
import struct
import time
from collections import Counter
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from lb import abi
from lb.dataplane.load import bpf_syscall
from tests.dataplane.rig import EMPTY, Rig, entry
from tests.fuzz import forwarder_frames
from tests.fuzz.damage import l3_of
from tests.fuzz.judge import (
    Difference,
    ForwarderJudge,
    Judge,
    RedirectorJudge,
    first_difference,
    shortest,
)
from tests.fuzz.kernel import PerCpuArray, Program, clear_map, map_write
from tests.fuzz.redirector_frames import Tunnels
from tests.fuzz.scene import FILLERS, Scene, random_config
from tests.fuzz.sockets import RealServer, ServerSockets, opening_key
from tests.fuzz.traffic import Traffic
from tests.model import Config, Memory, Result

FORWARDER, REDIRECTOR = "forwarder", "redirector"
PACKETS_A_ROUND = 4000
"""Of both programs together, about."""
SOCKETS_LAST_SECONDS = 30
"""Half of what TIME-WAIT, half-open connections and SYN cookies live for."""
LEAST = {FORWARDER: 14, REDIRECTOR: 34}
MAP_TYPE_LRU_HASH = 9
Place = tuple[str, int, int, int]
"""A program, a seed, a round, and how many packets that has."""
CHAINED = {"tx_forward_chain", "pass_to_self", "pass_on"}
HOP_COUNT_AT = 35
"""From the outer IP header on."""


@dataclass
class Findings:
    """The findings of all rounds so far."""

    reach: dict[str, Counter[str]] = field(
        default_factory=lambda: {FORWARDER: Counter(), REDIRECTOR: Counter()}
    )
    hops: Counter[int] = field(default_factory=Counter)
    differences: list[Difference] = field(default_factory=list)

    def add(self, other: Findings) -> None:
        """Take in those of other rounds."""
        for program, counts in other.reach.items():
            self.reach[program] += counts
        self.hops += other.hops
        self.differences += other.differences

    @property
    def packets(self) -> int:
        """All that were fed: those on which both agreed, and the others."""
        agreed = sum(sum(counts.values()) for counts in self.reach.values())
        return agreed + len(self.differences)


class Fuzzer:
    """Both programs, loaded once, and real sockets; its thread lives in their namespace."""

    def __init__(self, seed: int, only: str = "") -> None:
        self.seed = seed
        self._only = only
        self.rig = Rig()
        self._filled: tuple[int, ...] = ()
        self._server: RealServer | None = None
        self._server_since = 0.0

    def close(self) -> None:
        """Close programs and sockets."""
        if self._server is not None:
            self._server.__exit__()
        self.rig.close()

    def sockets(self) -> RealServer:
        """The sockets; new ones when those there are get old."""
        if self._server is not None:
            if time.monotonic() - self._server_since < SOCKETS_LAST_SECONDS:
                return self._server
            self._server.__exit__()
            self._server = None
        self._server = RealServer().__enter__()
        self._server_since = time.monotonic()
        return self._server

    def round(self, number: int, packets: int = PACKETS_A_ROUND) -> Findings:
        """Run one round; it ends at the first difference of each program."""
        rng = random.Random(f"{self.seed}/{number}")
        config = random_config(rng)
        self._fill_tables(rng.choice(FILLERS))
        self.rig.configure(config)
        self._forget_fragments()
        server = self.sockets()
        traffic = Traffic.of(rng, Scene(config))
        findings = Findings()
        forwarded = forwarder_frames.frames(traffic, packets // 2)
        redirected = Tunnels(traffic, server.table.aimed()).frames(packets // 2)
        forwarder, redirector = self._programs(rng, config)
        judges: tuple[tuple[str, Judge, list[bytes]], ...] = (
            (FORWARDER, ForwarderJudge(forwarder, config, self._places(config)), forwarded),
            (REDIRECTOR, self._redirector_judge(redirector, config, server), redirected),
        )
        for program, judge, frames in judges:
            if self._only in {"", program}:
                place = (program, self.seed, number, packets)
                self._feed(findings, place, judge, frames)
        return findings

    def _fill_tables(self, sizes: tuple[int, ...]) -> None:
        """Give unused pools so many inner tables each, in front of all others."""
        if sizes == self._filled:
            return
        self.rig.configure(EMPTY)
        for number in range(len(self._filled)):
            self.rig.dataplane.remove_table(f"filler-{number}")
        for number, size in enumerate(sizes):
            unused = np.zeros((size * abi.INNER_SLOTS, abi.MAX_DEPTH), dtype=np.uint16)
            self.rig.dataplane.set_table(f"filler-{number}", unused, bytes(16))
        self._filled = sizes

    def _programs(self, rng: random.Random, config: Config) -> tuple[Program, Program]:
        dataplane = self.rig.dataplane
        # the program that is attached, and the one that programs before it may call
        forwarder = rng.choice((dataplane.forwarder_fd, dataplane._loaded.programs["lb_forwarder"]))
        counters = PerCpuArray(dataplane.map_fd("lb_counters"), len(abi.COUNTERS), 1)
        services = max(self._places(config)) + 1
        stats = PerCpuArray(dataplane.map_fd("lb_service_stats"), services, 2)
        return (
            Program(forwarder, abi.COUNTERS, counters, stats),
            Program(dataplane.redirector_fd, abi.COUNTERS, counters, stats),
        )

    def _places(self, config: Config) -> dict[int, int]:
        """Where in the configuration the service with an index of the kernel's is."""
        index_of = self.rig.dataplane._cluster.index_of
        return {index_of(entry(config, place)): place for place in range(len(config.services))}

    def _redirector_judge(
        self, program: Program, config: Config, server: RealServer
    ) -> RedirectorJudge:
        return RedirectorJudge(
            program, config, server.table, forget=partial(self._begin_anew, server.table)
        )

    def _begin_anew(self, sockets: ServerSockets) -> None:
        clear_map(self.rig.dataplane.map_fd("lb_fresh"))
        openings = self.rig.dataplane.map_fd("lb_openings")
        clear_map(openings)
        for flow, sequence in sockets.openings.items():
            opening = struct.pack("=QII", time.monotonic_ns(), sequence, 0)
            map_write(openings, opening_key(flow), opening)

    def _forget_fragments(self) -> None:
        for fd in self.rig.dataplane._loaded.maps.values():
            if bpf_syscall.map_info(fd).map_type == MAP_TYPE_LRU_HASH:
                clear_map(fd)

    def _feed(self, findings: Findings, place: Place, judge: Judge, frames: list[bytes]) -> None:
        agreed: list[Result] = []
        answers = first_difference(judge, frames, agreed)
        program = place[0]
        findings.reach[program].update(result.counter for result in agreed)
        findings.hops.update(hop_count(result) for result in agreed)
        if answers is None:
            return
        at = len(agreed)
        self._forget_fragments()
        judge.memory = Memory()
        frame = shortest(judge, frames[at], LEAST[program])
        findings.differences.append(Difference(*place, at, frame, *answers))


def hop_count(result: Result) -> int:
    """The length of the hop list in a frame that was encapsulated or passed on; 0 for others."""
    if result.counter not in CHAINED or result.frame is None:
        return 0
    return result.frame[l3_of(result.frame) + HOP_COUNT_AT]
