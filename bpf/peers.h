/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Peers: the addresses that may send GUE to this server, DIPs and probers.  User
 * space (lb/dataplane/lookup/peers.py) chooses a hash under which no row has too many.
 */
#ifndef LB_PEERS_H
#define LB_PEERS_H

#include "bytes.h"

/* A peer's flags (LB_PEER_DIP, LB_PEER_PROBER) and, from bit 16 on, its DIP index; 0: not a peer. */
LB_INLINE __u64 lb_peer_word(const struct lb_state *state, __u64 addr)
{
	__u64 view = state->config.view;
	const struct lb_peer *entry = state->peer[view & 1][LB_ROW(view, addr, LB_PEER_BITS)].entry;

	if (!addr)
		return 0;
#pragma unroll
	for (int i = 0; i < LB_PEER_WIDTH; i++, entry++) {
		if (entry->addr == addr)
			return entry->flags | (__u64)entry->dip << 16;
		if (!entry->addr)
			break;
	}
	return 0;
}

#endif
