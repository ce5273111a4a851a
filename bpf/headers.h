/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What lies between an IP header and its upper layer: options, extension headers,
 * fragments (docs/wire.md, section 4.1), and the packet inside an ICMP error (sections
 * 4.3 and 6.1).  Rare packets only.
 *
 * Offsets count from `ip`, the packet's IP header.  `ip_len` is the number of bytes
 * from there to the packet's end, `end` the end of what may be read; where these
 * differ, the caller has made the first LB_MAX_READ bytes readable.
 *
 * For the verifier: one bounded loop (Linux 5.3), offsets masked right where they
 * are used.
 */
#ifndef LB_HEADERS_H
#define LB_HEADERS_H

#include "ip.h"

#define LB_IP6_MF     0x0100 /* in a fragment header, as a little-endian load sees it */
#define LB_IP6_OFFSET 0xf8ff

#define LB_PROTO_HOP_BY_HOP 0
#define LB_PROTO_ROUTING    43
#define LB_PROTO_FRAGMENT   44
#define LB_PROTO_AUTH	    51
#define LB_PROTO_ICMPV6	    58
#define LB_PROTO_DEST_OPTS  60
#define LB_MAX_EXT	    6
#define LB_MAX_EXT_BYTES    256
#define LB_LEAST_EXT_LEN    8 /* every extension header has as many bytes */

#define LB_ICMP_LEN	       8
#define LB_ICMP_PROTO(version) ((version) == 4 ? LB_PROTO_ICMP : LB_PROTO_ICMPV6)
#define LB_ICMP_ECHO(version)  ((version) == 4 ? 8 : 128)
#define LB_L4_LEN	       8 /* of an embedded packet's upper layer: at least this much */

/* six extension headers, an ICMP error, and as much again of the packet inside it */
#define LB_MAX_READ (2 * (LB_IPV6_LEN + LB_MAX_EXT_BYTES) + LB_ICMP_LEN + LB_L4_LEN)

/* for the verifier: offsets are bounded by this mask */
#define LB_OFFSET_MASK 1023
_Static_assert(LB_IS_MASK(LB_OFFSET_MASK) && LB_MAX_READ <= LB_OFFSET_MASK,
	       "LB_OFFSET_MASK keeps every offset that is read");

enum lb_headers_result {
	LB_HEADERS_OK,
	LB_HEADERS_TRUNCATED,
	LB_HEADERS_TOO_MANY,
};

enum lb_fragment_kind {
	LB_FRAGMENT_NONE,
	LB_FRAGMENT_FIRST,
	LB_FRAGMENT_LATER,
};

struct lb_headers {
	__u64 length;	    /* of the IP header and everything before the upper layer */
	__u64 protocol;	    /* of the upper layer; of a later fragment as in docs/wire.md, 4.1 */
	__u64 fragment;	    /* enum lb_fragment_kind */
	__u64 id;	    /* identification of a fragment, as it lies in the frame */
	__u64 key_protocol; /* of a fragment: the protocol in its key */
};

/* A pointer to `length` bytes at an offset; NULL if they are not inside the packet. */
LB_INLINE const void *lb_at(const void *ip, const void *end, __u64 ip_len, __u64 offset,
			    __u64 length)
{
	const void *at =
		ip + (__builtin_constant_p(offset) ? offset : lb_opaque(offset) & LB_OFFSET_MASK);

	if (offset + length > ip_len || at + length > end)
		return 0;
	return at;
}

/* For an IPv4 header of 20 bytes that can be read, ihl at least 5. */
LB_INLINE int lb_read_headers4(const void *ip, __u64 ip_len, struct lb_headers *headers)
{
	__u64 field = lb_load16(ip + LB_IP_FRAGMENT_AT);

	headers->length = (lb_load8(ip) & 0xf) * 4;
	headers->protocol = lb_load8(ip + LB_IP_PROTOCOL_AT);
	headers->key_protocol = headers->protocol;
	headers->id = lb_load16(ip + LB_IP_ID_AT);
	headers->fragment = LB_FRAGMENT_NONE;
	if (field & LB_IP_OFFSET)
		headers->fragment = LB_FRAGMENT_LATER;
	else if (field & LB_IP_MF)
		headers->fragment = LB_FRAGMENT_FIRST;
	return headers->length > ip_len ? LB_HEADERS_TRUNCATED : LB_HEADERS_OK;
}

LB_INLINE int lb_is_ext(__u64 number)
{
	const __u64 all = 1ULL << LB_PROTO_HOP_BY_HOP | 1ULL << LB_PROTO_ROUTING |
			  1ULL << LB_PROTO_FRAGMENT | 1ULL << LB_PROTO_AUTH |
			  1ULL << LB_PROTO_DEST_OPTS;

	return number < 64 && (all >> number & 1);
}

/* Without branches: each would double the paths that the verifier follows. */
LB_INLINE __u64 lb_ext_length(__u64 number, __u64 byte)
{
	__u64 bit = lb_opaque(1) << (number & 63);
	__u64 auth = bit >> LB_PROTO_AUTH & 1, fragment = bit >> LB_PROTO_FRAGMENT & 1;

	return (byte * (1 - fragment) + 1 + auth) << (3 - auth);
}

/* Notes what a fragment header contains; true if it ends the chain. */
LB_INLINE int lb_read_fragment(const void *at, struct lb_headers *headers)
{
	__u64 field = lb_load16(at + 2);

	headers->id = lb_load32(at + 4);
	headers->key_protocol = lb_load8(at);
	if (field & LB_IP6_OFFSET)
		headers->fragment = LB_FRAGMENT_LATER;
	else if (field & LB_IP6_MF)
		headers->fragment = LB_FRAGMENT_FIRST;
	return headers->fragment == LB_FRAGMENT_LATER;
}

#define LB_EXT_GO_ON (-1)

/* One header of a chain: LB_EXT_GO_ON if another may follow. */
LB_INLINE int lb_step_ext(const void *ip, const void *end, __u64 ip_len, int turn, __u64 *fragments,
			  struct lb_headers *headers)
{
	__u64 number = headers->protocol, first = headers->length;
	const void *at;

	if (!lb_is_ext(number))
		return LB_HEADERS_OK;
	if (turn == LB_MAX_EXT)
		return LB_HEADERS_TOO_MANY;
	at = lb_at(ip, end, ip_len, first, LB_LEAST_EXT_LEN);
	if (!at)
		return LB_HEADERS_TRUNCATED;
	headers->length = first + lb_ext_length(number, lb_load8(at + 1));
	if (headers->length > LB_IPV6_LEN + LB_MAX_EXT_BYTES)
		return LB_HEADERS_TOO_MANY;
	headers->protocol = lb_load8(at);
	if (number != LB_PROTO_FRAGMENT)
		return LB_EXT_GO_ON;
	if ((*fragments)++)
		return LB_HEADERS_TRUNCATED;
	return lb_read_fragment(at, headers) ? LB_HEADERS_OK : LB_EXT_GO_ON;
}

/* For an IPv6 header of 40 bytes that can be read. */
LB_INLINE int lb_read_headers6(const void *ip, const void *end, __u64 ip_len,
			       struct lb_headers *headers)
{
	__u64 fragments = 0;
	int result;

	headers->length = LB_IPV6_LEN;
	headers->protocol = lb_load8(ip + LB_IP6_NEXT_AT);
	headers->fragment = LB_FRAGMENT_NONE;
	headers->id = 0;
	headers->key_protocol = 0;
#pragma nounroll
	for (int turn = 0; turn <= LB_MAX_EXT; turn++) {
		result = lb_step_ext(ip, end, ip_len, turn, &fragments, headers);
		if (result != LB_EXT_GO_ON)
			return result;
	}
	return LB_HEADERS_TOO_MANY;
}

/* The key that all fragments of a packet share.  `version` is a constant, 4 or 6. */
LB_INLINE void lb_fill_fragment_key(const void *ip, __u64 version, const struct lb_headers *headers,
				    struct lb_fragment_key *key)
{
	__builtin_memset(key, 0, sizeof(*key));
	key->id = headers->id;
	key->protocol = headers->key_protocol;
	if (version == 4) {
		key->saddr[0] = lb_load32(ip + LB_IP_SADDR_AT);
		key->daddr[0] = lb_load32(ip + LB_IP_DADDR_AT);
		return;
	}
	key->protocol |= LB_FRAGMENT_IPV6;
#pragma unroll
	for (int i = 0; i < 4; i++) {
		key->saddr[i] = lb_load32(ip + LB_IP6_SADDR_AT + 4 * i);
		key->daddr[i] = lb_load32(ip + LB_IP6_DADDR_AT + 4 * i);
	}
}

/* Could a later fragment with this key protocol belong to TCP or UDP? (4.4, R11) */
LB_INLINE int lb_key_protocol_ok(__u64 version, __u64 protocol)
{
	return lb_is_tcp_or_udp(protocol) || (version == 6 && lb_is_ext(protocol));
}

/* ---- ICMP ---- */

LB_INLINE int lb_icmp_is_error(__u64 version, __u64 type)
{
	if (version == 4)
		return type == 3 || type == 11 || type == 12;
	return type >= 1 && type <= 4;
}

enum lb_embedded_result {
	LB_EMBEDDED_OK,
	LB_EMBEDDED_MALFORMED,	 /* I4, I6 truncated, I8; J1, J3 truncated, J5 */
	LB_EMBEDDED_SOURCE,	 /* I5; J2 */
	LB_EMBEDDED_EXT_HEADERS, /* I6, J3: too many */
	LB_EMBEDDED_OTHER,	 /* I7; J4 */
};

struct lb_embedded {
	__u64 at;	/* its IP header */
	__u64 length;	/* everything that was read, with LB_L4_LEN bytes behind its headers */
	__u64 ports;	/* reversed: the client's, then the service's, as they lie in a frame */
	__u64 protocol; /* LB_PROTO_TCP or LB_PROTO_UDP */
};

/* I4 and I5: the header's first byte, then its source, which is the packet's destination. */
LB_INLINE int lb_check_embedded(const void *ip, const void *header, __u64 version)
{
	__u64 first = lb_load8(header), differs;

	if (first >> 4 != version || (version == 4 && (first & 0xf) < 5))
		return LB_EMBEDDED_MALFORMED;
	if (version == 4)
		differs = lb_load32(header + LB_IP_SADDR_AT) ^ lb_load32(ip + LB_IP_DADDR_AT);
	else
		differs = (lb_load64(header + LB_IP6_SADDR_AT) ^ lb_load64(ip + LB_IP6_DADDR_AT)) |
			  (lb_load64(header + LB_IP6_SADDR_AT + 8) ^
			   lb_load64(ip + LB_IP6_DADDR_AT + 8));
	return differs ? LB_EMBEDDED_SOURCE : LB_EMBEDDED_OK;
}

/*
 * I4 to I8, J1 to J5.  `at` is where the embedded packet begins: behind ICMP's 8
 * bytes.  `version` is a constant, 4 or 6; the packet's own 20 or 40 bytes can be
 * read.
 */
LB_INLINE int lb_read_embedded(const void *ip, const void *end, __u64 ip_len, __u64 at,
			       __u64 version, struct lb_embedded *embedded)
{
	const void *header = lb_at(ip, end, ip_len, at, LB_IP_LEN(version)), *l4;
	struct lb_headers headers;
	int result;

	if (!header)
		return LB_EMBEDDED_MALFORMED;
	result = lb_check_embedded(ip, header, version);
	if (result != LB_EMBEDDED_OK)
		return result;
	result = version == 4 ? lb_read_headers4(header, ip_len - at, &headers)
			      : lb_read_headers6(header, end, ip_len - at, &headers);
	if (result != LB_HEADERS_OK)
		return result == LB_HEADERS_TOO_MANY ? LB_EMBEDDED_EXT_HEADERS
						     : LB_EMBEDDED_MALFORMED;
	if (headers.fragment == LB_FRAGMENT_LATER || !lb_is_tcp_or_udp(headers.protocol))
		return LB_EMBEDDED_OTHER;
	l4 = lb_at(header, end, ip_len - at, headers.length, LB_L4_LEN);
	if (!l4)
		return LB_EMBEDDED_MALFORMED;
	embedded->at = at;
	embedded->length = at + headers.length + LB_L4_LEN;
	embedded->ports = lb_load32(l4) >> 16 | (__u64)lb_load16(l4) << 16;
	embedded->protocol = headers.protocol;
	return LB_EMBEDDED_OK;
}

#endif
