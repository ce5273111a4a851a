"""The VIPs as the programs look them up: a trie for IPv4, a table without collisions for IPv6.

Pure; the counterpart of bpf/vips.h. A leaf leads to a row of services.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lb import abi
from lb.dataplane.errors import DataplaneError
from lb.dataplane.lookup.words import address_words

SEEDS_TRIED = 4096
TOP_BITS, NODE_BITS = 16, 24
Level = NDArray[np.uint16]


class Trie:
    """IPv4 prefixes, added from the shortest to the longest: each replaces what it covers.

    Every address takes three steps: by its first two bytes to a node, by its third to another, by
    its fourth to a leaf. Node 0 is empty and leads to itself.
    """

    def __init__(self) -> None:
        self._top: Level = np.zeros((256, 256), dtype="<u2")  # by first and second byte
        self.nodes: Level = np.zeros((abi.TRIE_NODES, 256), dtype="<u2")
        self.used = 1  # nodes that are taken
        self._shared = {0}

    @property
    def top(self) -> Level:
        """The first level, by the first two bytes as a little-endian word."""
        return self._top.T.reshape(-1)

    def _new(self, entries: Level | int) -> int:
        if self.used == abi.TRIE_NODES:
            raise DataplaneError(
                "the IPv4 VIPs lie in too many different networks: "
                "use VIPs that lie together, or prefixes"
            )
        number, self.used = self.used, self.used + 1
        self.nodes[number] = entries
        return number

    def _full(self, entry: int) -> int:
        """Return a node whose entries are all the same; several entries may lead to it."""
        number = self._new(entry)
        self._shared.add(number)
        return number

    def _own(self, level: Level, at: int) -> Level:
        """Return the node that an entry leads to; a shared one is copied first."""
        if int(level[at]) in self._shared:
            level[at] = self._new(self.nodes[int(level[at])])
        node: Level = self.nodes[int(level[at])]
        return node

    def add(self, vip: IPv4Network, leaf: int) -> None:
        """Add a prefix with its leaf.

        Raises:
            DataplaneError: all nodes are in use.

        """
        a, b, c, d = vip.network_address.packed
        top: Level = self._top.reshape(-1)
        if vip.prefixlen <= TOP_BITS:
            top[a << 8 | b :][: 1 << TOP_BITS - vip.prefixlen] = self._full(self._full(leaf))
            return
        node = self._own(top, a << 8 | b)
        if vip.prefixlen <= NODE_BITS:
            node[c:][: 1 << NODE_BITS - vip.prefixlen] = self._full(leaf)
            return
        self._own(node, c)[d:][: 1 << vip.max_prefixlen - vip.prefixlen] = leaf


def place6(
    hashes: Mapping[IPv6Network, int],
) -> tuple[dict[int, int], dict[int, IPv6Network]] | None:
    """Find seeds under which hashes (by prefix) do not collide; None: these hashes have none.

    Returns the seeds that are not 0, and the prefixes by slot. Hash and displace, by Belazzougui,
    Botelho and Dietzfelbinger, 2009: the fullest groups choose their seed first.
    """
    groups: dict[int, list[IPv6Network]] = {}
    for prefix, hashed in hashes.items():
        groups.setdefault(abi.vip6_seed_row(hashed), []).append(prefix)
    seeds: dict[int, int] = {}
    taken: dict[int, IPv6Network] = {}
    for number, group in sorted(groups.items(), key=lambda item: -len(item[1])):
        for seed in range(SEEDS_TRIED):
            slots = [abi.vip6_slot(hashes[prefix], seed) for prefix in group]
            if len(set(slots)) == len(slots) and taken.keys().isdisjoint(slots):
                break
        else:
            return None
        seeds[number] = seed
        taken.update(zip(slots, group, strict=True))
    return seeds, taken


def masks6(lengths: set[int]) -> NDArray[Any]:
    """`lb_vips.length6`: the lengths in use, the longest first, with their masks.

    Raises:
        DataplaneError: too many different ones.

    """
    if len(lengths) > abi.VIP6_LENGTHS:
        raise DataplaneError(
            f"IPv6 VIPs have {len(lengths)} different prefix lengths: at most {abi.VIP6_LENGTHS}"
        )
    table = np.zeros(abi.VIP6_LENGTHS, dtype=abi.VIP6_LENGTH)
    for number, length in enumerate(sorted(lengths, reverse=True)):
        packed = ((1 << length) - 1 << 128 - length).to_bytes(16, "big")
        table["mask"][number] = np.frombuffer(packed, dtype="<u8")
        table["length"][number] = length
    return table


def build_vips(
    leaves4: Mapping[IPv4Network, int], leaves6: Mapping[IPv6Network, int], view: int
) -> NDArray[Any] | None:
    """`struct lb_vips` for VIPs and their leaves; None if they collide under this view's hash.

    Raises:
        DataplaneError: too many networks or prefix lengths.

    """
    vips = np.zeros((), dtype=abi.VIPS)
    trie = Trie()
    for vip4 in sorted(leaves4, key=lambda vip: vip.prefixlen):
        trie.add(vip4, leaves4[vip4])
    vips["top"] = trie.top
    vips["node"]["next"] = trie.nodes
    vips["length6"] = masks6({vip.prefixlen for vip in leaves6})
    words = {vip: address_words(vip.network_address) for vip in leaves6}
    placed = place6({vip: abi.vip6_hash(view, *words[vip], vip.prefixlen) for vip in leaves6})
    if placed is None:
        return None
    seeds, slots = placed
    for number, seed in seeds.items():
        vips["seed6"][number] = seed
    for slot, vip in slots.items():
        vips["vip6"][slot] = (words[vip], vip.prefixlen, leaves6[vip], 0)
    return vips
