/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * One packet through a program, behind the programs' sources: for Python
 * (tests/fuzz/host.py) and for libFuzzer (libfuzzer.c).
 */
#include <stdio.h>

enum host_program {
	HOST_FORWARDER,
	HOST_REDIRECTOR
};

/* The slots of an inner table. */
static u64 *host_slots(u32 index)
{
	if (index < LB_INLINE_TABLE_COUNT)
		return (u64 *)&host_inline_tables.slot[index * LB_INNER_SLOTS];
	return lb_tables_values[index];
}

struct host_result {
	s32 verdict;
	s32 counter; /* -1: not exactly one counter grew by one */
	u32 length;
};

static u64 host_counts(void)
{
	u64 sum = 0;

	for (u32 i = 0; i < LB_CNT_COUNT; i++)
		sum += lb_counters_values[i];
	return sum;
}

static s32 host_counter(void)
{
	for (s32 i = 0; i < LB_CNT_COUNT; i++)
		if (lb_counters_values[i])
			return host_counts() == 1 ? i : -1;
	return -1;
}

static void host_run_xdp(struct host_result *result)
{
	static struct xdp_md ctx;

	ctx.data = (u32)(unsigned long)host_packet.data;
	ctx.data_end = (u32)(unsigned long)host_packet.end;
	if (!setjmp(host_way_out))
		host_verdict = lb_root(&ctx);
	result->verdict = host_verdict;
	result->length = ctx.data_end - ctx.data;
	host_packet.data = host_at(ctx.data);
}

static void host_run_tc(struct host_result *result, u32 linear)
{
	static struct __sk_buff skb;

	memset(&skb, 0, sizeof(skb));
	skb.data = (u32)(unsigned long)host_packet.data;
	skb.len = host_packet.end - host_packet.data;
	skb.ifindex = 1;
	/* as eth_type_trans() does: the EtherType in the frame */
	if (skb.len >= LB_ETH_LEN)
		skb.protocol = host_packet.data[12] | host_packet.data[13] << 8;
	host_show(&skb, linear);
	if (!setjmp(host_way_out))
		host_verdict = lb_redirector(&skb);
	result->verdict = host_verdict;
	result->length = skb.len;
	host_packet.data = host_at(skb.data);
	host_show(&skb, skb.len);
}

/* Runs a program; afterwards the packet is at host_packet.data. */
static bool host_run(enum host_program program, const u8 *bytes, u32 size, u32 linear,
		     struct host_result *result)
{
	memset(lb_counters_values, 0, sizeof(lb_counters_values));
	if (!host_put(&host_packet, bytes, size))
		return false;
	if (program == HOST_FORWARDER)
		host_run_xdp(result);
	else
		host_run_tc(result, linear);
	result->counter = host_counter();
	return true;
}
