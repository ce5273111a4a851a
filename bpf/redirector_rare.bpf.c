/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The redirector's program for rare packets: IPv4 options, IPv6 extension headers,
 * ICMP, fragments (docs/wire.md, section 6, R10 to R22, 6.1, 6.2).  redirector.bpf.c
 * calls it for a packet that passed R9, and it begins anew.
 */
#ifndef LB_REDIRECTOR_RARE_BPF_C
#define LB_REDIRECTOR_RARE_BPF_C

#include "redirector.bpf.c"

#define LB_RARE_LEN (LB_TUNNEL_LEN + LB_MAX_READ)

/* R10 and R11; R12 but for the decision. */
static __always_inline int lb_check_headers(const void *ip, const void *end, u64 version,
					    struct lb_headers *headers, struct lb_inner *inner)
{
	int result = version == 4 ? lb_read_headers4(ip, inner->length, headers)
				  : lb_read_headers6(ip, end, inner->length, headers);

	if (result == LB_HEADERS_TOO_MANY)
		return LB_CNT_DROP_INNER_EXT_HEADERS;
	if (result != LB_HEADERS_OK)
		return LB_CNT_DROP_INNER_MALFORMED;
	inner->l4 = headers->length;
	inner->protocol = headers->protocol;
	if (headers->fragment == LB_FRAGMENT_NONE)
		return LB_GO_ON;
	if (headers->fragment == LB_FRAGMENT_LATER)
		return lb_key_protocol_ok(version, headers->key_protocol)
			       ? LB_GO_ON
			       : LB_CNT_DROP_INNER_PROTOCOL;
	if (!lb_is_tcp_or_udp(inner->protocol))
		return LB_CNT_DROP_INNER_PROTOCOL;
	return LB_GO_ON;
}

/* R12 and section 6.2 for a later fragment. */
static __always_inline int lb_recall(const struct lb_tunnel *tunnel,
				     const struct lb_fragment_key *key)
{
	u64 *decision;

	if (tunnel->next_hop == tunnel->hop_count)
		return LB_CNT_ACCEPT_LAST_HOP;
	decision = lb_decisions.lookup((struct lb_fragment_key *)key);
	return decision ? (int)*decision : LB_CNT_DROP_INNER_FRAGMENT;
}

static __always_inline void lb_remember(const struct lb_fragment_key *key, u64 decision)
{
	lb_decisions.update((struct lb_fragment_key *)key, &decision);
}

/* R22: does a socket have the flow of the embedded packet? */
static __always_inline int lb_decide_embedded(struct __sk_buff *skb, const void *embedded_ip,
					      const struct lb_embedded *embedded, u64 version)
{
	struct bpf_sock_tuple tuple;
	bool found = false;
	struct bpf_sock *sk;

	lb_fill_tuple(&tuple, embedded_ip, version, embedded->ports, true);
	if (embedded->protocol == LB_PROTO_UDP) {
		found = lb_decide_udp(skb, &tuple, version) == LB_CNT_ACCEPT_UDP_SOCKET;
		return found ? LB_CNT_ACCEPT_ICMP_ERROR : LB_CNT_PASS_ON;
	}
	sk = bpf_skc_lookup_tcp(skb, &tuple, LB_TUPLE_LEN(version), LB_NETNS_OF_DEVICE, 0);
	if (!sk)
		return LB_CNT_PASS_ON;
	found = sk->state != LB_SOCK_LISTEN && sk->state != LB_SOCK_TIME_WAIT &&
		sk->state != LB_SOCK_REQUEST;
	bpf_sk_release(sk);
	return found ? LB_CNT_ACCEPT_ICMP_ERROR : LB_CNT_PASS_ON;
}

/* R15, R16 and R22. */
static __always_inline int lb_decide_error(struct __sk_buff *skb, const struct lb_tunnel *tunnel,
					   const struct lb_inner *inner, u64 version)
{
	const void *ip = lb_frame(skb) + lb_inner_offset(tunnel), *end = lb_end(skb), *header;
	u64 at = inner->l4 + LB_ICMP_LEN;
	struct lb_embedded embedded;
	int reason;

	if (ip + LB_IP_LEN(version) > end)
		return LB_CNT_DROP_ERROR;
	reason = lb_embedded_counter(
		lb_read_embedded(ip, end, inner->length, at, version, &embedded));
	if (reason != LB_GO_ON)
		return reason;
	if (tunnel->next_hop == tunnel->hop_count)
		return LB_CNT_ACCEPT_LAST_HOP;
	header = lb_at(ip, end, inner->length, at, LB_IP_LEN(version));
	if (!header)
		return LB_CNT_DROP_ERROR;
	return lb_decide_embedded(skb, header, &embedded, version);
}

/* R7 to R22: an accept's counter, a drop's, or LB_CNT_PASS_ON. */
static __always_inline int lb_decide_rare(struct __sk_buff *skb, const struct lb_state *state,
					  const struct lb_tunnel *tunnel, u64 version)
{
	const void *ip = lb_frame(skb) + lb_inner_offset(tunnel), *end = lb_end(skb);
	struct lb_inner inner = { .length = lb_inner_length(tunnel) };
	struct lb_headers headers;
	struct lb_fragment_key key;
	int reason = lb_check_inner(state, ip, end, tunnel, version);

	if (reason != LB_GO_ON)
		return reason;
	if (ip + LB_IP_LEN(version) > end)
		return LB_CNT_DROP_ERROR;
	reason = lb_check_headers(ip, end, version, &headers, &inner);
	if (reason != LB_GO_ON)
		return reason;
	lb_fill_fragment_key(ip, version, &headers, &key);
	if (headers.fragment == LB_FRAGMENT_LATER)
		return lb_recall(tunnel, &key);
	reason = lb_read_upper(ip, end, version, &inner);
	if (reason != LB_GO_ON)
		return reason;
	if (inner.is_error)
		return lb_decide_error(skb, tunnel, &inner, version);
	reason = lb_decide(skb, tunnel, &inner, version);
	if (headers.fragment == LB_FRAGMENT_FIRST && reason != LB_CNT_ACCEPT_LAST_HOP)
		lb_remember(&key, reason);
	return reason;
}

static __always_inline int lb_redirect_rare(struct __sk_buff *skb)
{
	const struct lb_state *state = lb_get_state();
	struct lb_tunnel tunnel;
	int reason;

	if (!state || lb_make_linear(skb, LB_RARE_LEN))
		return lb_exit(LB_CNT_DROP_ERROR, LB_TC_SHOT);
	reason = lb_check_tunnel(skb, state, &tunnel);
	if (reason != LB_GO_ON)
		return lb_exit(reason, LB_TC_SHOT);
	if (tunnel.proto == LB_PROTO_IPV4)
		return lb_act(skb, state, &tunnel, 4, lb_decide_rare(skb, state, &tunnel, 4));
	return lb_act(skb, state, &tunnel, 6, lb_decide_rare(skb, state, &tunnel, 6));
}

int lb_redirector_rare(struct __sk_buff *skb)
{
	int verdict;

	lb_trace_arrival(skb);
	verdict = lb_redirect_rare(skb);
	lb_trace_tc(skb, verdict);
	return verdict;
}

#endif
