/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The wrap (docs/wire.md, sections 2 and 5).
 *
 * Called after the head has moved: the frame begins with `grown` new bytes,
 * the old Ethernet header and the inner packet lie behind them, and what the
 * outer header takes from the packet is read there again.  Cheaper than
 * keeping it over a helper call, which costs registers.
 */
#ifndef LB_ENCAP_H
#define LB_ENCAP_H

#include "parse.h"
#include "siphash.h"

#define LB_OUTER_TTL 64

/* Ethernet addresses as two words: bytes 0..7 and 8..11 */
struct lb_macs {
	__u64 head;
	__u64 tail;
};

/* MAC known: ours to it.  Unknown: swapped, back to where the frame came from. */
LB_INLINE struct lb_macs lb_macs_towards(const struct lb_config *config, __u64 mac, const void *old)
{
	struct lb_macs macs;

	if (lb_likely(mac)) {
		macs.head = mac | config->mac_head;
		macs.tail = config->mac_tail;
	} else {
		__u64 head = lb_load64(old);

		macs.head = head >> 48 | (__u64)lb_load32(old + 8) << 16 | head << 48;
		macs.tail = (head & LB_MAC_MASK) >> 16;
	}
	return macs;
}

LB_INLINE struct lb_macs lb_macs_kept(const void *old)
{
	struct lb_macs macs = { lb_load64(old), lb_load32(old + 8) };

	return macs;
}

/* What the outer headers take from the inner packet. */
struct lb_outer {
	__u64 tos;
	__u64 inner_len;
	__u64 proto; /* of the GUE header */
};

/* ip: the inner IP header, 20 or 40 bytes of which can be read. */
LB_INLINE struct lb_outer lb_outer_for(const void *ip, __u64 version)
{
	struct lb_outer outer;

	if (version == 6) {
		outer.tos = lb_swap16(lb_load16(ip)) >> 4 & 0xff;
		outer.inner_len = lb_swap16(lb_load16(ip + 4)) + LB_IPV6_LEN;
		outer.proto = LB_PROTO_IPV6;
	} else {
		outer.tos = lb_load8(ip + 1);
		outer.inner_len = lb_swap16(lb_load16(ip + 2));
		outer.proto = LB_PROTO_IPV4;
	}
	return outer;
}

LB_INLINE void lb_write_macs(void *frame, struct lb_macs macs)
{
	lb_store64(frame, macs.head);
	lb_store32(frame + 8, macs.tail);
}

/*
 * Writes EtherType to private data: 38 bytes from two before `ip`, where the
 * outer IP header goes.  The 4 * hop_count bytes of hops behind them are the
 * caller's.
 */
LB_INLINE void lb_write_wrap(void *ip, const struct lb_config *config, const struct lb_dip *dip,
			     const struct lb_outer *outer, __u64 hash, __u64 hop_count)
{
	__u64 total = outer->inner_len + LB_WRAP_LEN + hop_count * LB_HOP_LEN;
	__u64 total_be = lb_swap16(total);
	__u64 checksum = lb_checksum(dip->csum + (outer->tos << 8) + total_be);

	lb_store32(ip - 2, LB_ETH_IPV4 | 0x45 << 16 | outer->tos << 24);
	/* total length, id 0, DF, TTL 64, UDP */
	lb_store64(ip + 2, total_be | (__u64)0x0040 << 32 | (__u64)LB_OUTER_TTL << 48 |
				   (__u64)LB_PROTO_UDP << 56);
	lb_store16(ip + 10, checksum);
	lb_store32(ip + 12, config->dip);
	lb_store32(ip + 16, dip->addr);
	lb_store16(ip + 20, lb_swap16(lb_source_port(hash)));
	lb_store16(ip + 22, config->gue_port);
	lb_store16(ip + 24, lb_swap16(total - LB_IPV4_LEN));
	/* UDP checksum 0; GUE; private version and flags 0 */
	lb_store64(ip + 26, (1 + hop_count) << 16 | outer->proto << 24);
	lb_store16(ip + 34, hop_count << 8);
}

/* The header checksum of an outer IPv4 header between other addresses, summed anew. */
LB_INLINE __u64 lb_outer_checksum(const void *frame, __u64 saddr, __u64 daddr)
{
	__u64 sum = (saddr & 0xffff) + (saddr >> 16) + (daddr & 0xffff) + (daddr >> 16);

	sum += lb_load16(frame + LB_AT_VERSION) + lb_load16(frame + LB_AT_TOTAL_LEN);
	sum += lb_load16(frame + LB_AT_TOTAL_LEN + 2) + lb_load16(frame + LB_AT_FRAGMENT);
	sum += lb_load16(frame + LB_AT_FRAGMENT + 2);
	return lb_checksum(sum);
}

#endif
