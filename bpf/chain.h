/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The order in which a packet visits a bucket's chain (docs/wire.md, section
 * 3).  A chain is one word: four 16-bit DIP indices, newest first, in bits 0,
 * 16, 32, 48; a path is the same word in the order of visits.
 */
#ifndef LB_CHAIN_H
#define LB_CHAIN_H

#include "bytes.h"

#define LB_INDEX_MASK 0xffffULL

/* Everything after the first empty slot is not part of the chain. */
LB_INLINE __u64 lb_chain_trim(__u64 chain)
{
	if (!(chain & LB_INDEX_MASK))
		return 0;
	if (!(chain >> 16 & LB_INDEX_MASK))
		return chain & LB_INDEX_MASK;
	if (!(chain >> 32 & LB_INDEX_MASK))
		return chain & 0xffffffffULL;
	return chain;
}

LB_INLINE __u64 lb_chain_hops(__u64 trimmed)
{
	return !!(trimmed >> 16) + !!(trimmed >> 32) + !!(trimmed >> 48);
}

/* Oldest first: the order for UDP, which has no SYN. */
LB_INLINE __u64 lb_chain_reverse(__u64 trimmed)
{
	__u64 all = trimmed >> 48 | (trimmed >> 32 & LB_INDEX_MASK) << 16 |
		    (trimmed >> 16 & LB_INDEX_MASK) << 32 | trimmed << 48;

	if (trimmed >> 48)
		return all;
	if (trimmed >> 32)
		return all >> 16;
	if (trimmed >> 16)
		return all >> 32;
	return all >> 48;
}

LB_INLINE __u64 lb_chain_path(__u64 chain, __u64 protocol, __u64 service_flags)
{
	__u64 trimmed = lb_chain_trim(chain);

	if (protocol != LB_PROTO_UDP)
		return trimmed;
	if (service_flags & LB_SERVICE_STATELESS)
		return trimmed & LB_INDEX_MASK;
	return lb_chain_reverse(trimmed);
}

/* No later hop to visit: the chain has one DIP, or the service visits only the current one. */
LB_INLINE int lb_chain_at_rest(__u64 chain, __u64 protocol, __u64 service_flags)
{
	return !(chain >> 16 & LB_INDEX_MASK) ||
	       (protocol == LB_PROTO_UDP && (service_flags & LB_SERVICE_STATELESS));
}

#endif
