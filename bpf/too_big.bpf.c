/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Answers a packet that does not fit the link once wrapped (docs/wire.md, section
 * 4.5): ICMP fragmentation needed, ICMPv6 packet too big.  The forwarder's programs
 * call it for an unchanged frame that its service has counted: TCP or UDP to a service,
 * not a later fragment.
 */
#ifndef LB_TOO_BIG_BPF_C
#define LB_TOO_BIG_BPF_C

#include "bucket.bpf.c"
#include "exit.bpf.c"
#include "encap.h"
#include "headers.h"
#include "tags.h"

#define LB_QUOTE_LEN	    512
#define LB_ICMP_UNREACHABLE 3 /* code 4: fragmentation needed */
#define LB_ICMP6_TOO_BIG    2

/* Must this source not be answered? */
static __always_inline bool lb_is_odd_source4(const void *ip)
{
	u64 first = lb_load8(ip + LB_IP_SADDR_AT);

	return first == 0 || first == 127 || first >= 224;
}

static __always_inline bool lb_is_odd_source6(const void *ip)
{
	u64 head = lb_load64(ip + LB_IP6_SADDR_AT), tail = lb_load64(ip + LB_IP6_SADDR_AT + 8);

	/* :: and ::1, multicast */
	return (!head && (!tail || tail == 1ULL << 56)) || (head & 0xff) == 0xff;
}

static __always_inline bool lb_may_answer(void)
{
	u64 window = bpf_ktime_get_ns() >> LB_TOO_BIG_WINDOW_SHIFT;
	struct lb_too_big_window *now;
	u32 zero = 0;

	now = lb_too_big_windows.lookup(&zero);
	if (!now)
		return false;
	if (now->number != window) {
		now->number = window;
		now->sent = 0;
	}
	if (now->sent >= LB_TOO_BIG_MOST)
		return false;
	now->sent++;
	return true;
}

/* The largest wrap of the pool that a packet's service has; 0: no such service. */
static __always_inline u64 lb_overhead_of(const void *ip, const void *end, u64 ip_len, u64 version)
{
	struct lb_headers headers;
	u64 view = LB_STATE_AT(config)->view, entry, word;
	const void *l4;

	if (version == 4)
		lb_read_headers4(ip, ip_len, &headers);
	else
		lb_read_headers6(ip, end, ip_len, &headers);
	l4 = lb_at(ip, end, ip_len, headers.length, LB_UDP_LEN);
	if (!l4)
		return 0;
	entry = lb_service_of(lb_rows_in_use(view), lb_leaf_of(view, ip, version),
			      lb_load16(l4 + LB_DPORT_AT), headers.protocol);
	word = LB_STATE_AT(pool[0])[LB_ENTRY_POOL(entry)].word;
	if (!entry || !word)
		return 0;
	return LB_WRAP_LEN_WITH((word >> LB_POOL_DEPTH_SHIFT & LB_POOL_DEPTH_MASK) - 1);
}

/* The IP and ICMP headers of an answer; `quote` is the packet behind them. */
static __always_inline void lb_write_answer4(void *ip, const void *quote, u64 mtu)
{
	u64 saddr = lb_load32(quote + LB_IP_DADDR_AT), daddr = lb_load32(quote + LB_IP_SADDR_AT);
	u64 head = LB_IPV4_PLAIN | 0xc0 << 8 |
		   (u64)lb_swap16(LB_IPV4_LEN + LB_ICMP_LEN + LB_QUOTE_LEN) << 16 |
		   (u64)LB_IP_DF << 48;
	u64 ttl = LB_OUTER_TTL | LB_PROTO_ICMP << 8;
	u64 sum = (head & 0xffff) + (head >> 16 & 0xffff) + (head >> 48) + ttl;
	u64 mtu_be = lb_swap16(mtu), type = LB_ICMP_UNREACHABLE | 4 << 8, quoted;

	sum += (saddr & 0xffff) + (saddr >> 16) + (daddr & 0xffff) + (daddr >> 16);
	lb_store64(ip, head);
	lb_store64(ip + 8, ttl | lb_checksum(sum) << 16 | saddr << 32);
	lb_store32(ip + 16, daddr);
	quoted = bpf_csum_diff(0, 0, (void *)quote, LB_QUOTE_LEN, 0);
	lb_store32(ip + 20,
		   type | lb_checksum((quoted & 0xffff) + (quoted >> 16 & 0xffff) + type + mtu_be)
				   << 16);
	lb_store32(ip + 24, mtu_be << 16);
}

static __always_inline u64 lb_sum64(u64 word)
{
	return (word & 0xffff) + (word >> 16 & 0xffff) + (word >> 32 & 0xffff) + (word >> 48);
}

static __always_inline void lb_write_answer6(void *ip, const void *quote, u64 mtu)
{
	u64 length = lb_swap16(LB_ICMP_LEN + LB_QUOTE_LEN), mtu_be = __builtin_bswap32((u32)mtu);
	u64 saddr[2] = { lb_load64(quote + LB_IP6_DADDR_AT),
			 lb_load64(quote + LB_IP6_DADDR_AT + 8) };
	u64 daddr[2] = { lb_load64(quote + LB_IP6_SADDR_AT),
			 lb_load64(quote + LB_IP6_SADDR_AT + 8) };
	u64 sum = lb_sum64(saddr[0]) + lb_sum64(saddr[1]) + lb_sum64(daddr[0]) + lb_sum64(daddr[1]);

	lb_store64(ip, 0x60 | length << 32 | (u64)LB_PROTO_ICMPV6 << 48 | (u64)LB_OUTER_TTL << 56);
	lb_store64(ip + 8, saddr[0]);
	lb_store64(ip + 16, saddr[1]);
	lb_store64(ip + 24, daddr[0]);
	lb_store64(ip + 32, daddr[1]);
	/* the pseudo-header: addresses, length, next header */
	sum += length + lb_swap16(LB_PROTO_ICMPV6) + LB_ICMP6_TOO_BIG + lb_sum64(mtu_be);
	sum += lb_sum64((u32)bpf_csum_diff(0, 0, (void *)quote, LB_QUOTE_LEN, 0));
	lb_store32(ip + 40, LB_ICMP6_TOO_BIG | lb_checksum(sum) << 16);
	lb_store32(ip + 44, mtu_be);
}

/* Turns the frame into the answer; false if it cannot grow. */
static __always_inline bool lb_make_answer(struct xdp_md *ctx, u64 l3, u64 version, u64 mtu)
{
	u64 grown = LB_IP_LEN(version) + LB_ICMP_LEN;
	u64 wanted = l3 + grown + LB_QUOTE_LEN, length;
	struct lb_macs macs;
	void *frame, *end, *ip;
	const void *old, *quote;

	if (bpf_xdp_adjust_head(ctx, -(int)grown))
		return false;
	length = lb_opaque(LB_END(ctx) - LB_FRAME(ctx));
	if (bpf_xdp_adjust_tail(ctx, (int)(wanted - length)))
		return false;
	frame = LB_FRAME(ctx);
	end = LB_END(ctx);
	old = frame + grown;
	ip = frame + (lb_opaque(l3) & LB_L3_MASK);
	quote = ip + grown;
	if (quote + LB_QUOTE_LEN > end || old + LB_MAX_LINK_LEN > end)
		return false;
	macs = lb_macs_swapped(old);
	lb_copy_tags(frame, old, l3);
	lb_write_macs(frame, macs);
	lb_store16(ip - 2, version == 4 ? LB_ETH_IPV4 : LB_ETH_IPV6);
	if (version == 4)
		lb_write_answer4(ip, quote, mtu);
	else
		lb_write_answer6(ip, quote, mtu);
	return true;
}

static __always_inline int lb_answer(struct xdp_md *ctx, u64 l3, u64 version)
{
	const void *end = LB_END(ctx), *ip = lb_ip_at(LB_FRAME(ctx), end, l3, version);
	/* opaque, or LLVM 11 subtracts l3 from the end of the packet, which is not allowed */
	u64 ip_len = lb_opaque(LB_END(ctx) - LB_FRAME(ctx)) - l3, overhead;

	if (!ip || lb_outer_for(ip, version).inner_len < LB_QUOTE_LEN)
		return lb_exit(LB_CNT_DROP_TOO_BIG, XDP_DROP);
	if (version == 4 ? !(lb_load16(ip + LB_IP_FRAGMENT_AT) & LB_IP_DF) || lb_is_odd_source4(ip)
			 : lb_is_odd_source6(ip))
		return lb_exit(LB_CNT_DROP_TOO_BIG, XDP_DROP);
	overhead = lb_overhead_of(ip, end, ip_len, version);
	if (!overhead || !lb_may_answer())
		return lb_exit(LB_CNT_DROP_TOO_BIG, XDP_DROP);
	if (!lb_make_answer(ctx, l3, version, LB_STATE_AT(config)->mtu - overhead))
		return lb_exit(LB_CNT_DROP_NO_ROOM, XDP_DROP);
	return lb_exit(LB_CNT_TX_TOO_BIG, XDP_TX);
}

int lb_too_big(struct xdp_md *ctx)
{
	u64 l3 = 0, type = 0;
	int result;

	if (lb_read_link(LB_FRAME(ctx), LB_END(ctx), &l3, &type) != LB_LINK_OK)
		result = lb_exit(LB_CNT_DROP_TOO_BIG, XDP_DROP);
	else if (type == LB_ETH_IPV4)
		result = lb_answer(ctx, l3, 4);
	else
		result = lb_answer(ctx, l3, 6);
	lb_trace_xdp(ctx, result);
	return result;
}

#endif
