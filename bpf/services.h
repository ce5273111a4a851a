/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * From address, protocol and port to a service: first the exact-match table, then
 * the row of a VIP's leaf (vips.h).  User space (lb/dataplane/lookup/exact.py and
 * rows.py) lays them out; no look-up takes longer with more services.
 */
#ifndef LB_SERVICES_H
#define LB_SERVICES_H

#include "bytes.h"

/* An entry as one word, 0 if there is none. */
#define LB_ENTRY_SERVICE(entry) ((entry) >> 32 & 0xffff)
#define LB_ENTRY_POOL(entry)	((entry) >> 48 & 0xff)
#define LB_ENTRY_FLAGS(entry)	((entry) >> 56)

_Static_assert(__builtin_offsetof(struct lb_service, service) * 8 == 32, "LB_ENTRY_SERVICE");
_Static_assert(__builtin_offsetof(struct lb_service, pool) * 8 == 48, "LB_ENTRY_POOL");
_Static_assert(__builtin_offsetof(struct lb_service, flags) * 8 == 56, "LB_ENTRY_FLAGS");

#define LB_EXACT4_SPORT 0xffff00000000ULL
#define LB_EXACT6_SPORT 0xffffULL

LB_INLINE __u64 lb_service_match(__u64 kind, __u64 dport, __u64 protocol)
{
	return dport | protocol << 16 | kind << 24;
}

/*
 * The exact-match table; 0: not in this table, look for the VIP's leaf.
 * to: destination address and both ports, ports: both, each as one word from the packet.
 */
LB_INLINE __u64 lb_find_exact4(const struct lb_exact *exact, __u64 view, __u64 to, __u64 protocol)
{
	__u64 match = (to & ~LB_EXACT4_SPORT) | protocol << 32;
	const struct lb_exact4 *at = exact->row4[LB_ROW(view, match, LB_EXACT4_BITS)].entry;

#pragma unroll
	for (int i = 0; i < LB_EXACT4_WIDTH; i++, at++) {
		if (lb_likely(at->match == match))
			return lb_load64(&at->entry);
		if (!at->match)
			break;
	}
	return 0;
}

LB_INLINE __u64 lb_find_exact6(const struct lb_exact *exact, __u64 view, __u64 head, __u64 tail,
			       __u64 ports, __u64 protocol)
{
	__u64 match = (ports & ~LB_EXACT6_SPORT) | protocol;
	__u64 word = LB_ADDR6_WORD(head, tail) + match;
	const struct lb_exact6 *at = exact->row6[LB_ROW(view, word, LB_EXACT6_BITS)].entry;

	LB_KEEP(at);
#pragma unroll
	for (int i = 0; i < LB_EXACT6_WIDTH; i++, at++)
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

/* The overflow row that `match` is in; `entry` is the LB_KIND_OVERFLOW entry. */
LB_INLINE __u64 lb_overflow_row(__u64 entry, __u64 match)
{
	return LB_ENTRY_SERVICE(entry) +
	       LB_OVERFLOW_ROW(match, entry & LB_OVERFLOW_MULTIPLIER, LB_ENTRY_FLAGS(entry) & 31);
}

/* What a leaf serves on a port as it lies in a frame; rows: those of the view in use. */
LB_INLINE __u64 lb_service_of(const struct lb_service_row *rows, __u64 leaf, __u64 dport,
			      __u64 protocol)
{
	__u64 match = lb_service_match(LB_KIND_PORT, dport, protocol), at = leaf, entry;

	if (leaf & LB_TRIE_OVERFLOW)
		at = lb_overflow_row(lb_load64(&rows[leaf & LB_TRIE_ROW_MASK].entry[0]), match);
	entry = lb_find_in_row(&rows[at & LB_TRIE_ROW_MASK], match);
	if (lb_likely(entry))
		return entry;
	return lb_find_in_row(&rows[leaf & LB_TRIE_ROW_MASK],
			      lb_service_match(LB_KIND_ANY, 0, protocol));
}

#endif
