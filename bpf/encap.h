/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The wrap (docs/wire.md, sections 2 and 5).
 *
 * Called after the head has moved: the frame begins with `grown` new bytes, the old
 * Ethernet header and the inner packet lie behind them.  The fields that the outer
 * header takes from the packet are read there again: keeping them over a helper call
 * would cost registers.
 */
#ifndef LB_ENCAP_H
#define LB_ENCAP_H

#include "frame.h"
#include "siphash.h"

#define LB_OUTER_TTL 64

/* Ethernet addresses as two words: bytes 0..7 and 8..11 */
struct lb_macs {
	__u64 head;
	__u64 tail;
};

/* Back to where the frame came from. */
LB_INLINE struct lb_macs lb_macs_swapped(const void *old)
{
	__u64 head = lb_load64(old);
	struct lb_macs macs = {
		.head = head >> 48 | (__u64)lb_load32(old + 8) << 16 | head << 48,
		.tail = (head & LB_MAC_MASK) >> 16,
	};

	return macs;
}

/* From our MAC to the next hop's; swapped if that is not known. */
LB_INLINE struct lb_macs lb_macs_towards(const struct lb_config *config, __u64 mac, const void *old)
{
	struct lb_macs macs;

	if (lb_likely(mac)) {
		macs.head = mac | config->mac_head;
		macs.tail = config->mac_tail;
	} else {
		macs = lb_macs_swapped(old);
	}
	return macs;
}

LB_INLINE struct lb_macs lb_macs_kept(const void *old)
{
	struct lb_macs macs = { lb_load64(old), lb_load32(old + 8) };

	return macs;
}

/* Fields of the outer headers that come from the inner packet. */
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
		outer.inner_len = lb_swap16(lb_load16(ip + LB_IP6_PAYLOAD_AT)) + LB_IPV6_LEN;
		outer.proto = LB_PROTO_IPV6;
	} else {
		outer.tos = lb_load8(ip + LB_IP_TOS_AT);
		outer.inner_len = lb_swap16(lb_load16(ip + LB_IP_TOTAL_LEN_AT));
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
 * Writes everything from the EtherType to GUE's private data: 38 bytes from two before
 * `ip`, where the outer IP header begins.  lb_write_hops() writes what follows.
 */
LB_INLINE void lb_write_wrap(void *ip, const struct lb_config *config, const struct lb_dip *dip,
			     const struct lb_outer *outer, __u64 hash, __u64 hop_count)
{
	__u64 total = outer->inner_len + LB_WRAP_LEN_WITH(hop_count);
	__u64 total_be = lb_swap16(total);
	__u64 checksum = lb_checksum(dip->csum + (outer->tos << 8) + total_be);

	lb_store32(ip - 2, LB_NO_OPTIONS4 | outer->tos << 24);
	/* total length, id 0, DF, TTL 64, UDP */
	lb_store64(ip + 2, total_be | (__u64)LB_IP_DF << 32 | (__u64)LB_OUTER_TTL << 48 |
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

/* The hop list behind the outer IP header at `ip`; there is at least one hop. */
LB_INLINE void lb_write_hops(void *ip, __u64 hop_count, __u64 hop1, __u64 hop2, __u64 hop3)
{
	lb_store32(ip + LB_WRAP_LEN, hop1);
	if (hop_count > 1)
		lb_store32(ip + LB_WRAP_LEN + LB_HOP_LEN, hop2);
	if (hop_count > 2)
		lb_store32(ip + LB_WRAP_LEN + 2 * LB_HOP_LEN, hop3);
}
_Static_assert(LB_MAX_HOPS == 3, "lb_write_hops() writes three");

/* The checksum of an outer IPv4 header whose addresses change, summed anew. */
LB_INLINE __u64 lb_outer_checksum(const void *frame, __u64 saddr, __u64 daddr)
{
	__u64 sum = (saddr & 0xffff) + (saddr >> 16) + (daddr & 0xffff) + (daddr >> 16);

	sum += lb_load16(frame + LB_AT_VERSION) + lb_load16(frame + LB_AT_TOTAL_LEN);
	sum += lb_load16(frame + LB_AT_TOTAL_LEN + 2) + lb_load16(frame + LB_AT_FRAGMENT);
	sum += lb_load16(frame + LB_AT_FRAGMENT + 2);
	return lb_checksum(sum);
}

#endif
