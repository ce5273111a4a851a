/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The look-up tables: VIPs, their services, known DIPs with probers.  No look-up
 * depends on how many there are; user space (lb/dataplane) lays all of them out.
 */
#ifndef LB_SERVICES_H
#define LB_SERVICES_H

#include "bytes.h"

#define LB_HASH_A 0x9e3779b97f4a7c15ULL
#define LB_HASH_B 0xc2b2ae3d27d4eb4fULL
#define LB_HASH_C 0x85ebca6bULL

/* Multiply-shift hashing (Dietzfelbinger et al., 1997): the top bits of x times an odd number. */
LB_INLINE __u64 lb_known_row(__u64 view, __u64 addr)
{
	return addr * (view | 1) >> (64 - LB_KNOWN_BITS);
}

/* ---- what cannot be a VIP ---- */

/*
 * Each VIP of one address has a byte, and so has each block that prefixes lie in
 * (the mask of a family's shortest prefix).  What else a server gets, also from
 * beside the VIPs, is told apart by two of them, for a fraction of what it costs
 * to look a VIP up.  No: it is none.  Yes: it may be one.
 */
LB_INLINE int lb_may_be(const struct lb_front *front, __u64 view, __u64 word)
{
	return front->may[word * (view | 1) >> (64 - LB_MAY_BITS)];
}

LB_INLINE int lb_may_be_vip4(const struct lb_front *front, __u64 view, __u64 addr)
{
	return lb_likely(lb_may_be(front, view, addr)) ||
	       lb_may_be(front, view, addr & front->block4);
}

LB_INLINE int lb_may_be_vip6(const struct lb_front *front, __u64 view, __u64 head, __u64 tail)
{
	return lb_likely(lb_may_be(front, view, head * LB_HASH_A + tail)) ||
	       lb_may_be(front, view, (head & front->block6) * LB_HASH_A);
}

/* ---- VIPs: an address's leaf (LB_TRIE_LEAF and the number of its row), 0 if it is no VIP ---- */

/*
 * Always three steps: node 0 is empty and leads to itself, so that no step has
 * to ask whether there is another.
 */
LB_INLINE __u64 lb_leaf4(const struct lb_vips *vips, __u64 addr)
{
	__u64 at = vips->top[addr & 0xffff];

	at = vips->node[at & (LB_TRIE_NODES - 1)].next[addr >> 16 & 0xff];
	return vips->node[at & (LB_TRIE_NODES - 1)].next[addr >> 24 & 0xff];
}

LB_INLINE __u64 lb_vip6_hash(__u64 view, __u64 head, __u64 tail, __u64 length)
{
	__u64 x = head * LB_HASH_A + tail * LB_HASH_B + length;

	x ^= x >> 32;
	return x * (view | 1);
}

LB_INLINE __u64 lb_vip6_slot(__u64 hash, __u64 seed)
{
	return ((hash ^ seed) & 0xffffffff) * LB_HASH_C >> (32 - LB_VIP6_BITS) &
	       (LB_VIP6_SLOTS - 1);
}

/* One prefix length. */
LB_INLINE __u64 lb_leaf6_of(const struct lb_vips *vips, __u64 view,
			    const struct lb_vip6_length *length, __u64 head, __u64 tail)
{
	const struct lb_vip6 *vip;
	__u64 hash;

	head &= length->mask[0];
	tail &= length->mask[1];
	hash = lb_vip6_hash(view, head, tail, length->length);
	vip = &vips->vip6[lb_vip6_slot(hash, vips->seed6[hash >> (64 - LB_VIP6_SEED_BITS)])];
	if (vip->addr[0] != head || vip->addr[1] != tail || vip->length != length->length)
		return 0;
	return vip->leaf;
}

/* head, tail: an address as two words from the packet. */
LB_INLINE __u64 lb_leaf6(const struct lb_vips *vips, __u64 view, __u64 head, __u64 tail)
{
	__u64 leaf;

#pragma nounroll
	for (__u64 i = 0; i < LB_VIP6_LENGTHS; i++) {
		if (!vips->length6[i].length)
			return 0;
		leaf = lb_leaf6_of(vips, view, &vips->length6[i], head, tail);
		if (leaf)
			return leaf;
	}
	return 0;
}

LB_INLINE int lb_is_vip4(const struct lb_state *state, __u64 addr)
{
	return lb_leaf4(&state->vips[state->config.view & 1], addr) != 0;
}

LB_INLINE int lb_is_vip6(const struct lb_state *state, __u64 head, __u64 tail)
{
	__u64 view = state->config.view;

	return lb_leaf6(&state->vips[view & 1], view, head, tail) != 0;
}

/* ---- services: an entry as one word, 0 if there is none ---- */

#define LB_ENTRY_SERVICE(entry) ((entry) >> 32 & 0xffff)
#define LB_ENTRY_POOL(entry)	((entry) >> 48 & 0xff)
#define LB_ENTRY_FLAGS(entry)	((entry) >> 56)

#define LB_FRONT4_SPORT 0xffff00000000ULL
#define LB_FRONT6_SPORT 0xffffULL

LB_INLINE __u64 lb_service_match(__u64 kind, __u64 dport, __u64 protocol)
{
	return dport | protocol << 16 | kind << 24;
}

/*
 * The front: 0 if the service is not there, which says nothing.
 * to: destination address and both ports, ports: both, each as one word from the packet.
 */
LB_INLINE __u64 lb_front4(const struct lb_front *front, __u64 view, __u64 to, __u64 protocol)
{
	__u64 match = (to & ~LB_FRONT4_SPORT) | protocol << 32;
	const struct lb_front4 *at = front->row4[match * (view | 1) >> (64 - LB_FRONT4_BITS)].entry;

#pragma unroll
	for (int i = 0; i < LB_FRONT4_WIDTH; i++, at++) {
		if (lb_likely(at->match == match))
			return lb_load64(&at->entry);
		if (!at->match)
			break;
	}
	return 0;
}

LB_INLINE __u64 lb_front6(const struct lb_front *front, __u64 view, __u64 head, __u64 tail,
			  __u64 ports, __u64 protocol)
{
	__u64 match = (ports & ~LB_FRONT6_SPORT) | protocol;
	__u64 hash = (head * LB_HASH_A + tail + match) * (view | 1);
	const struct lb_front6 *at = front->row6[hash >> (64 - LB_FRONT6_BITS)].entry;

	LB_KEEP(at);
#pragma unroll
	for (int i = 0; i < LB_FRONT6_WIDTH; i++, at++)
		if (lb_likely(at->addr[1] == tail && at->addr[0] == head && at->match == match))
			return lb_load64(&at->entry);
	return 0;
}

LB_INLINE __u64 lb_find_in_row(const struct lb_service_row *row, __u64 match)
{
#pragma unroll
	for (int i = 0; i < LB_SERVICE_WIDTH; i++)
		if (row->entry[i].match == match)
			return lb_load64(&row->entry[i]);
	return 0;
}

/* The row that `match` is in if it is one of many: `entry` leads there. */
LB_INLINE __u64 lb_more_row(__u64 entry, __u64 match)
{
	__u64 product = match * (entry & LB_MORE_MULTIPLIER) & 0xffffffff;

	return LB_ENTRY_SERVICE(entry) + (product >> (LB_ENTRY_FLAGS(entry) & 31));
}

/* What a leaf serves on a port as it lies in a frame; rows: those of the view in use. */
LB_INLINE __u64 lb_service_of(const struct lb_service_row *rows, __u64 leaf, __u64 dport,
			      __u64 protocol)
{
	__u64 match = lb_service_match(LB_KIND_PORT, dport, protocol), at = leaf, entry;

	if (leaf & LB_TRIE_MORE)
		at = lb_more_row(lb_load64(&rows[leaf & LB_TRIE_ROW_MASK].entry[0]), match);
	entry = lb_find_in_row(&rows[at & LB_TRIE_ROW_MASK], match);
	if (lb_likely(entry))
		return entry;
	return lb_find_in_row(&rows[leaf & LB_TRIE_ROW_MASK],
			      lb_service_match(LB_KIND_ANY, 0, protocol));
}

/* ---- known addresses ---- */

/* The flags of a known address (LB_KNOWN_DIP, LB_KNOWN_PROBER) and, above them, its index; 0: unknown. */
LB_INLINE __u64 lb_known_word(const struct lb_state *state, __u64 addr)
{
	__u64 view = state->config.view;
	const struct lb_known *entry = state->known[view & 1][lb_known_row(view, addr)].entry;

	if (!addr)
		return 0;
#pragma unroll
	for (int i = 0; i < LB_KNOWN_WIDTH; i++, entry++) {
		if (entry->addr == addr)
			return entry->flags | (__u64)entry->dip << 16;
		if (!entry->addr)
			break;
	}
	return 0;
}

#endif
