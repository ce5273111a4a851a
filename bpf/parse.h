/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What the forwarder needs of a packet (docs/wire.md, section 4), and reading it
 * from an ordinary one: no tags, no options or extension headers, no fragment,
 * TCP or UDP.  All others are the stage's.
 */
#ifndef LB_PARSE_H
#define LB_PARSE_H

#include "bytes.h"

/* Offsets in a frame without tags */
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

#define LB_AT_PAYLOAD6_LEN 18
#define LB_AT_PROTOCOL6	   20
#define LB_AT_SADDR6	   22
#define LB_AT_DADDR6	   38
#define LB_AT_SPORT6	   54
#define LB_AT_DPORT6	   56
#define LB_IPV6_LEN	   40

/* EtherTypes and masks as a little-endian load sees them */
#define LB_ETH_IPV4	 0x0008
#define LB_ETH_IPV6	 0xdd86
#define LB_ETH_VLAN	 0x0081
#define LB_ETH_QINQ	 0xa888
#define LB_FRAGMENT_MASK 0xff3f	  /* MF and the offset, not DF */
#define LB_VERSION_MASK	 0xf0ffff /* EtherType, version */
#define LB_IS_IPV4	 (LB_ETH_IPV4 | 0x40 << 16)
#define LB_IS_IPV6	 (LB_ETH_IPV6 | 0x60 << 16)

struct lb_packet {
	__u64 version;	/* 4 or 6 */
	__u64 saddr[2]; /* IPv4: in the first word, source and destination together */
	__u64 daddr[2]; /* IPv6 only */
	__u64 ports;	/* sport, dport: as one word from the frame */
	__u64 protocol;
	__u64 inner_len; /* of the IP packet, host order */
	__u64 read_len;	 /* what was read of it, which it must not be shorter than */
};

LB_INLINE __u64 lb_transport_len(__u64 protocol)
{
	return protocol == LB_PROTO_TCP ? LB_TCP_LEN : LB_UDP_LEN;
}

LB_INLINE int lb_is_tcp_or_udp(__u64 protocol)
{
	return protocol == LB_PROTO_TCP || protocol == LB_PROTO_UDP;
}

/* IPv4 that is ordinary: true.  The frame has 34 bytes, EtherType and version are right. */
LB_INLINE int lb_parse4(const void *frame, const void *end, struct lb_packet *packet)
{
	if (frame + LB_ETH_LEN + LB_IPV4_LEN + LB_TCP_LEN > end)
		return 0;
	packet->protocol = lb_load8(frame + LB_AT_PROTOCOL);
	if (lb_load8(frame + LB_AT_VERSION) != 0x45 ||
	    lb_load16(frame + LB_AT_FRAGMENT) & LB_FRAGMENT_MASK ||
	    !lb_is_tcp_or_udp(packet->protocol))
		return 0;
	packet->version = 4;
	packet->saddr[0] = lb_load64(frame + LB_AT_SADDR);
	packet->ports = lb_load32(frame + LB_AT_SPORT);
	packet->inner_len = lb_swap16(lb_load16(frame + LB_AT_TOTAL_LEN));
	packet->read_len = LB_IPV4_LEN + lb_transport_len(packet->protocol);
	return 1;
}

/* IPv6 likewise: the frame has 54 bytes. */
LB_INLINE int lb_parse6(const void *frame, const void *end, struct lb_packet *packet)
{
	packet->protocol = lb_load8(frame + LB_AT_PROTOCOL6);
	if (frame + LB_ETH_LEN + LB_IPV6_LEN + LB_TCP_LEN > end ||
	    !lb_is_tcp_or_udp(packet->protocol))
		return 0;
	packet->version = 6;
	packet->saddr[0] = lb_load64(frame + LB_AT_SADDR6);
	packet->saddr[1] = lb_load64(frame + LB_AT_SADDR6 + 8);
	packet->daddr[0] = lb_load64(frame + LB_AT_DADDR6);
	packet->daddr[1] = lb_load64(frame + LB_AT_DADDR6 + 8);
	packet->ports = lb_load32(frame + LB_AT_SPORT6);
	packet->inner_len = lb_swap16(lb_load16(frame + LB_AT_PAYLOAD6_LEN)) + LB_IPV6_LEN;
	packet->read_len = LB_IPV6_LEN + lb_transport_len(packet->protocol);
	return 1;
}

/* F14: does the inner length cover what was read and lie inside the frame? */
LB_INLINE int lb_inner_len_ok(const struct lb_packet *packet, __u64 room)
{
	return packet->inner_len >= packet->read_len && packet->inner_len <= room;
}

#endif
