/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The egress program, a TC classifier that decides nothing: it sees resets without ACK
 * leave a VIP, the kernel's answer to a segment that has nowhere to go.  docs/wire.md,
 * section 8.
 *
 * Every packet that the interface sends meets it, passed-on ones included, so the cheapest
 * questions come first: a reset is short, and of the short packets few have these flags.
 */
#ifndef LB_EGRESS_BPF_C
#define LB_EGRESS_BPF_C

#include "redirector.bpf.c"

#define LB_TC_NEXT  (-1) /* TC_ACT_UNSPEC: the next filter decides */
#define LB_RESET_NS 60000000000ULL

/* Ethernet, IPv6 and TCP headers, and 22 bytes of options: an MD5 signature is the longest. */
#define LB_LONGEST_RESET (LB_ETH_LEN + LB_IPV6_LEN + LB_TCP_LEN + 22)

static __always_inline void lb_count_reset(u32 which)
{
	u64 *count = lb_reset_counts.lookup(&which);

	if (count)
		++*count;
}

/* Remembers a flow's first reset in 60 s; a window of segments is answered by many. */
static __always_inline void lb_remember_reset(const struct lb_reset_flow *flow)
{
	u64 now = bpf_ktime_get_ns();
	u64 *first = lb_resets.lookup((struct lb_reset_flow *)flow);

	if (first && now - *first < LB_RESET_NS) {
		lb_count_reset(LB_RESET_AGAIN);
		return;
	}
	lb_resets.update((struct lb_reset_flow *)flow, &now);
	lb_count_reset(LB_RESET_FIRST);
}

/* The flow of a packet that leaves is that of the packets that come, turned round. */
static __always_inline u32 lb_ports_turned(const void *tcp)
{
	u32 ports = lb_load32(tcp);

	return ports >> 16 | ports << 16;
}

static __always_inline bool lb_is_reset(const void *tcp)
{
	return (lb_load8(tcp + LB_TCP_FLAGS_AT) & (LB_TCP_RST | LB_TCP_ACK)) == LB_TCP_RST;
}

static __always_inline void lb_egress4(const void *ip, const void *end)
{
	struct lb_reset_flow flow = { .version = 4 };
	const void *tcp = ip + LB_IPV4_LEN;

	if (tcp + LB_TCP_LEN > end || !lb_is_reset(tcp))
		return;
	if (lb_load8(ip) != LB_IPV4_PLAIN || lb_load8(ip + LB_IP_PROTOCOL_AT) != LB_PROTO_TCP ||
	    lb_load16(ip + LB_IP_FRAGMENT_AT) & LB_IP_FRAGMENT_MASK)
		return;
	flow.vip[0] = lb_load32(ip + LB_IP_SADDR_AT);
	if (!lb_is_vip4(lb_get_state(), flow.vip[0]))
		return;
	flow.client[0] = lb_load32(ip + LB_IP_DADDR_AT);
	flow.ports = lb_ports_turned(tcp);
	lb_remember_reset(&flow);
}

static __always_inline void lb_egress6(const void *ip, const void *end)
{
	struct lb_reset_flow flow = { .version = 6 };
	const void *tcp = ip + LB_IPV6_LEN;

	if (tcp + LB_TCP_LEN > end || !lb_is_reset(tcp))
		return;
	if (lb_load8(ip + LB_IP6_NEXT_AT) != LB_PROTO_TCP)
		return;
	flow.vip[0] = lb_load64(ip + LB_IP6_SADDR_AT);
	flow.vip[1] = lb_load64(ip + LB_IP6_SADDR_AT + 8);
	if (!lb_is_vip6(lb_get_state(), flow.vip[0], flow.vip[1]))
		return;
	flow.client[0] = lb_load64(ip + LB_IP6_DADDR_AT);
	flow.client[1] = lb_load64(ip + LB_IP6_DADDR_AT + 8);
	flow.ports = lb_ports_turned(tcp);
	lb_remember_reset(&flow);
}

int lb_egress(struct __sk_buff *skb)
{
	if (skb->len > LB_LONGEST_RESET)
		return LB_TC_NEXT;
	if (skb->protocol == LB_ETH_IPV4)
		lb_egress4(lb_frame(skb) + LB_ETH_LEN, lb_end(skb));
	else if (skb->protocol == LB_ETH_IPV6)
		lb_egress6(lb_frame(skb) + LB_ETH_LEN, lb_end(skb));
	return LB_TC_NEXT;
}

#endif
