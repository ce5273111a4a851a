/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The link layer of any frame (docs/wire.md, sections 4.1 and 5): tags before
 * the IP header, and what of them stays on the outside.
 */
#ifndef LB_TAGS_H
#define LB_TAGS_H

#include "frame.h"

#define LB_TAG_LEN	4
#define LB_MAX_TAGS	2
#define LB_MAX_LINK_LEN (LB_ETH_LEN + LB_MAX_TAGS * LB_TAG_LEN)

/* for the verifier: `l3`, the offset of the IP header, is bounded by this mask */
#define LB_L3_MASK 31
_Static_assert(LB_IS_MASK(LB_L3_MASK) && LB_MAX_LINK_LEN <= LB_L3_MASK, "LB_L3_MASK keeps l3");

LB_INLINE int lb_is_tag(__u64 type)
{
	return type == LB_ETH_VLAN || type == LB_ETH_QINQ;
}

/* F1 to F3: where the IP header is and its EtherType, or the counter of a frame without one. */
#define LB_LINK_OK (-1)

LB_INLINE int lb_read_link(const void *frame, const void *end, __u64 *l3, __u64 *type)
{
	__u64 length = LB_ETH_LEN;

	if (frame + LB_ETH_LEN > end)
		return LB_CNT_PASS_NOT_IP;
	*type = lb_load16(frame + LB_AT_ETHERTYPE);
#pragma unroll
	for (int tags = 0; tags < LB_MAX_TAGS; tags++) {
		if (!lb_is_tag(*type))
			break;
		if (frame + LB_ETH_LEN + (tags + 1) * LB_TAG_LEN > end)
			return LB_CNT_PASS_MALFORMED;
		length = LB_ETH_LEN + (tags + 1) * LB_TAG_LEN;
		*type = lb_load16(frame + LB_AT_ETHERTYPE + (tags + 1) * LB_TAG_LEN);
	}
	*l3 = length;
	if (*type != LB_ETH_IPV4 && *type != LB_ETH_IPV6)
		return LB_CNT_PASS_NOT_IP;
	return LB_LINK_OK;
}

/*
 * The IP header at `l3`; NULL (F4) if it is truncated, or has another version than
 * the EtherType.
 */
LB_INLINE const void *lb_ip_at(const void *frame, const void *end, __u64 l3, __u64 version)
{
	const void *ip = frame + (lb_opaque(l3) & LB_L3_MASK);

	if (ip + LB_IP_LEN(version) > end || lb_load8(ip) >> 4 != version)
		return 0;
	return ip;
}

/* Tags follow the MAC addresses as they came. */
LB_INLINE void lb_copy_tags(void *frame, const void *old, __u64 l3)
{
	if (l3 > LB_ETH_LEN)
		lb_store32(frame + LB_AT_ETHERTYPE, lb_load32(old + LB_AT_ETHERTYPE));
	if (l3 > LB_ETH_LEN + LB_TAG_LEN)
		lb_store32(frame + LB_AT_ETHERTYPE + LB_TAG_LEN,
			   lb_load32(old + LB_AT_ETHERTYPE + LB_TAG_LEN));
}

#endif
