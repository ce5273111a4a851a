/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Offsets in an ordinary frame: no tags, no options or extension headers, no
 * fragment, TCP or UDP.  The programs for rare packets read all others.
 */
#ifndef LB_FRAME_H
#define LB_FRAME_H

#include "ip.h"

#define LB_AT_ETHERTYPE 12
#define LB_AT_VERSION	LB_ETH_LEN
#define LB_AT_TOS	(LB_ETH_LEN + LB_IP_TOS_AT)
#define LB_AT_TOTAL_LEN (LB_ETH_LEN + LB_IP_TOTAL_LEN_AT)
#define LB_AT_FRAGMENT	(LB_ETH_LEN + LB_IP_FRAGMENT_AT)
#define LB_AT_PROTOCOL	(LB_ETH_LEN + LB_IP_PROTOCOL_AT)
#define LB_AT_CHECKSUM	(LB_ETH_LEN + LB_IP_CHECKSUM_AT)
#define LB_AT_SADDR	(LB_ETH_LEN + LB_IP_SADDR_AT)
#define LB_AT_DADDR	(LB_ETH_LEN + LB_IP_DADDR_AT)
#define LB_AT_SPORT	(LB_ETH_LEN + LB_IPV4_LEN)
#define LB_AT_DPORT	(LB_AT_SPORT + LB_DPORT_AT)

#define LB_AT_PAYLOAD6_LEN (LB_ETH_LEN + LB_IP6_PAYLOAD_AT)
#define LB_AT_PROTOCOL6	   (LB_ETH_LEN + LB_IP6_NEXT_AT)
#define LB_AT_SADDR6	   (LB_ETH_LEN + LB_IP6_SADDR_AT)
#define LB_AT_DADDR6	   (LB_ETH_LEN + LB_IP6_DADDR_AT)
#define LB_AT_SPORT6	   (LB_ETH_LEN + LB_IPV6_LEN)
#define LB_AT_DPORT6	   (LB_AT_SPORT6 + LB_DPORT_AT)

/* of an XDP context */
#define LB_FRAME(ctx) ((void *)(long)(ctx)->data)
#define LB_END(ctx)   ((void *)(long)(ctx)->data_end)

/* EtherTypes and masks as a little-endian load sees them */
#define LB_ETH_IPV4	   0x0008
#define LB_ETH_IPV6	   0xdd86
#define LB_ETH_VLAN	   0x0081
#define LB_ETH_QINQ	   0xa888
#define LB_VERSION_MASK	   0xf0ffff /* EtherType, version */
#define LB_IS_IPV4	   (LB_ETH_IPV4 | 0x40 << 16)
#define LB_NO_OPTIONS_MASK 0xffffff /* EtherType, version, header length */
#define LB_NO_OPTIONS4	   (LB_ETH_IPV4 | LB_IPV4_PLAIN << 16)
#define LB_IS_IPV6	   (LB_ETH_IPV6 | 0x60 << 16)

LB_INLINE int lb_is_fragment4(const void *frame)
{
	return lb_load16(frame + LB_AT_FRAGMENT) & LB_IP_FRAGMENT_MASK;
}

/* Section 4.2: is the destination another MAC than ours?  The frame has 14 bytes. */
LB_INLINE int lb_is_for_other_host(const void *frame, const struct lb_config *config)
{
	/* of the eight bytes that are read, the last two, shifted out, are the source's */
	return lb_load64(frame) << 16 != config->mac;
}

/* The frame has 54 bytes, EtherType and version are right. */
LB_INLINE int lb_is_ordinary6(const void *frame, const void *end)
{
	return frame + LB_ETH_LEN + LB_IPV6_LEN + LB_TCP_LEN <= end &&
	       lb_is_tcp_or_udp(lb_load8(frame + LB_AT_PROTOCOL6));
}

#endif
