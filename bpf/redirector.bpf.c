/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The redirector, a TC classifier on ingress: at a hop, the packet inside GUE is
 * delivered here, or the GUE packet is passed on to the next hop.  docs/wire.md,
 * section 6, numbers its decisions.  redirector_rare.bpf.c decides rare packets.
 *
 * It writes with helpers only.  A single store to the packet would make the
 * kernel put a check for shared buffers in front of every packet.  A `version` is a
 * constant, 4 or 6: there is code for each.
 */
#ifndef LB_REDIRECTOR_BPF_C
#define LB_REDIRECTOR_BPF_C

#include "exit.bpf.c"
#include "encap.h"
#include "inner.h"
#include "peers.h"
#include "vips.h"

#define LB_TC_OK	    0
#define LB_TC_SHOT	    2
#define LB_SOCK_ESTABLISHED 1
#define LB_SOCK_TIME_WAIT   6
#define LB_SOCK_LISTEN	    10
#define LB_SOCK_REQUEST	    12 /* TCP_NEW_SYN_RECV */
/* what may lie between a packet's numbers and those that a socket has or its SYN had */
#define LB_FLOW_WINDOW	   (1u << 28)
#define LB_SYN_WINDOW	   0xffff
#define LB_NETNS_OF_DEVICE ((u32)BPF_F_CURRENT_NETNS)

/* outer headers and three hops; then inner IP and TCP headers */
#define LB_TUNNEL_LEN  (LB_AT_HOPS + LB_MAX_HOPS * LB_HOP_LEN)
#define LB_HEADERS_LEN (LB_TUNNEL_LEN + LB_IPV6_LEN + LB_TCP_LEN)

/*
 * Volatile, because a compiler that loads them once for several places (LLVM 11
 * does) may extend them to 64 bits in each by arithmetic, which is not allowed
 * with pointers.
 */
static __always_inline void *lb_frame(struct __sk_buff *skb)
{
	return (void *)(long)*(volatile u32 *)&skb->data;
}

static __always_inline void *lb_end(struct __sk_buff *skb)
{
	return (void *)(long)*(volatile u32 *)&skb->data_end;
}

/* Makes the first bytes of a packet readable, or all if it has fewer. */
static __always_inline int lb_make_linear(struct __sk_buff *skb, u64 length)
{
	u64 linear = lb_end(skb) - lb_frame(skb);

	if (linear >= length || linear >= skb->len)
		return 0;
	return bpf_skb_pull_data(skb, skb->len < length ? skb->len : length);
}

/* R1: is it GUE for this server?  (A tag that the kernel has removed does not matter.) */
static __always_inline bool lb_for_redirector(struct __sk_buff *skb, const struct lb_state *state)
{
	void *frame;

	if (skb->protocol != LB_ETH_IPV4)
		return false;
	frame = lb_frame(skb);
	if (frame + LB_NOT_GUE_LEN > lb_end(skb)) {
		if (lb_make_linear(skb, LB_NOT_GUE_LEN))
			return false;
		frame = lb_frame(skb);
		if (frame + LB_NOT_GUE_LEN > lb_end(skb))
			return false;
	}
	return lb_is_gue(frame, &state->config);
}

/* R5 and R6: every hop still ahead must be a known DIP, and not this server. */
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
		if (!(lb_peer_word(state, hop) & LB_PEER_DIP))
			unknown = true;
	}
	return unknown ? LB_CNT_DROP_UNKNOWN_HOP : LB_GO_ON;
}

/* R2 to R6: LB_GO_ON, or the counter of a drop. */
static __always_inline int lb_check_tunnel(struct __sk_buff *skb, const struct lb_state *state,
					   struct lb_tunnel *tunnel)
{
	const void *frame = lb_frame(skb), *end = lb_end(skb);

	if (frame + LB_NOT_GUE_LEN > end)
		return LB_CNT_DROP_ERROR;
	if (!lb_read_tunnel(frame, end, skb->len, tunnel))
		return LB_CNT_DROP_GUE_MALFORMED;
	if (!(lb_peer_word(state, tunnel->saddr) & (LB_PEER_DIP | LB_PEER_PROBER)))
		return LB_CNT_DROP_UNKNOWN_SOURCE;
	return lb_check_hops(state, frame, end, tunnel);
}

/* R7 to R9: LB_GO_ON for a packet to a VIP, or a counter. */
static __always_inline int lb_check_inner(const struct lb_state *state, const void *ip,
					  const void *end, const struct lb_tunnel *tunnel,
					  u64 version)
{
	bool is_vip;

	if (!lb_inner_ip_ok(ip, end, tunnel, version) || ip + LB_IP_LEN(version) > end)
		return LB_CNT_DROP_INNER_MALFORMED;
	if (version == 4)
		is_vip = lb_is_vip4(state, lb_load32(ip + LB_IP_DADDR_AT));
	else
		is_vip = lb_is_vip6(state, lb_load64(ip + LB_IP6_DADDR_AT),
				    lb_load64(ip + LB_IP6_DADDR_AT + 8));
	if (lb_likely(is_vip))
		return LB_GO_ON;
	if (version == 4 && lb_is_path_probe(ip, end, &state->config, tunnel))
		return LB_CNT_ACCEPT_PATH_PROBE;
	return LB_CNT_DROP_NOT_VIP;
}

/* ---- sockets ---- */

#define LB_TUPLE_LEN(version)                                        \
	((version) == 4 ? sizeof(((struct bpf_sock_tuple *)0)->ipv4) \
			: sizeof(((struct bpf_sock_tuple *)0)->ipv6))

/* The flow of a packet whose IP header can be read; `reversed` for the packet inside an error. */
static __always_inline void lb_fill_tuple(struct bpf_sock_tuple *tuple, const void *ip, u64 version,
					  u64 ports, bool reversed)
{
	const void *from = ip + (reversed ? LB_IP6_DADDR_AT : LB_IP6_SADDR_AT);
	const void *to = ip + (reversed ? LB_IP6_SADDR_AT : LB_IP6_DADDR_AT);

	__builtin_memset(tuple, 0, sizeof(*tuple));
	if (version == 4) {
		tuple->ipv4.saddr = lb_load32(ip + (reversed ? LB_IP_DADDR_AT : LB_IP_SADDR_AT));
		tuple->ipv4.daddr = lb_load32(ip + (reversed ? LB_IP_SADDR_AT : LB_IP_DADDR_AT));
		tuple->ipv4.sport = ports;
		tuple->ipv4.dport = ports >> 16;
		return;
	}
#pragma unroll
	for (int i = 0; i < 4; i++) {
		tuple->ipv6.saddr[i] = lb_load32(from + 4 * i);
		tuple->ipv6.daddr[i] = lb_load32(to + 4 * i);
	}
	tuple->ipv6.sport = ports;
	tuple->ipv6.dport = ports >> 16;
}

_Static_assert(sizeof(struct lb_flow_key) == sizeof(struct bpf_sock_tuple), "lb_flow_key");

/*
 * Section 6.5: by the sequence number a packet belongs to one of two SYNs with the same
 * ports, of which the request socket has answered the first.  The kernel has them, but not for programs.
 */
static __always_inline void lb_remember_opening(struct __sk_buff *skb, struct bpf_sock_tuple *tuple,
						u64 sequence, u64 version)
{
	struct lb_opening opening = { .at = bpf_ktime_get_ns(), .sequence = sequence };
	struct bpf_sock *sk;
	bool answers = true;

	sk = bpf_skc_lookup_tcp(skb, tuple, LB_TUPLE_LEN(version), LB_NETNS_OF_DEVICE, 0);
	if (sk) {
		answers = sk->state == LB_SOCK_LISTEN || sk->state == LB_SOCK_TIME_WAIT;
		bpf_sk_release(sk);
	}
	if (answers)
		lb_openings.update((struct lb_flow_key *)tuple, &opening);
}

static __always_inline bool lb_is_of_request(const struct bpf_sock_tuple *tuple, u64 sequence)
{
	struct lb_opening *opening = lb_openings.lookup((struct lb_flow_key *)tuple);

	if (!opening || bpf_ktime_get_ns() - opening->at > LB_OPENING_NS)
		return true;
	return (u32)(sequence - opening->sequence) <= LB_SYN_WINDOW;
}

static __always_inline bool lb_is_near(u32 number, u32 expected)
{
	return number - expected + LB_FLOW_WINDOW <= 2 * LB_FLOW_WINDOW;
}

/*
 * A socket whose client has forgotten it must not keep what a newer connection sends.
 * A client can acknowledge what it has got before the kernel moves snd_nxt on.
 */
static __always_inline bool lb_is_of_full_socket(struct bpf_sock *sk, const struct lb_inner *inner)
{
	struct bpf_tcp_sock *tcp = bpf_tcp_sock(sk);

	if (!tcp)
		return false;
	return lb_is_near(lb_swap32(inner->tcp_sequence), tcp->rcv_nxt) &&
	       (!(inner->tcp_flags & LB_TCP_ACK) ||
		lb_is_near(lb_swap32(inner->tcp_acknowledges), tcp->snd_nxt));
}

/* Section 6.5: is the packet of this socket's connection? */
static __always_inline bool lb_is_of(struct bpf_sock *sk, const struct bpf_sock_tuple *tuple,
				     const struct lb_inner *inner)
{
	switch (sk->state) {
	case LB_SOCK_LISTEN:
		return false;
	case LB_SOCK_TIME_WAIT:
		return inner->tcp_flags & LB_TCP_RST;
	case LB_SOCK_REQUEST:
		return lb_is_of_request(tuple, lb_swap32(inner->tcp_sequence));
	default:
		return lb_is_of_full_socket(sk, inner);
	}
}

static __always_inline bool lb_cookie_ok(struct __sk_buff *skb, struct bpf_sock *sk, u64 at,
					 const struct lb_inner *inner, u64 version)
{
	void *ip = lb_frame(skb) + at, *tcp;

	if (!lb_is_cookie_ack(inner) || ip + LB_IP_LEN(version) > lb_end(skb))
		return false;
	tcp = (void *)lb_at(ip, lb_end(skb), inner->length, inner->l4, LB_TCP_LEN);
	if (!tcp)
		return false;
	return !bpf_tcp_check_syncookie(sk, ip, LB_IP_LEN(version), tcp, LB_TCP_LEN);
}

/* R19 and R20: the counter of an accept, or LB_CNT_PASS_ON. */
static __always_inline int lb_decide_tcp(struct __sk_buff *skb, struct bpf_sock_tuple *tuple,
					 u64 at, const struct lb_inner *inner, u64 version)
{
	int answer = LB_CNT_PASS_ON;
	struct bpf_sock *sk;

	/* a SYN with forward_syn set visits the next hop whatever is here */
	if (lb_is_syn(inner))
		return LB_CNT_PASS_ON;
	sk = bpf_skc_lookup_tcp(skb, tuple, LB_TUPLE_LEN(version), LB_NETNS_OF_DEVICE, 0);
	if (!sk)
		return LB_CNT_PASS_ON;
	if (lb_is_of(sk, tuple, inner))
		answer = LB_CNT_ACCEPT_SOCKET;
	else if (sk->state == LB_SOCK_LISTEN && lb_cookie_ok(skb, sk, at, inner, version))
		answer = LB_CNT_ACCEPT_SYNCOOKIE;
	bpf_sk_release(sk);
	return answer;
}

/* Is it connected to the tuple's source? */
static __always_inline bool lb_is_connected(struct bpf_sock *sk, const struct bpf_sock_tuple *tuple,
					    u64 version)
{
	/* two bytes of dst_port: kernels before 5.18 have four, with the port in the first two */
	u16 port = *(volatile u16 *)&sk->dst_port;

	if (sk->state != LB_SOCK_ESTABLISHED)
		return false;
	if (version == 4)
		return port == tuple->ipv4.sport && sk->dst_ip4 == tuple->ipv4.saddr;
	return port == tuple->ipv6.sport && sk->dst_ip6[0] == tuple->ipv6.saddr[0] &&
	       sk->dst_ip6[1] == tuple->ipv6.saddr[1] && sk->dst_ip6[2] == tuple->ipv6.saddr[2] &&
	       sk->dst_ip6[3] == tuple->ipv6.saddr[3];
}

/* R21: likewise. */
static __always_inline int lb_decide_udp(struct __sk_buff *skb, struct bpf_sock_tuple *tuple,
					 u64 version)
{
	int answer = LB_CNT_PASS_ON;
	struct bpf_sock *sk;

	sk = bpf_sk_lookup_udp(skb, tuple, LB_TUPLE_LEN(version), LB_NETNS_OF_DEVICE, 0);
	if (!sk)
		return LB_CNT_PASS_ON;
	if (lb_is_connected(sk, tuple, version))
		answer = LB_CNT_ACCEPT_UDP_SOCKET;
	bpf_sk_release(sk);
	return answer;
}

/*
 * Section 6.4: an application needs some time to connect a socket to a new client.
 * Until then this server knows the flow by the datagrams that it delivered.
 */
static __always_inline void lb_remember_fresh(const struct bpf_sock_tuple *tuple)
{
	u64 now = bpf_ktime_get_ns();

	lb_fresh.update((struct lb_flow_key *)tuple, &now);
}

static __always_inline bool lb_is_fresh(const struct bpf_sock_tuple *tuple)
{
	u64 *delivered = lb_fresh.lookup((struct lb_flow_key *)tuple);

	return delivered && bpf_ktime_get_ns() - *delivered < LB_FRESH_NS;
}

/* R16 and R21 for a datagram with a hop list. */
static __always_inline int lb_decide_datagram(struct __sk_buff *skb, struct bpf_sock_tuple *tuple,
					      u64 version, bool last_hop)
{
	int answer = lb_decide_udp(skb, tuple, version);

	if (last_hop) {
		if (answer == LB_CNT_PASS_ON)
			lb_remember_fresh(tuple);
		return LB_CNT_ACCEPT_LAST_HOP;
	}
	if (answer == LB_CNT_PASS_ON && lb_is_fresh(tuple))
		return LB_CNT_ACCEPT_UDP_SOCKET;
	return answer;
}

/* R16 to R21 for TCP and UDP, and an echo request: an accept's counter or LB_CNT_PASS_ON. */
static __always_inline int lb_decide(struct __sk_buff *skb, const struct lb_tunnel *tunnel,
				     const struct lb_inner *inner, u64 version)
{
	int counter = lb_accept_at_once(tunnel, inner);
	u64 at = lb_inner_offset(tunnel);
	void *ip = lb_frame(skb) + at;
	bool is_udp = inner->protocol == LB_PROTO_UDP;
	struct bpf_sock_tuple tuple;

	/* without a hop list the bucket is at rest: nothing to remember */
	if (counter != LB_GO_ON && !(tunnel->hop_count && (is_udp || lb_is_syn(inner))))
		return counter;
	if (ip + LB_IP_LEN(version) > lb_end(skb))
		return LB_CNT_DROP_ERROR;
	lb_fill_tuple(&tuple, ip, version, inner->ports, false);
	if (is_udp)
		return lb_decide_datagram(skb, &tuple, version, counter == LB_CNT_ACCEPT_LAST_HOP);
	if (counter != LB_GO_ON) {
		lb_remember_opening(skb, &tuple, lb_swap32(inner->tcp_sequence), version);
		return counter;
	}
	return lb_decide_tcp(skb, &tuple, at, inner, version);
}

/* ---- acting on the decision ---- */

/* RFC 6040: congestion marks of the outer header, into the inner one. */
static __always_inline int lb_copy_ecn(struct __sk_buff *skb, const struct lb_tunnel *tunnel,
				       u64 version)
{
	u64 at = lb_inner_offset(tunnel), old;
	void *ip = lb_frame(skb) + at;
	u16 checksum;
	int tos;
	u8 byte;

	if (ip + LB_IPV4_LEN > lb_end(skb))
		return LB_CNT_DROP_ERROR;
	old = lb_inner_tos(ip, version);
	tos = lb_ecn_decap(tunnel->tos, old);
	if (tos == LB_ECN_DROP)
		return LB_CNT_DROP_ECN;
	if (tos == old)
		return LB_GO_ON;
	byte = lb_second_byte(ip, version, tos);
	checksum = lb_checksum_after_tos(lb_load16(ip + LB_IP_CHECKSUM_AT), old, tos);
	if (bpf_skb_store_bytes(skb, at + LB_IP_TOS_AT, &byte, 1, BPF_F_RECOMPUTE_CSUM))
		return LB_CNT_DROP_ERROR;
	if (version == 4 &&
	    bpf_skb_store_bytes(skb, at + LB_IP_CHECKSUM_AT, &checksum, 2, BPF_F_RECOMPUTE_CSUM))
		return LB_CNT_DROP_ERROR;
	return LB_GO_ON;
}

/*
 * Removes the wrap.  The stack must know that a packet was IPv4 and is IPv6 now: on
 * kernels before 6.3 only bpf_skb_change_proto() changes that, and it puts 20 more
 * bytes in front.
 */
static __always_inline bool lb_unwrap(struct __sk_buff *skb, const struct lb_tunnel *tunnel,
				      u64 version)
{
	s32 wrap = lb_inner_offset(tunnel) - LB_ETH_LEN;
	u16 type = LB_ETH_IPV6;

	if (version == 4)
		return !bpf_skb_adjust_room(skb, -wrap, BPF_ADJ_ROOM_MAC, BPF_F_ADJ_ROOM_FIXED_GSO);
	if (bpf_skb_change_proto(skb, LB_ETH_IPV6, 0))
		return false;
	wrap += LB_IPV6_LEN - LB_IPV4_LEN;
	return !bpf_skb_adjust_room(skb, -wrap, BPF_ADJ_ROOM_MAC, BPF_F_ADJ_ROOM_FIXED_GSO) &&
	       !bpf_skb_store_bytes(skb, LB_AT_ETHERTYPE, &type, sizeof(type), 0);
}

static __always_inline int lb_accept(struct __sk_buff *skb, const struct lb_tunnel *tunnel,
				     u64 version, int counter)
{
	int reason = lb_copy_ecn(skb, tunnel, version);

	if (reason != LB_GO_ON)
		return lb_exit(reason, LB_TC_SHOT);
	if (!lb_unwrap(skb, tunnel, version))
		return lb_exit(LB_CNT_DROP_ERROR, LB_TC_SHOT);
	return lb_exit(counter, LB_TC_OK);
}

/* The fields of the outer headers that change when a packet is passed on. */
struct lb_rewrite {
	u64 mac_head;
	u32 mac_tail;
	u16 pad;
	u16 checksum; /* from here on as in the frame: bytes 24 to 33 */
	__be32 saddr;
	__be32 daddr;
};
#define LB_REWRITE_MACS_LEN 12
#define LB_REWRITE_IP_LEN   10
_Static_assert(__builtin_offsetof(struct lb_rewrite, pad) == LB_REWRITE_MACS_LEN, "both MACs");
_Static_assert(sizeof(struct lb_rewrite) - __builtin_offsetof(struct lb_rewrite, checksum) ==
		       LB_REWRITE_IP_LEN,
	       "checksum and both addresses");

static __always_inline int lb_store_rewrite(struct __sk_buff *skb, struct lb_rewrite *rewrite,
					    u8 next_hop)
{
	return bpf_skb_store_bytes(skb, 0, &rewrite->mac_head, LB_REWRITE_MACS_LEN, 0) ||
	       bpf_skb_store_bytes(skb, LB_AT_CHECKSUM, &rewrite->checksum, LB_REWRITE_IP_LEN,
				   BPF_F_RECOMPUTE_CSUM) ||
	       bpf_skb_store_bytes(skb, LB_AT_NEXT_HOP, &next_hop, 1, BPF_F_RECOMPUTE_CSUM);
}

/* R23 to R25. */
static __always_inline int lb_pass_on(struct __sk_buff *skb, const struct lb_state *state,
				      const struct lb_tunnel *tunnel)
{
	void *frame = lb_frame(skb),
	     *at = frame + LB_AT_HOPS + (tunnel->next_hop & LB_MAX_HOPS) * LB_HOP_LEN;
	struct lb_rewrite rewrite = {};
	const struct lb_dip *dip;
	struct lb_macs macs;
	u64 hop;

	if (frame + LB_AT_HOPS > lb_end(skb) || at + LB_HOP_LEN > lb_end(skb))
		return lb_exit(LB_CNT_DROP_ERROR, LB_TC_SHOT);
	hop = lb_load32(at);
	dip = &state->dip[(lb_peer_word(state, hop) >> 16) % LB_MAX_DIPS];
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

/* The end of every GUE packet for this server. */
static __always_inline int lb_act(struct __sk_buff *skb, const struct lb_state *state,
				  const struct lb_tunnel *tunnel, u64 version, int counter)
{
	if (counter == LB_CNT_PASS_ON)
		return lb_pass_on(skb, state, tunnel);
	if (lb_is_accept(counter))
		return lb_accept(skb, tunnel, version, counter);
	return lb_exit(counter, LB_TC_SHOT);
}

/* TCP or UDP right behind an IP header without options; redirector_rare.bpf.c has all others. */
static __always_inline int lb_redirect_plain(struct __sk_buff *skb, const struct lb_state *state,
					     const struct lb_tunnel *tunnel, u64 version)
{
	const void *ip = lb_frame(skb) + lb_inner_offset(tunnel), *end = lb_end(skb);
	struct lb_inner inner = { .length = lb_inner_length(tunnel) };
	int reason = lb_check_inner(state, ip, end, tunnel, version);

	if (reason == LB_CNT_ACCEPT_PATH_PROBE)
		return lb_accept(skb, tunnel, version, reason);
	if (reason != LB_GO_ON)
		return lb_exit(reason, LB_TC_SHOT);
	if (ip + LB_IP_LEN(version) > end)
		return lb_exit(LB_CNT_DROP_ERROR, LB_TC_SHOT);
	if (lb_unlikely(!lb_inner_plain(ip, version, &inner))) {
		lb_redirector_programs.call(skb, LB_TO_REDIRECTOR_RARE);
		return lb_exit(LB_CNT_DROP_NO_STAGE, LB_TC_SHOT);
	}
	reason = inner.protocol == LB_PROTO_TCP ? lb_read_tcp(ip, end, &inner)
						: lb_read_udp(ip, end, &inner);
	if (reason == LB_GO_ON)
		reason = lb_decide(skb, tunnel, &inner, version);
	return lb_act(skb, state, tunnel, version, reason);
}

static __always_inline int lb_redirect(struct __sk_buff *skb)
{
	const struct lb_state *state = lb_get_state();
	struct lb_tunnel tunnel;
	int reason;

	if (!state || !lb_for_redirector(skb, state))
		return lb_exit(LB_CNT_OK_NOT_GUE, LB_TC_OK);
	if (lb_make_linear(skb, LB_HEADERS_LEN))
		return lb_exit(LB_CNT_DROP_ERROR, LB_TC_SHOT);
	reason = lb_check_tunnel(skb, state, &tunnel);
	if (reason != LB_GO_ON)
		return lb_exit(reason, LB_TC_SHOT);
	if (lb_likely(tunnel.proto == LB_PROTO_IPV4))
		return lb_redirect_plain(skb, state, &tunnel, 4);
	return lb_redirect_plain(skb, state, &tunnel, 6);
}

int lb_redirector(struct __sk_buff *skb)
{
	int verdict;

	lb_trace_arrival(skb);
	verdict = lb_redirect(skb);
	lb_trace_tc(skb, verdict);
	return verdict;
}

#endif
