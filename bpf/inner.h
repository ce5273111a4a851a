/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The packet inside GUE (docs/wire.md, section 6, R8 to R13).
 */
#ifndef LB_INNER_H
#define LB_INNER_H

#include "gue.h"

#define LB_ICMP_LEN	8
#define LB_ICMP_ECHO	8
#define LB_TCP_FLAGS_AT 13
#define LB_TCP_SYN	0x02
#define LB_TCP_RST	0x04
#define LB_TCP_ACK	0x10

/* As offsets from the inner IP header */
#define LB_IN(offset) ((offset) - LB_ETH_LEN)

struct lb_inner {
	__u64 saddr;
	__u64 daddr;
	__u64 ports; /* sport, dport as they lie in the frame; TCP and UDP only */
	__u64 protocol;
	__u64 tos;
	__u64 tcp_flags;
};

#define LB_INNER_OK (-1)

/* R8: is there an IPv4 packet, of the length that the outer header leaves it? */
LB_INLINE int lb_inner_ip_ok(const void *ip, const void *end, const struct lb_tunnel *tunnel)
{
	__u64 version, header_len, total;

	if (ip + LB_IPV4_LEN > end)
		return 0;
	version = lb_load8(ip);
	header_len = (version & 0xf) * 4;
	total = lb_swap16(lb_load16(ip + LB_IN(LB_AT_TOTAL_LEN)));
	return version >> 4 == 4 && header_len >= LB_IPV4_LEN && total >= header_len &&
	       total == tunnel->total_len - LB_WRAP_LEN - tunnel->hop_count * LB_HOP_LEN;
}

/* R12, R13: the transport header; `length` is what the inner total length leaves for it. */
LB_INLINE int lb_read_transport(const void *l4, const void *end, __u64 length,
				struct lb_inner *inner)
{
	__u64 data_offset;

	if (inner->protocol == LB_PROTO_TCP) {
		if (length < LB_TCP_LEN || l4 + LB_TCP_LEN > end)
			return LB_CNT_DROP_INNER_MALFORMED;
		data_offset = (lb_load8(l4 + 12) >> 4) * 4;
		if (data_offset < LB_TCP_LEN || data_offset > length)
			return LB_CNT_DROP_INNER_MALFORMED;
		inner->tcp_flags = lb_load8(l4 + LB_TCP_FLAGS_AT);
	} else if (inner->protocol == LB_PROTO_UDP) {
		if (length < LB_UDP_LEN || l4 + LB_UDP_LEN > end)
			return LB_CNT_DROP_INNER_MALFORMED;
	} else if (inner->protocol == LB_PROTO_ICMP) {
		if (length < LB_ICMP_LEN || l4 + LB_ICMP_LEN > end)
			return LB_CNT_DROP_INNER_MALFORMED;
		/* type and code */
		return lb_load16(l4) == LB_ICMP_ECHO ? LB_INNER_OK : LB_CNT_DROP_INNER_PROTOCOL;
	} else {
		return LB_CNT_DROP_INNER_PROTOCOL;
	}
	inner->ports = lb_load32(l4);
	return LB_INNER_OK;
}

/* R10 to R13, for a packet that passed lb_inner_ip_ok(): LB_INNER_OK or a counter. */
LB_INLINE int lb_read_inner(const void *ip, const void *end, struct lb_inner *inner)
{
	__u64 total;

	if (ip + LB_IPV4_LEN > end)
		return LB_CNT_DROP_INNER_MALFORMED;
	if (lb_load8(ip) != 0x45)
		return LB_CNT_DROP_INNER_OPTIONS;
	if (lb_load16(ip + LB_IN(LB_AT_FRAGMENT)) & LB_FRAGMENT_MASK)
		return LB_CNT_DROP_INNER_FRAGMENT;
	total = lb_swap16(lb_load16(ip + LB_IN(LB_AT_TOTAL_LEN)));
	inner->saddr = lb_load32(ip + LB_IN(LB_AT_SADDR));
	inner->daddr = lb_load32(ip + LB_IN(LB_AT_DADDR));
	inner->protocol = lb_load8(ip + LB_IN(LB_AT_PROTOCOL));
	inner->tos = lb_load8(ip + LB_IN(LB_AT_TOS));
	inner->tcp_flags = 0;
	inner->ports = 0;
	return lb_read_transport(ip + LB_IPV4_LEN, end, total - LB_IPV4_LEN, inner);
}

LB_INLINE int lb_is_syn(const struct lb_inner *inner)
{
	return inner->protocol == LB_PROTO_TCP &&
	       (inner->tcp_flags & (LB_TCP_SYN | LB_TCP_ACK | LB_TCP_RST)) == LB_TCP_SYN;
}

/* Could it be the ACK that ends a handshake made with a SYN cookie? */
LB_INLINE int lb_is_cookie_ack(const struct lb_inner *inner)
{
	return (inner->tcp_flags & (LB_TCP_SYN | LB_TCP_ACK | LB_TCP_RST)) == LB_TCP_ACK;
}

#define LB_ASK_SOCKETS (-1)

/* R14 to R16: the counter of an accept that needs no socket, or LB_ASK_SOCKETS. */
LB_INLINE int lb_accept_at_once(const struct lb_tunnel *tunnel, const struct lb_inner *inner)
{
	if (tunnel->next_hop == tunnel->hop_count)
		return LB_CNT_ACCEPT_LAST_HOP;
	if (inner->protocol == LB_PROTO_ICMP)
		return LB_CNT_ACCEPT_ECHO;
	if (lb_is_syn(inner) && !tunnel->forward_syn)
		return LB_CNT_ACCEPT_SYN;
	return LB_ASK_SOCKETS;
}

#endif
