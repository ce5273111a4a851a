/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The two look-up tables (services with VIPs, known DIPs with probers): rows of
 * one cache line, filled from the front.  The agent picks the view word, which
 * holds the hash's multiplier, so that no row overflows: a look-up reads one
 * row and stops at its first empty entry.
 */
#ifndef LB_SERVICES_H
#define LB_SERVICES_H

#include "bytes.h"

/* Multiply-shift hashing (Dietzfelbinger et al., 1997): the top bits of x times an odd number. */
LB_INLINE __u64 lb_service_row(__u64 view, __u64 match)
{
	__u64 shift = view >> LB_VIEW_SHIFT_AT & LB_VIEW_SHIFT_MASK;

	return match * (view | 1) >> shift & (LB_SERVICE_ROWS - 1);
}

LB_INLINE __u64 lb_known_row(__u64 view, __u64 addr)
{
	return addr * (view | 1) >> (64 - LB_KNOWN_BITS);
}

LB_INLINE __u64 lb_service_match(__u64 kind, __u64 daddr, __u64 dport, __u64 protocol)
{
	return daddr | dport << 32 | protocol << 48 | kind << 56;
}

LB_INLINE const struct lb_service *lb_find(const struct lb_state *state, __u64 match)
{
	__u64 view = state->config.view;
	const struct lb_service *entry =
		state->service[view & 1][lb_service_row(view, match)].entry;

#pragma unroll
	for (int i = 0; i < LB_SERVICE_WIDTH; i++, entry++) {
		if (lb_likely(entry->match == match))
			return entry;
		if (!entry->match)
			break;
	}
	return 0;
}

LB_INLINE const struct lb_service *lb_find_service(const struct lb_state *state, __u64 daddr,
						   __u64 dport, __u64 protocol)
{
	return lb_find(state, lb_service_match(LB_KIND_SERVICE4, daddr, dport, protocol));
}

LB_INLINE int lb_is_vip(const struct lb_state *state, __u64 addr)
{
	return lb_find(state, lb_service_match(LB_KIND_VIP4, addr, 0, 0)) != 0;
}

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
