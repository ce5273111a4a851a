/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The redirector, a TC classifier on ingress: a GUE packet at a hop is taken
 * out and delivered here, or passed on to the next hop.  docs/wire.md, section
 * 6, numbers its decisions.
 *
 * It writes with helpers only.  A single store to the packet would make the
 * kernel put a check for shared buffers in front of every packet.
 */
#include "ecn.h"
#include "encap.h"
#include "gue.h"
#include "inner.h"
#include "services.h"

#define LB_TC_OK	    0
#define LB_TC_SHOT	    2
#define LB_SOCK_ESTABLISHED 1
#define LB_SOCK_LISTEN	    10
#define LB_NETNS_OF_DEVICE  ((u32)BPF_F_CURRENT_NETNS)

/* outer headers, three hops, inner IPv4 and TCP headers */
#define LB_HEADERS_LEN \
	(LB_ETH_LEN + LB_WRAP_LEN + LB_MAX_HOPS * LB_HOP_LEN + LB_IPV4_LEN + LB_TCP_LEN)

/* Makes the first bytes of a packet readable, as far as it has them. */
static __always_inline int lb_make_linear(struct __sk_buff *skb, u64 length)
{
	u64 linear = LB_END(skb) - LB_FRAME(skb);

	if (linear >= length || linear >= skb->len)
		return 0;
	return bpf_skb_pull_data(skb, skb->len < length ? skb->len : length);
}

/* R1: is it for us to decide about? */
static __always_inline bool lb_for_redirector(struct __sk_buff *skb, const struct lb_state *state)
{
	void *frame;

	if (skb->protocol != LB_ETH_IPV4)
		return false;
	frame = LB_FRAME(skb);
	if (frame + LB_NOT_GUE_LEN > LB_END(skb)) {
		if (lb_make_linear(skb, LB_NOT_GUE_LEN))
			return false;
		frame = LB_FRAME(skb);
		if (frame + LB_NOT_GUE_LEN > LB_END(skb))
			return false;
	}
	/* a VLAN tag may be kept beside the frame */
	return lb_is_gue(frame, &state->config) && !skb->vlan_present;
}

/* R5 and R6: every hop still ahead must be a DIP we know, and not this server. */
static __always_inline int lb_check_hops(const struct lb_state *state, const void *frame,
					 const void *end, const struct lb_tunnel *tunnel)
{
	bool unknown = false;

#pragma unroll
	for (u64 i = 0; i < LB_MAX_HOPS; i++) {
		u64 hop = lb_hop_ahead(frame, end, tunnel, i);

		if (i < tunnel->next_hop || i >= tunnel->hop_count)
			continue;
		if (hop == state->config.dip)
			return LB_CNT_DROP_HOP_LOOP;
		if (!(lb_known_word(state, hop) & LB_KNOWN_DIP))
			unknown = true;
	}
	return unknown ? LB_CNT_DROP_UNKNOWN_HOP : LB_INNER_OK;
}

/* R2 to R13: LB_INNER_OK, or the counter of a drop. */
static __always_inline int lb_check(const struct lb_state *state, const void *frame,
				    const void *end, u64 frame_len, struct lb_tunnel *tunnel,
				    struct lb_inner *inner)
{
	const void *ip;
	int reason;

	if (frame + LB_NOT_GUE_LEN > end)
		return LB_CNT_DROP_ERROR;
	if (!lb_read_tunnel(frame, end, frame_len, tunnel))
		return LB_CNT_DROP_GUE_MALFORMED;
	if (!(lb_known_word(state, tunnel->saddr) & (LB_KNOWN_DIP | LB_KNOWN_PROBER)))
		return LB_CNT_DROP_UNKNOWN_SOURCE;
	reason = lb_check_hops(state, frame, end, tunnel);
	if (reason != LB_INNER_OK)
		return reason;
	if (tunnel->proto != LB_PROTO_IPV4)
		return LB_CNT_DROP_INNER_IPV6;
	ip = frame + lb_inner_offset(tunnel);
	if (!lb_inner_ip_ok(ip, end, tunnel))
		return LB_CNT_DROP_INNER_MALFORMED;
	if (ip + LB_IPV4_LEN > end || !lb_is_vip(state, lb_load32(ip + LB_IN(LB_AT_DADDR))))
		return LB_CNT_DROP_NOT_VIP;
	return lb_read_inner(ip, end, inner);
}

static __always_inline void lb_fill_tuple(struct bpf_sock_tuple *tuple,
					  const struct lb_inner *inner)
{
	tuple->ipv4.saddr = inner->saddr;
	tuple->ipv4.daddr = inner->daddr;
	tuple->ipv4.sport = inner->ports;
	tuple->ipv4.dport = inner->ports >> 16;
}

static __always_inline bool lb_cookie_ok(struct __sk_buff *skb, struct bpf_sock *sk,
					 const struct lb_tunnel *tunnel)
{
	void *ip = LB_FRAME(skb) + lb_inner_offset(tunnel);

	if (ip + LB_IPV4_LEN + LB_TCP_LEN > LB_END(skb))
		return false;
	return !bpf_tcp_check_syncookie(sk, ip, LB_IPV4_LEN, ip + LB_IPV4_LEN, LB_TCP_LEN);
}

/* R17 and R18: the counter of an accept, or LB_CNT_PASS_ON. */
static __always_inline int lb_ask_tcp(struct __sk_buff *skb, const struct lb_tunnel *tunnel,
				      const struct lb_inner *inner)
{
	struct bpf_sock_tuple tuple = {};
	int answer = LB_CNT_PASS_ON;
	struct bpf_sock *sk;

	/* a SYN with forward_syn set visits the next hop whatever is here */
	if (lb_is_syn(inner))
		return LB_CNT_PASS_ON;
	lb_fill_tuple(&tuple, inner);
	sk = bpf_skc_lookup_tcp(skb, &tuple, sizeof(tuple.ipv4), LB_NETNS_OF_DEVICE, 0);
	if (!sk)
		return LB_CNT_PASS_ON;
	if (sk->state != LB_SOCK_LISTEN)
		answer = LB_CNT_ACCEPT_SOCKET;
	else if (lb_is_cookie_ack(inner) && lb_cookie_ok(skb, sk, tunnel))
		answer = LB_CNT_ACCEPT_SYNCOOKIE;
	bpf_sk_release(sk);
	return answer;
}

/* R19: likewise. */
static __always_inline int lb_ask_udp(struct __sk_buff *skb, const struct lb_inner *inner)
{
	struct bpf_sock_tuple tuple = {};
	int answer = LB_CNT_PASS_ON;
	struct bpf_sock *sk;

	lb_fill_tuple(&tuple, inner);
	sk = bpf_sk_lookup_udp(skb, &tuple, sizeof(tuple.ipv4), LB_NETNS_OF_DEVICE, 0);
	if (!sk)
		return LB_CNT_PASS_ON;
	/* two bytes of dst_port: kernels before 5.18 have four, with the port in the first two */
	if (sk->state == LB_SOCK_ESTABLISHED && sk->dst_ip4 == tuple.ipv4.saddr &&
	    *(volatile u16 *)&sk->dst_port == tuple.ipv4.sport)
		answer = LB_CNT_ACCEPT_UDP_SOCKET;
	bpf_sk_release(sk);
	return answer;
}

/* Copies ECN inward and takes the wrap out. */
static __always_inline int lb_accept(struct __sk_buff *skb, const struct lb_tunnel *tunnel,
				     const struct lb_inner *inner, int counter)
{
	u64 at = lb_inner_offset(tunnel), wrap = at - LB_ETH_LEN;
	int tos = lb_ecn_decap(tunnel->tos, inner->tos);
	void *ip = LB_FRAME(skb) + at;
	u16 checksum;
	u8 byte = tos;

	if (tos == LB_ECN_DROP)
		return lb_exit(LB_CNT_DROP_ECN, LB_TC_SHOT);
	if (tos != inner->tos) {
		if (ip + LB_IPV4_LEN > LB_END(skb))
			return lb_exit(LB_CNT_DROP_ERROR, LB_TC_SHOT);
		checksum = lb_checksum_after_tos(lb_load16(ip + 10), inner->tos, tos);
		if (bpf_skb_store_bytes(skb, at + 1, &byte, 1, BPF_F_RECOMPUTE_CSUM) ||
		    bpf_skb_store_bytes(skb, at + 10, &checksum, 2, BPF_F_RECOMPUTE_CSUM))
			return lb_exit(LB_CNT_DROP_ERROR, LB_TC_SHOT);
	}
	if (bpf_skb_adjust_room(skb, -(s32)wrap, BPF_ADJ_ROOM_MAC, BPF_F_ADJ_ROOM_FIXED_GSO))
		return lb_exit(LB_CNT_DROP_ERROR, LB_TC_SHOT);
	return lb_exit(counter, LB_TC_OK);
}

/* What changes in the outer headers of a packet that is passed on. */
struct lb_rewrite {
	u64 mac_head;
	u32 mac_tail;
	u16 pad;
	u16 checksum; /* from here on as in the frame: bytes 24 to 33 */
	__be32 saddr;
	__be32 daddr;
};

static __always_inline int lb_store_rewrite(struct __sk_buff *skb, struct lb_rewrite *rewrite,
					    u8 next_hop)
{
	return bpf_skb_store_bytes(skb, 0, &rewrite->mac_head, 12, 0) ||
	       bpf_skb_store_bytes(skb, LB_ETH_LEN + 10, &rewrite->checksum, 10,
				   BPF_F_RECOMPUTE_CSUM) ||
	       bpf_skb_store_bytes(skb, LB_AT_NEXT_HOP, &next_hop, 1, BPF_F_RECOMPUTE_CSUM);
}

/* R20 to R22. */
static __always_inline int lb_pass_on(struct __sk_buff *skb, const struct lb_state *state,
				      const struct lb_tunnel *tunnel)
{
	void *frame = LB_FRAME(skb),
	     *at = frame + LB_AT_HOPS + (tunnel->next_hop & LB_MAX_HOPS) * LB_HOP_LEN;
	struct lb_rewrite rewrite = {};
	const struct lb_dip *dip;
	struct lb_macs macs;
	u64 hop;

	if (frame + LB_ETH_LEN + LB_WRAP_LEN > LB_END(skb) || at + LB_HOP_LEN > LB_END(skb))
		return lb_exit(LB_CNT_DROP_ERROR, LB_TC_SHOT);
	hop = lb_load32(at);
	dip = &state->dip[(lb_known_word(state, hop) >> 16) % LB_MAX_DIPS];
	if (!hop || dip->addr != hop)
		return lb_exit(LB_CNT_DROP_NO_DIP, LB_TC_SHOT);
	if (tunnel->total_len > state->config.mtu)
		return lb_exit(LB_CNT_DROP_TOO_BIG, LB_TC_SHOT);
	macs = lb_macs_towards(&state->config, dip->mac, frame);
	rewrite.mac_head = macs.head;
	rewrite.mac_tail = macs.tail;
	rewrite.saddr = state->config.dip;
	rewrite.daddr = hop;
	rewrite.checksum = lb_outer_checksum(frame, rewrite.saddr, rewrite.daddr);
	if (lb_store_rewrite(skb, &rewrite, tunnel->next_hop + 1))
		return lb_exit(LB_CNT_DROP_ERROR, LB_TC_SHOT);
	return lb_exit(LB_CNT_PASS_ON, bpf_redirect(skb->ifindex, 0));
}

int lb_redirector(struct __sk_buff *skb)
{
	const struct lb_state *state = lb_get_state();
	struct lb_tunnel tunnel;
	struct lb_inner inner;
	int reason;

	if (!state || !lb_for_redirector(skb, state))
		return lb_exit(LB_CNT_OK_NOT_GUE, LB_TC_OK);
	if (lb_make_linear(skb, LB_HEADERS_LEN))
		return lb_exit(LB_CNT_DROP_ERROR, LB_TC_SHOT);
	reason = lb_check(state, LB_FRAME(skb), LB_END(skb), skb->len, &tunnel, &inner);
	if (reason != LB_INNER_OK)
		return lb_exit(reason, LB_TC_SHOT);
	reason = lb_accept_at_once(&tunnel, &inner);
	if (reason == LB_ASK_SOCKETS)
		reason = inner.protocol == LB_PROTO_TCP ? lb_ask_tcp(skb, &tunnel, &inner)
							: lb_ask_udp(skb, &inner);
	if (reason != LB_CNT_PASS_ON)
		return lb_accept(skb, &tunnel, &inner, reason);
	return lb_pass_on(skb, state, &tunnel);
}
