/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The outer headers of a GUE packet that arrives (docs/wire.md, section 6, R1
 * to R3 and the hop list).
 */
#ifndef LB_GUE_H
#define LB_GUE_H

#include "parse.h"

#define LB_AT_UDP_LEN	   38
#define LB_AT_UDP_CHECKSUM 40
#define LB_AT_GUE	   42
#define LB_AT_NEXT_HOP	   48
#define LB_AT_HOPS	   50
#define LB_NOT_GUE_LEN	   42 /* a shorter frame cannot be for the GUE port */

struct lb_tunnel {
	__u64 total_len; /* outer */
	__u64 saddr;
	__u64 tos;
	__u64 proto;
	__u64 forward_syn;
	__u64 next_hop;
	__u64 hop_count;
};

/* Cheapest test first: what most packets of a server fail. */
LB_INLINE int lb_is_gue(const void *frame, const struct lb_config *config)
{
	return lb_load8(frame + LB_AT_PROTOCOL) == LB_PROTO_UDP &&
	       lb_load16(frame + LB_AT_DPORT) == config->gue_port &&
	       lb_load32(frame + LB_AT_DADDR) == config->dip &&
	       (lb_load32(frame + LB_AT_ETHERTYPE) & 0xffffff) == (LB_ETH_IPV4 | 0x45 << 16) &&
	       !(lb_load16(frame + LB_AT_FRAGMENT) & LB_FRAGMENT_MASK);
}

LB_INLINE int lb_gue_header_ok(const struct lb_gue *gue, __u64 total_len)
{
	__u64 hops = gue->hop_count;

	/* variant and C share a byte with hlen */
	return gue->hlen == 1 + hops && hops <= LB_MAX_HOPS && !gue->flags &&
	       !(gue->private_flags & ~LB_GUE_FORWARD_SYN) && !gue->reserved &&
	       gue->next_hop <= hops && LB_WRAP_LEN + hops * LB_HOP_LEN <= total_len &&
	       (gue->proto == LB_PROTO_IPV4 || gue->proto == LB_PROTO_IPV6);
}

/* R2 and R3: false for a malformed packet. */
LB_INLINE int lb_read_tunnel(const void *frame, const void *end, __u64 frame_len,
			     struct lb_tunnel *tunnel)
{
	__u64 total = lb_swap16(lb_load16(frame + LB_AT_TOTAL_LEN));
	const struct lb_gue *gue = frame + LB_AT_GUE;

	if (total < LB_WRAP_LEN || total + LB_ETH_LEN > frame_len)
		return 0;
	if (frame + LB_ETH_LEN + LB_WRAP_LEN > end)
		return 0;
	if (lb_swap16(lb_load16(frame + LB_AT_UDP_LEN)) != total - LB_IPV4_LEN)
		return 0;
	if (lb_load16(frame + LB_AT_UDP_CHECKSUM) || !lb_gue_header_ok(gue, total))
		return 0;
	tunnel->total_len = total;
	tunnel->saddr = lb_load32(frame + LB_AT_SADDR);
	tunnel->tos = lb_load8(frame + LB_AT_TOS);
	tunnel->proto = gue->proto;
	tunnel->forward_syn = gue->private_flags & LB_GUE_FORWARD_SYN;
	tunnel->next_hop = gue->next_hop;
	/* a mask for the verifier: lb_gue_header_ok() has seen to it */
	tunnel->hop_count = gue->hop_count & LB_MAX_HOPS;
	return 1;
}

/* Hop `i` of the list, 0 if it is not one that lies ahead. */
LB_INLINE __u64 lb_hop_ahead(const void *frame, const void *end, const struct lb_tunnel *tunnel,
			     __u64 i)
{
	const void *hop = frame + LB_AT_HOPS + i * LB_HOP_LEN;

	if (i < tunnel->next_hop || i >= tunnel->hop_count || hop + LB_HOP_LEN > end)
		return 0;
	return lb_load32(hop);
}

/* What the outer header leaves for the inner packet. */
LB_INLINE __u64 lb_inner_length(const struct lb_tunnel *tunnel)
{
	return tunnel->total_len - LB_WRAP_LEN - tunnel->hop_count * LB_HOP_LEN;
}

/* Where the inner packet begins. */
LB_INLINE __u64 lb_inner_offset(const struct lb_tunnel *tunnel)
{
	return LB_ETH_LEN + LB_WRAP_LEN + tunnel->hop_count * LB_HOP_LEN;
}

#endif
