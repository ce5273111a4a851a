/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Is an address a VIP?  First the VIP filter, then a trie (IPv4) or a table without
 * collisions (IPv6).  User space (lb/dataplane/lookup/vip_filter.py and vips.py) lays
 * them out; no look-up takes longer with more VIPs.
 */
#ifndef LB_VIPS_H
#define LB_VIPS_H

#include "bytes.h"

/* ---- the filter ---- */

/*
 * It rejects most packets that are not for a VIP, also those to addresses beside the
 * VIPs, for a fraction of the cost of a look-up.  False: not a VIP.  True: may be one.
 */
LB_INLINE int lb_vip_filter_marks(const struct lb_vip_filter *filter, __u64 view, __u64 word)
{
	return filter->marked[LB_ROW(view, word, LB_VIP_FILTER_BITS)];
}

LB_INLINE int lb_vip_filter_passes4(const struct lb_vip_filter *filter, __u64 view, __u64 addr)
{
	return lb_likely(lb_vip_filter_marks(filter, view, addr)) ||
	       lb_vip_filter_marks(filter, view, addr & filter->block4);
}

LB_INLINE int lb_vip_filter_passes6(const struct lb_vip_filter *filter, __u64 view, __u64 head,
				    __u64 tail)
{
	return lb_likely(lb_vip_filter_marks(filter, view, LB_ADDR6_WORD(head, tail))) ||
	       lb_vip_filter_marks(filter, view, LB_ADDR6_WORD(head & filter->block6, 0));
}

/* ---- an address's leaf (LB_TRIE_LEAF and the number of its row), 0 if it is not a VIP ---- */

/*
 * Always three steps: node 0 is empty and leads to itself, so that no step has to
 * check whether there is another.
 */
LB_INLINE __u64 lb_leaf4(const struct lb_vips *vips, __u64 addr)
{
	__u64 at = vips->top[addr & (LB_TRIE_TOP - 1)];

	at = vips->node[at & (LB_TRIE_NODES - 1)].next[addr >> 16 & 0xff];
	return vips->node[at & (LB_TRIE_NODES - 1)].next[addr >> 24 & 0xff];
}

/* One prefix length. */
LB_INLINE __u64 lb_leaf6_of(const struct lb_vips *vips, __u64 view,
			    const struct lb_vip6_length *length, __u64 head, __u64 tail)
{
	const struct lb_vip6 *vip;
	__u64 word, hash;

	head &= length->mask[0];
	tail &= length->mask[1];
	word = LB_VIP6_WORD(head, tail, length->length);
	hash = LB_VIP6_HASH(view, word);
	vip = &vips->vip6[LB_VIP6_SLOT(hash, vips->seed6[LB_VIP6_SEED_ROW(hash)])];
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

#endif
