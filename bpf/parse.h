/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * From a frame to what the forwarder needs of it (docs/wire.md, section 4,
 * F1 to F11).  The ordinary packet takes lb_parse_fast(); all others
 * lb_parse_slow(), which finds the reason, in the page's order.
 */
#ifndef LB_PARSE_H
#define LB_PARSE_H

#include "bytes.h"

#define LB_AT_ETHERTYPE 12
#define LB_AT_VERSION	14
#define LB_AT_TOS	15
#define LB_AT_TOTAL_LEN 16
#define LB_AT_FRAGMENT	20
#define LB_AT_PROTOCOL	23
#define LB_AT_SADDR	26
#define LB_AT_DADDR	30
#define LB_AT_SPORT	34
#define LB_AT_DPORT	36

/* EtherTypes and masks as a little-endian load sees them */
#define LB_ETH_IPV4	 0x0008
#define LB_ETH_IPV6	 0xdd86
#define LB_ETH_VLAN	 0x0081
#define LB_ETH_QINQ	 0xa888
#define LB_FRAGMENT_MASK 0xff3f /* MF and the offset, not DF */

struct lb_packet {
	__u64 addresses; /* saddr, daddr: as one word from the frame */
	__u64 ports;	 /* sport, dport: likewise */
	__u64 daddr;
	__u64 dport; /* as it lies in the frame */
	__u64 protocol;
	__u64 total_len; /* of the IP packet, host order */
};

/* Fills in a packet whose headers are known to lie inside the frame. */
LB_INLINE void lb_read_packet(const void *frame, __u64 protocol, struct lb_packet *packet)
{
	packet->addresses = lb_load64(frame + LB_AT_SADDR);
	packet->daddr = lb_load32(frame + LB_AT_DADDR);
	packet->ports = lb_load32(frame + LB_AT_SPORT);
	packet->dport = lb_load16(frame + LB_AT_DPORT);
	packet->protocol = protocol;
	packet->total_len = lb_swap16(lb_load16(frame + LB_AT_TOTAL_LEN));
}

/* IPv4 without options, not a fragment, TCP or UDP, room for a whole TCP header: true. */
LB_INLINE int lb_parse_fast(const void *frame, const void *end, struct lb_packet *packet)
{
	__u64 protocol;

	if (frame + LB_ETH_LEN + LB_IPV4_LEN + LB_TCP_LEN > end)
		return 0;
	/* EtherType, version, ihl in one word; then fragment, TTL, protocol */
	if ((lb_load32(frame + LB_AT_ETHERTYPE) & 0xffffff) != (LB_ETH_IPV4 | 0x45 << 16))
		return 0;
	protocol = lb_load8(frame + LB_AT_PROTOCOL);
	if (lb_load16(frame + LB_AT_FRAGMENT) & LB_FRAGMENT_MASK)
		return 0;
	if (protocol != LB_PROTO_TCP && protocol != LB_PROTO_UDP)
		return 0;
	lb_read_packet(frame, protocol, packet);
	return 1;
}

/* What lb_parse_slow() returns: a counter, perhaps only for packets to a VIP, or "go on". */
#define LB_PARSED (-1)
#define LB_IF_VIP 0x100

LB_INLINE int lb_parse_ethertype(__u64 type)
{
	if (type == LB_ETH_VLAN || type == LB_ETH_QINQ)
		return LB_CNT_PASS_VLAN;
	if (type == LB_ETH_IPV6)
		return LB_CNT_PASS_IPV6;
	if (type != LB_ETH_IPV4)
		return LB_CNT_PASS_NOT_IP;
	return LB_PARSED;
}

/*
 * F1 to F11 for any frame.  A counter with LB_IF_VIP holds if the destination
 * (frame + LB_AT_DADDR, inside the frame then) is a VIP of ours; otherwise the
 * packet is LB_CNT_PASS_NO_SERVICE.
 */
LB_INLINE int lb_parse_slow(const void *frame, const void *end, struct lb_packet *packet)
{
	__u64 protocol, ihl, version;
	int reason;

	if (frame + LB_ETH_LEN > end)
		return LB_CNT_PASS_NOT_IP;
	reason = lb_parse_ethertype(lb_load16(frame + LB_AT_ETHERTYPE));
	if (reason != LB_PARSED)
		return reason;
	if (frame + LB_ETH_LEN + LB_IPV4_LEN > end)
		return LB_CNT_PASS_MALFORMED;
	version = lb_load8(frame + LB_AT_VERSION);
	ihl = version & 0xf;
	if (version >> 4 != 4)
		return LB_CNT_PASS_MALFORMED;
	if (ihl != 5)
		return LB_IF_VIP | (ihl < 5 ? LB_CNT_DROP_MALFORMED : LB_CNT_DROP_IP_OPTIONS);
	if (lb_load16(frame + LB_AT_FRAGMENT) & LB_FRAGMENT_MASK)
		return LB_IF_VIP | LB_CNT_DROP_FRAGMENT;
	protocol = lb_load8(frame + LB_AT_PROTOCOL);
	if (protocol == LB_PROTO_ICMP)
		return LB_IF_VIP | LB_CNT_PASS_VIP_ICMP;
	if (protocol != LB_PROTO_TCP && protocol != LB_PROTO_UDP)
		return LB_CNT_PASS_NO_SERVICE;
	if (frame + LB_ETH_LEN + LB_IPV4_LEN + LB_UDP_LEN > end ||
	    (protocol == LB_PROTO_TCP && frame + LB_ETH_LEN + LB_IPV4_LEN + LB_TCP_LEN > end))
		return LB_IF_VIP | LB_CNT_DROP_MALFORMED;
	lb_read_packet(frame, protocol, packet);
	return LB_PARSED;
}

/* F14: does the total length cover its headers and lie inside the frame? */
LB_INLINE int lb_total_len_ok(const struct lb_packet *packet, __u64 frame_len)
{
	__u64 least = packet->protocol == LB_PROTO_TCP ? LB_IPV4_LEN + LB_TCP_LEN
						       : LB_IPV4_LEN + LB_UDP_LEN;

	return packet->total_len >= least && packet->total_len + LB_ETH_LEN <= frame_len;
}

#endif
