/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Congestion marks of the outer packet, copied to the inner one (RFC 6040, section
 * 4.2), and the inner header's checksum after that (RFC 1624, equation 3).
 */
#ifndef LB_ECN_H
#define LB_ECN_H

#include "bytes.h"

#define LB_ECN_MASK    3
#define LB_ECN_NOT_ECT 0
#define LB_ECN_ECT1    1
#define LB_ECN_ECT0    2
#define LB_ECN_CE      3

#define LB_ECN_DROP (-1)

/* The inner packet's TOS after decapsulation, or LB_ECN_DROP. */
LB_INLINE int lb_ecn_decap(__u64 outer_tos, __u64 inner_tos)
{
	__u64 outer = outer_tos & LB_ECN_MASK, inner = inner_tos & LB_ECN_MASK;

	if (outer == LB_ECN_CE)
		return inner == LB_ECN_NOT_ECT ? LB_ECN_DROP : (int)(inner_tos | LB_ECN_CE);
	if (outer == LB_ECN_ECT1 && inner == LB_ECN_ECT0)
		return (int)((inner_tos & ~(__u64)LB_ECN_MASK) | LB_ECN_ECT1);
	return (int)inner_tos;
}

/* A header checksum, as it lies in the header, after its TOS has changed. */
LB_INLINE __u64 lb_checksum_after_tos(__u64 checksum, __u64 old_tos, __u64 new_tos)
{
	/* the TOS is the second byte of its 16-bit word: the high one of a little-endian load */
	return lb_checksum((~checksum & 0xffff) + (~(old_tos << 8) & 0xffff) + (new_tos << 8));
}

#endif
