/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The outer headers of a GUE packet that arrives (docs/wire.md, section 6, R1
 * to R3 and the hop list).
 */
#ifndef LB_GUE_H
#define LB_GUE_H

#include "frame.h"

#define LB_AT_UDP_LEN	   (LB_AT_SPORT + LB_UDP_LEN_AT)
#define LB_AT_UDP_CHECKSUM (LB_AT_SPORT + LB_UDP_CHECKSUM_AT)
#define LB_AT_GUE	   (LB_AT_SPORT + LB_UDP_LEN)
#define LB_AT_NEXT_HOP	   (LB_AT_GUE + (int)__builtin_offsetof(struct lb_gue, next_hop))
#define LB_AT_HOP_COUNT	   (LB_AT_GUE + (int)__builtin_offsetof(struct lb_gue, hop_count))
#define LB_AT_HOPS	   (LB_ETH_LEN + LB_WRAP_LEN)
#define LB_NOT_GUE_LEN	   LB_AT_GUE /* a shorter frame cannot be for the GUE port */

struct lb_tunnel {
	__u64 total_len; /* outer */
	__u64 saddr;
	__u64 tos;
	__u64 proto;
	__u64 forward_syn;
	__u64 next_hop;
	__u64 hop_count;
};

/* The cheapest test is first: most packets of a server fail it. */
LB_INLINE int lb_is_gue(const void *frame, const struct lb_config *config)
{
	return lb_load8(frame + LB_AT_PROTOCOL) == LB_PROTO_UDP &&
	       lb_load16(frame + LB_AT_DPORT) == config->gue_port &&
	       lb_load32(frame + LB_AT_DADDR) == config->dip &&
	       (lb_load32(frame + LB_AT_ETHERTYPE) & LB_NO_OPTIONS_MASK) == LB_NO_OPTIONS4 &&
	       !lb_is_fragment4(frame);
}

LB_INLINE int lb_gue_header_ok(const struct lb_gue *gue, __u64 total_len)
{
	__u64 hops = gue->hop_count;

	/* variant and C share a byte with hlen */
	return gue->hlen == 1 + hops && hops <= LB_MAX_HOPS && !gue->flags &&
	       !(gue->private_flags & ~LB_GUE_FORWARD_SYN) && !gue->reserved &&
	       gue->next_hop <= hops && LB_WRAP_LEN_WITH(hops) <= total_len &&
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
	/* masked for the verifier only: lb_gue_header_ok() has checked it */
	tunnel->hop_count = gue->hop_count & LB_MAX_HOPS;
	return 1;
}

/* Hop `i` of the list, 0 if it is not ahead or there is none. */
LB_INLINE __u64 lb_hop_ahead(const void *frame, const void *end, const struct lb_tunnel *tunnel,
			     __u64 i)
{
	const void *hop = frame + LB_AT_HOPS + i * LB_HOP_LEN;

	if (i < tunnel->next_hop || i >= tunnel->hop_count || hop + LB_HOP_LEN > end)
		return 0;
	return lb_load32(hop);
}

/* The inner packet's length, from the outer header. */
LB_INLINE __u64 lb_inner_length(const struct lb_tunnel *tunnel)
{
	return tunnel->total_len - LB_WRAP_LEN_WITH(tunnel->hop_count);
}

/* Where the inner packet begins. */
LB_INLINE __u64 lb_inner_offset(const struct lb_tunnel *tunnel)
{
	return LB_ETH_LEN + LB_WRAP_LEN_WITH(tunnel->hop_count);
}

#endif
