/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Programs that decide nothing, to measure others against.
 *
 * lb_floor is the least that an encapsulating program can do: grow the frame by 36 bytes
 * and write them, all constant except for the packet's length.
 */
#include <linux/bpf.h>
#include "abi.h"

/* bcc makes a string of it: no expression, no spaces */
/* clang-format off */
#define BPF_LICENSE Dual BSD/GPL
/* clang-format on */

/* bcc's own returns an int, which costs the caller two shifts */
static long (*lb_adjust_head)(void *ctx, long delta) = (void *)BPF_FUNC_xdp_adjust_head;

static __always_inline void lb_put16(void *to, u16 value)
{
	*(volatile u16 *)to = value;
}

static __always_inline void lb_put32(void *to, u32 value)
{
	*(volatile u32 *)to = value;
}

static __always_inline void lb_put64(void *to, u64 value)
{
	*(volatile u64 *)to = value;
}

/* In 64 bits: bcc compiles for the first BPF instruction set, where narrower numbers cost shifts. */
static __always_inline u64 lb_be16(u64 value)
{
	return __builtin_bswap16((u16)value);
}

static __always_inline void lb_put_ipv4(void *ip, u64 length)
{
	/* the sum of the header's constant words */
	u64 sum = 0x4500 + 0x4000 + 0x4011 + 0x0a00 + 0x0001 + 0x0a00 + 0x0002 + length;

	sum = (sum & 0xffff) + (sum >> 16);
	lb_put16(ip, lb_be16(0x4500));
	lb_put16(ip + 2, lb_be16(length));
	lb_put32(ip + 4, __builtin_bswap32(0x00004000));
	lb_put16(ip + 8, lb_be16(0x4011));
	lb_put16(ip + 10, lb_be16(~sum));
	lb_put32(ip + 12, __builtin_bswap32(0x0a000001));
	lb_put32(ip + 16, __builtin_bswap32(0x0a000002));
}

static __always_inline int lb_encap_constant(struct xdp_md *ctx)
{
	void *data, *end;
	u64 length;

	if (lb_adjust_head(ctx, -LB_WRAP_LEN))
		return XDP_DROP;
	data = (void *)(long)ctx->data;
	end = (void *)(long)ctx->data_end;
	if (data + LB_WRAP_LEN + 34 > end)
		return XDP_DROP;
	length = lb_be16(*(volatile u16 *)(data + LB_WRAP_LEN + 16)) + LB_WRAP_LEN;
	lb_put64(data, 0x0102030405060202ULL);
	lb_put32(data + 8, 0x05060708);
	lb_put16(data + 12, lb_be16(0x0800));
	lb_put_ipv4(data + 14, length);
	lb_put16(data + 34, lb_be16(0x8123));
	lb_put16(data + 36, lb_be16(6080));
	lb_put16(data + 38, lb_be16(length - 20));
	lb_put16(data + 40, 0);
	lb_put32(data + 42, __builtin_bswap32(0x01040000));
	lb_put32(data + 46, 0);
	return XDP_TX;
}

int lb_floor(struct xdp_md *ctx)
{
	return lb_encap_constant(ctx);
}

/* A control: the floor and one call for the time, which the harness must notice. */
int lb_floor_slower(struct xdp_md *ctx)
{
	u64 now = bpf_ktime_get_ns();
	int verdict = lb_encap_constant(ctx);

	return now ? verdict : XDP_DROP;
}

int lb_nothing_xdp(struct xdp_md *ctx)
{
	return XDP_TX;
}

int lb_nothing_tc(struct __sk_buff *skb)
{
	return 0;
}
