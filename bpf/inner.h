/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The packet inside GUE (docs/wire.md, section 6, R7 to R18; section 7.2).  A `version` is a
 * constant, 4 or 6: there is code for each.
 */
#ifndef LB_INNER_H
#define LB_INNER_H

#include "ecn.h"
#include "gue.h"
#include "headers.h"

#define LB_TCP_SEQ_AT	4
#define LB_TCP_ACK_AT	8
#define LB_TCP_DOFF_AT	12
#define LB_TCP_FLAGS_AT 13
#define LB_TCP_SYN	0x02
#define LB_TCP_RST	0x04
#define LB_TCP_ACK	0x10

struct lb_inner {
	__u64 length;
	__u64 l4;	/* offset of its upper layer from its IP header */
	__u64 ports;	/* sport, dport as they lie in the frame; TCP and UDP only */
	__u64 protocol; /* of the upper layer */
	__u64 tcp_flags;
	__u64 tcp_sequence; /* both numbers as they lie in the frame */
	__u64 tcp_acknowledges;
	__u64 is_error; /* an ICMP error */
};

/* Not decided yet; any other result is a counter. */
#define LB_GO_ON (-1)

/* R7 and R8: is there a packet, as long as the outer header makes it? */
LB_INLINE int lb_inner_ip_ok(const void *ip, const void *end, const struct lb_tunnel *tunnel,
			     __u64 version)
{
	__u64 length = lb_inner_length(tunnel), first, header_len;

	if (length < LB_IP_LEN(version) || ip + LB_IP_LEN(version) > end)
		return 0;
	first = lb_load8(ip);
	if (first >> 4 != version)
		return 0;
	if (version == 6)
		return lb_swap16(lb_load16(ip + LB_IP6_PAYLOAD_AT)) + LB_IPV6_LEN == length;
	header_len = (first & 0xf) * 4;
	return header_len >= LB_IPV4_LEN && header_len <= length &&
	       lb_swap16(lb_load16(ip + LB_IP_TOTAL_LEN_AT)) == length;
}

/*
 * Is it ordinary: TCP or UDP right behind an IP header without options?  The program
 * for rare packets reads all others.
 */
LB_INLINE int lb_inner_plain(const void *ip, __u64 version, struct lb_inner *inner)
{
	inner->l4 = LB_IP_LEN(version);
	inner->protocol = lb_load8(ip + (version == 4 ? LB_IP_PROTOCOL_AT : LB_IP6_NEXT_AT));
	if (!lb_is_tcp_or_udp(inner->protocol))
		return 0;
	if (version == 6)
		return 1;
	return lb_load8(ip) == LB_IPV4_PLAIN &&
	       !(lb_load16(ip + LB_IP_FRAGMENT_AT) & LB_IP_FRAGMENT_MASK);
}

/*
 * Section 7.2: another server's probe of the path, for an inner packet that passed R7.  Its
 * answer goes to who sent it, and to nobody else.
 */
LB_INLINE int lb_is_path_probe(const void *ip, const void *end, const struct lb_config *config,
			       const struct lb_tunnel *tunnel)
{
	const void *icmp = lb_at(ip, end, lb_inner_length(tunnel), LB_IPV4_LEN, LB_ICMP_LEN);

	if (!icmp || tunnel->hop_count || lb_load8(ip) != LB_IPV4_PLAIN)
		return 0;
	if (lb_load8(ip + LB_IP_PROTOCOL_AT) != LB_PROTO_ICMP ||
	    lb_load16(ip + LB_IP_FRAGMENT_AT) & LB_IP_FRAGMENT_MASK)
		return 0;
	/* type and code: a little-endian load has the code, 0, in the high byte */
	return lb_load16(icmp) == LB_ICMP_ECHO(4) &&
	       lb_load32(ip + LB_IP_DADDR_AT) == config->dip &&
	       lb_load32(ip + LB_IP_SADDR_AT) == tunnel->saddr;
}

/* R13 for TCP. */
LB_INLINE int lb_read_tcp(const void *ip, const void *end, struct lb_inner *inner)
{
	const void *l4 = lb_at(ip, end, inner->length, inner->l4, LB_TCP_LEN);
	__u64 data_offset;

	if (!l4)
		return LB_CNT_DROP_INNER_MALFORMED;
	data_offset = (lb_load8(l4 + LB_TCP_DOFF_AT) >> 4) * 4;
	if (data_offset < LB_TCP_LEN || inner->l4 + data_offset > inner->length)
		return LB_CNT_DROP_INNER_MALFORMED;
	inner->tcp_flags = lb_load8(l4 + LB_TCP_FLAGS_AT);
	inner->tcp_sequence = lb_load32(l4 + LB_TCP_SEQ_AT);
	inner->tcp_acknowledges = lb_load32(l4 + LB_TCP_ACK_AT);
	inner->ports = lb_load32(l4);
	return LB_GO_ON;
}

/* R13 for UDP. */
LB_INLINE int lb_read_udp(const void *ip, const void *end, struct lb_inner *inner)
{
	const void *l4 = lb_at(ip, end, inner->length, inner->l4, LB_UDP_LEN);

	if (!l4)
		return LB_CNT_DROP_INNER_MALFORMED;
	inner->ports = lb_load32(l4);
	return LB_GO_ON;
}

/* R13 and R14 for ICMP. */
LB_INLINE int lb_read_icmp(const void *ip, const void *end, __u64 version, struct lb_inner *inner)
{
	const void *l4 = lb_at(ip, end, inner->length, inner->l4, LB_ICMP_LEN);
	__u64 type, code;

	if (!l4)
		return LB_CNT_DROP_INNER_MALFORMED;
	type = lb_load8(l4);
	code = lb_load8(l4 + 1);
	inner->is_error = lb_icmp_is_error(version, type);
	if (inner->is_error || (type == LB_ICMP_ECHO(version) && !code))
		return LB_GO_ON;
	return LB_CNT_DROP_INNER_PROTOCOL;
}

/* R13 and R14. */
LB_INLINE int lb_read_upper(const void *ip, const void *end, __u64 version, struct lb_inner *inner)
{
	if (inner->protocol == LB_PROTO_TCP)
		return lb_read_tcp(ip, end, inner);
	if (inner->protocol == LB_PROTO_UDP)
		return lb_read_udp(ip, end, inner);
	if (inner->protocol == LB_ICMP_PROTO(version))
		return lb_read_icmp(ip, end, version, inner);
	return LB_CNT_DROP_INNER_PROTOCOL;
}

/* J1 to J5, as a counter. */
LB_INLINE int lb_embedded_counter(int result)
{
	switch (result) {
	case LB_EMBEDDED_OK:
		return LB_GO_ON;
	case LB_EMBEDDED_SOURCE:
		return LB_CNT_DROP_NOT_VIP;
	case LB_EMBEDDED_EXT_HEADERS:
		return LB_CNT_DROP_INNER_EXT_HEADERS;
	case LB_EMBEDDED_OTHER:
		return LB_CNT_DROP_INNER_PROTOCOL;
	default:
		return LB_CNT_DROP_INNER_MALFORMED;
	}
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

/* R16 to R18: the counter of an accept that needs no socket, or LB_GO_ON. */
LB_INLINE int lb_accept_at_once(const struct lb_tunnel *tunnel, const struct lb_inner *inner)
{
	if (tunnel->next_hop == tunnel->hop_count)
		return LB_CNT_ACCEPT_LAST_HOP;
	if (!lb_is_tcp_or_udp(inner->protocol) && !inner->is_error)
		return LB_CNT_ACCEPT_ECHO;
	if (lb_is_syn(inner) && !tunnel->forward_syn)
		return LB_CNT_ACCEPT_SYN;
	return LB_GO_ON;
}

_Static_assert(LB_CNT_ACCEPT_PATH_PROBE - LB_CNT_ACCEPT_LAST_HOP == 7, "all that accept, no other");

LB_INLINE int lb_is_accept(int counter)
{
	return counter >= LB_CNT_ACCEPT_LAST_HOP && counter <= LB_CNT_ACCEPT_PATH_PROBE;
}

/* IPv4's TOS, IPv6's traffic class. */
LB_INLINE __u64 lb_inner_tos(const void *ip, __u64 version)
{
	if (version == 4)
		return lb_load8(ip + LB_IP_TOS_AT);
	return (lb_load8(ip) << 4 | lb_load8(ip + 1) >> 4) & 0xff;
}

/* The header's second byte for another TOS, of which only ECN differs. */
LB_INLINE __u64 lb_second_byte(const void *ip, __u64 version, __u64 tos)
{
	if (version == 4)
		return tos;
	return (lb_load8(ip + 1) & 0x0f) | (tos & 0x0f) << 4;
}

#endif
