/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * IPv4 and IPv6 headers: offsets from the header's first byte, as far as no options
 * or extension headers matter.
 */
#ifndef LB_IP_H
#define LB_IP_H

#include "bytes.h"

#define LB_IP_TOS_AT	   1
#define LB_IP_TOTAL_LEN_AT 2
#define LB_IP_ID_AT	   4
#define LB_IP_FRAGMENT_AT  6 /* flags and offset */
#define LB_IP_PROTOCOL_AT  9
#define LB_IP_CHECKSUM_AT  10
#define LB_IP_SADDR_AT	   12
#define LB_IP_DADDR_AT	   16

/* in the fragment field, as a little-endian load sees it */
#define LB_IP_DF	    0x0040
#define LB_IP_MF	    0x0020
#define LB_IP_OFFSET	    0xff1f
#define LB_IP_FRAGMENT_MASK (LB_IP_MF | LB_IP_OFFSET)

#define LB_IP6_PAYLOAD_AT 4
#define LB_IP6_NEXT_AT	  6
#define LB_IP6_SADDR_AT	  8
#define LB_IP6_DADDR_AT	  24

/* the first byte of an IPv4 header without options: version 4, 20 bytes */
#define LB_IPV4_PLAIN 0x45

/* in TCP's and UDP's headers, which begin with both ports */
#define LB_PORTS_LEN	   4
#define LB_DPORT_AT	   2
#define LB_UDP_LEN_AT	   4
#define LB_UDP_CHECKSUM_AT 6

/* of a header without options or extension headers; `version` is 4 or 6 */
#define LB_IP_LEN(version) ((version) == 4 ? LB_IPV4_LEN : LB_IPV6_LEN)

LB_INLINE int lb_is_tcp_or_udp(__u64 protocol)
{
	return protocol == LB_PROTO_TCP || protocol == LB_PROTO_UDP;
}

#endif
