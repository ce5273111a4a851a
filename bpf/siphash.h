/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The flow hash: SipHash-1-3 over saddr, daddr, sport, dport, protocol, or over
 * the client's address alone (docs/wire.md, section 1).
 *
 * Everything that needs no packet is done once per key, in lb_key_schedule(): the
 * initial state and, since the first message word only enters v3, the part of the
 * first round that changes v0 and v1 alone.
 */
#ifndef LB_SIPHASH_H
#define LB_SIPHASH_H

#include "bytes.h"

#define LB_FLOW_INPUT4_LEN   13ULL
#define LB_FLOW_INPUT6_LEN   37ULL
#define LB_CLIENT_INPUT4_LEN 4ULL
#define LB_CLIENT_INPUT6_LEN 16ULL

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

LB_INLINE void lb_sip_round_tail(__u64 *v, __u64 v1_turned)
{
	v[2] += v[3];
	v[3] = lb_rotl(v[3], 16) ^ v[2];
	v[0] += v[3];
	v[3] = lb_rotl(v[3], 21) ^ v[0];
	v[2] += v[1];
	v[1] = v1_turned ^ v[2];
	v[2] = lb_rotl(v[2], 32);
}

LB_INLINE void lb_sip_round(__u64 *v)
{
	lb_sip_round_head(v);
	lb_sip_round_tail(v, lb_rotl(v[1], 17));
}

LB_INLINE void lb_key_schedule(struct lb_key *key, __u64 k0, __u64 k1)
{
	key->v[0] = k0 ^ 0x736f6d6570736575ULL;
	key->v[1] = k1 ^ 0x646f72616e646f6dULL;
	key->v[2] = k0 ^ 0x6c7967656e657261ULL;
	key->v[3] = k1 ^ 0x7465646279746573ULL;
	lb_sip_round_head(key->v);
	key->v1_turned = lb_rotl(key->v[1], 17);
}

/* A key's state, with half of the first word's round done, then the other half. */
LB_INLINE void lb_sip_first(__u64 *v, const struct lb_key *key, __u64 word)
{
	v[0] = key->v[0];
	v[1] = key->v[1];
	v[2] = key->v[2];
	v[3] = key->v[3] ^ word;
	lb_sip_round_tail(v, key->v1_turned);
	v[0] ^= word;
}

LB_INLINE void lb_sip_word(__u64 *v, __u64 word)
{
	v[3] ^= word;
	lb_sip_round(v);
	v[0] ^= word;
}

LB_INLINE __u64 lb_sip_end(__u64 *v)
{
	v[2] ^= 0xff;
	lb_sip_round(v);
	lb_sip_round(v);
	lb_sip_round(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

/*
 * addresses: saddr and daddr, ports: sport and dport, each read as one word
 * from the packet.
 */
LB_INLINE __u64 lb_flow_hash4(const struct lb_key *key, __u64 addresses, __u64 ports,
			      __u64 protocol)
{
	__u64 v[4];

	lb_sip_first(v, key, addresses);
	lb_sip_word(v, ports | protocol << 32 | LB_FLOW_INPUT4_LEN << 56);
	return lb_sip_end(v);
}

/* Two words each of an address. */
LB_INLINE __u64 lb_flow_hash6(const struct lb_key *key, const __u64 *saddr, const __u64 *daddr,
			      __u64 ports, __u64 protocol)
{
	__u64 v[4];

	lb_sip_first(v, key, saddr[0]);
	lb_sip_word(v, saddr[1]);
	lb_sip_word(v, daddr[0]);
	lb_sip_word(v, daddr[1]);
	lb_sip_word(v, ports | protocol << 32 | LB_FLOW_INPUT6_LEN << 56);
	return lb_sip_end(v);
}

LB_INLINE __u64 lb_client_hash4(const struct lb_key *key, __u64 saddr)
{
	__u64 v[4];

	lb_sip_first(v, key, saddr | LB_CLIENT_INPUT4_LEN << 56);
	return lb_sip_end(v);
}

LB_INLINE __u64 lb_client_hash6(const struct lb_key *key, const __u64 *saddr)
{
	__u64 v[4];

	lb_sip_first(v, key, saddr[0]);
	lb_sip_word(v, saddr[1]);
	lb_sip_word(v, LB_CLIENT_INPUT6_LEN << 56);
	return lb_sip_end(v);
}

/* The outer UDP source port that a flow hash gives, in host order. */
LB_INLINE __u64 lb_source_port(__u64 hash)
{
	return hash >> 48 | 0x8000;
}

#endif
