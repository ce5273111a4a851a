/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The flow hash: SipHash-1-3 over saddr, daddr, sport, dport, protocol
 * (docs/wire.md, section 1).
 *
 * What needs no packet is done once per key, in lb_key_schedule(): the initial
 * state and, since the first message word only enters v3, the v0/v1 half of
 * the first round.
 */
#ifndef LB_SIPHASH_H
#define LB_SIPHASH_H

#include "bytes.h"

#define LB_FLOW_INPUT_LEN 13ULL

LB_INLINE __u64 lb_rotl(__u64 x, int bits)
{
	return x << bits | x >> (64 - bits);
}

LB_INLINE void lb_sip_round_head(__u64 *v)
{
	v[0] += v[1];
	v[1] = lb_rotl(v[1], 13) ^ v[0];
	v[0] = lb_rotl(v[0], 32);
}

LB_INLINE void lb_sip_round_tail(__u64 *v)
{
	v[2] += v[3];
	v[3] = lb_rotl(v[3], 16) ^ v[2];
	v[0] += v[3];
	v[3] = lb_rotl(v[3], 21) ^ v[0];
	v[2] += v[1];
	v[1] = lb_rotl(v[1], 17) ^ v[2];
	v[2] = lb_rotl(v[2], 32);
}

LB_INLINE void lb_sip_round(__u64 *v)
{
	lb_sip_round_head(v);
	lb_sip_round_tail(v);
}

LB_INLINE void lb_key_schedule(struct lb_key *key, __u64 k0, __u64 k1)
{
	key->v[0] = k0 ^ 0x736f6d6570736575ULL;
	key->v[1] = k1 ^ 0x646f72616e646f6dULL;
	key->v[2] = k0 ^ 0x6c7967656e657261ULL;
	key->v[3] = k1 ^ 0x7465646279746573ULL;
	lb_sip_round_head(key->v);
}

/*
 * addresses: saddr and daddr, ports: sport and dport, each read as one word
 * from the packet.
 */
LB_INLINE __u64 lb_flow_hash(const struct lb_key *key, __u64 addresses, __u64 ports, __u64 protocol)
{
	__u64 v[4] = { key->v[0], key->v[1], key->v[2], key->v[3] };
	__u64 last = ports | protocol << 32 | LB_FLOW_INPUT_LEN << 56;

	v[3] ^= addresses;
	lb_sip_round_tail(v);
	v[0] ^= addresses;

	v[3] ^= last;
	lb_sip_round(v);
	v[0] ^= last;

	v[2] ^= 0xff;
	lb_sip_round(v);
	lb_sip_round(v);
	lb_sip_round(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

/* The outer UDP source port that a flow hash gives, in host order. */
LB_INLINE __u64 lb_source_port(__u64 hash)
{
	return hash >> 48 | 0x8000;
}

#endif
