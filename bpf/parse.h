/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Where things are in an ordinary frame: no tags, no options or extension
 * headers, no fragment, TCP or UDP.  All others are the stage's.
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
#define LB_ETH_IPV4	   0x0008
#define LB_ETH_IPV6	   0xdd86
#define LB_ETH_VLAN	   0x0081
#define LB_ETH_QINQ	   0xa888
#define LB_FRAGMENT_MASK   0xff3f   /* MF and the offset, not DF */
#define LB_VERSION_MASK	   0xf0ffff /* EtherType, version */
#define LB_IS_IPV4	   (LB_ETH_IPV4 | 0x40 << 16)
#define LB_NO_OPTIONS_MASK 0xffffff /* EtherType, version, header length */
#define LB_NO_OPTIONS4	   (LB_ETH_IPV4 | 0x45 << 16)
#define LB_IS_IPV6	   (LB_ETH_IPV6 | 0x60 << 16)

LB_INLINE int lb_is_tcp_or_udp(__u64 protocol)
{
	return protocol == LB_PROTO_TCP || protocol == LB_PROTO_UDP;
}

LB_INLINE int lb_is_fragment4(const void *frame)
{
	return lb_load16(frame + LB_AT_FRAGMENT) & LB_FRAGMENT_MASK;
}

/* The frame has 54 bytes, EtherType and version are right. */
LB_INLINE int lb_is_ordinary6(const void *frame, const void *end)
{
	return frame + LB_ETH_LEN + LB_IPV6_LEN + LB_TCP_LEN <= end &&
	       lb_is_tcp_or_udp(lb_load8(frame + LB_AT_PROTOCOL6));
}

#endif
