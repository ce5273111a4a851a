/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * `lbctl trace` compiles this in front of the other files: where a program ends, it
 * also writes the packet into a ring.  The programs of `lbctl up` do not have it.  It
 * never changes a verdict, and a full ring only loses events.
 *
 * The loader defines LB_TRACE, LB_TRACE_RING (the ring's descriptor) and
 * LB_TRACE_VERDICTS (a bit for each wanted counter).  With LB_TRACE_FILTERED, it also
 * defines LB_TRACE_VERSION, LB_TRACE_PROTOCOL, LB_TRACE_PORT (as it lies in a frame)
 * and LB_TRACE_CLIENT0 to 3 and LB_TRACE_VIP0 to 3 with masks (.._MASK0 to 3): a
 * coarse filter.  It only skips ordinary packets; user space filters exactly.
 */
#ifndef LB_TRACE_BPF_C
#define LB_TRACE_BPF_C

#include <linux/bpf.h>
#include "abi.h"
#include "bytes.h"
#include "gue.h"

#define LB_TO_FORWARDER_RARE  LB_FORWARDER_TRACED_RARE
#define LB_TO_TOO_BIG	      LB_FORWARDER_TRACED_TOO_BIG
#define LB_TO_REDIRECTOR_RARE LB_REDIRECTOR_TRACED_RARE

/* for the verifier: the offset of a wrapped packet's IP header is bounded by this mask */
#define LB_TRACE_IP_MASK 63
_Static_assert(LB_IS_MASK(LB_TRACE_IP_MASK) &&
		       LB_AT_HOPS + LB_MAX_HOPS * LB_HOP_LEN <= LB_TRACE_IP_MASK,
	       "LB_TRACE_IP_MASK keeps the offset");

BPF_PERCPU_ARRAY(lb_trace_counter, u32, 1); /* of the current packet */
BPF_PERCPU_ARRAY(lb_trace_events, struct lb_trace_event, 2);
BPF_PERCPU_ARRAY(lb_trace_lost, u64, 1);

/* helper 130, since Linux 5.8: not every bcc has it */
static int (*lb_ringbuf_output)(void *ring, void *data, u64 size, u64 flags) = (void *)130;

static __always_inline void lb_trace_note(u32 counter)
{
	u32 zero = 0, *noted = lb_trace_counter.lookup(&zero);

	if (noted)
		*noted = counter;
}

/* The counter of the current packet; LB_CNT_COUNT if it is not wanted. */
static __always_inline u32 lb_trace_noted(void)
{
	u32 zero = 0, *noted = lb_trace_counter.lookup(&zero);

	if (!noted || *noted >= LB_CNT_COUNT || !(LB_TRACE_VERDICTS >> *noted & 1))
		return LB_CNT_COUNT;
	return *noted;
}

/* Did the forwarder wrap the packet, or did it come wrapped? */
static __always_inline bool lb_trace_wrapped(u32 counter, u32 program)
{
	if (program == LB_TRACE_REDIRECTOR)
		return counter != LB_CNT_OK_NOT_GUE;
	return counter == LB_CNT_TX_FORWARD || counter == LB_CNT_TX_FORWARD_CHAIN ||
	       counter == LB_CNT_PASS_TO_SELF;
}

#ifdef LB_TRACE_FILTERED

static __always_inline bool lb_trace_addresses4(const u8 *ip)
{
	const u8 *client = ip + LB_IP_SADDR_AT, *vip = ip + LB_IP_DADDR_AT;

	return (lb_load32(client) & LB_TRACE_CLIENT_MASK0) == LB_TRACE_CLIENT0 &&
	       (lb_load32(vip) & LB_TRACE_VIP_MASK0) == LB_TRACE_VIP0;
}

static __always_inline bool lb_trace_addresses6(const u8 *ip)
{
	const u8 *client = ip + LB_IP6_SADDR_AT, *vip = ip + LB_IP6_DADDR_AT;

	return (lb_load32(client) & LB_TRACE_CLIENT_MASK0) == LB_TRACE_CLIENT0 &&
	       (lb_load32(client + 4) & LB_TRACE_CLIENT_MASK1) == LB_TRACE_CLIENT1 &&
	       (lb_load32(client + 8) & LB_TRACE_CLIENT_MASK2) == LB_TRACE_CLIENT2 &&
	       (lb_load32(client + 12) & LB_TRACE_CLIENT_MASK3) == LB_TRACE_CLIENT3 &&
	       (lb_load32(vip) & LB_TRACE_VIP_MASK0) == LB_TRACE_VIP0 &&
	       (lb_load32(vip + 4) & LB_TRACE_VIP_MASK1) == LB_TRACE_VIP1 &&
	       (lb_load32(vip + 8) & LB_TRACE_VIP_MASK2) == LB_TRACE_VIP2 &&
	       (lb_load32(vip + 12) & LB_TRACE_VIP_MASK3) == LB_TRACE_VIP3;
}

/* False only for a packet that user space would not show: ordinary TCP or UDP. */
static __always_inline bool lb_trace_fits(const struct lb_trace_event *event)
{
	u32 at = LB_ETH_LEN, first, protocol;
	const u8 *ip, *ports;

	if (lb_trace_wrapped(event->counter, event->program))
		at += LB_WRAP_LEN_WITH(event->data[LB_AT_HOP_COUNT] & LB_MAX_HOPS);
	ip = event->data + (at & LB_TRACE_IP_MASK);
	first = lb_load8(ip);
	if (at + (first == LB_IPV4_PLAIN ? LB_IPV4_LEN : LB_IPV6_LEN) + LB_PORTS_LEN >
	    event->captured)
		return true; /* the bytes behind are an earlier packet's */
	protocol = lb_load8(ip + (first == LB_IPV4_PLAIN ? LB_IP_PROTOCOL_AT : LB_IP6_NEXT_AT));
	if ((first != LB_IPV4_PLAIN && first >> 4 != 6) || !lb_is_tcp_or_udp(protocol))
		return true;
	if (LB_TRACE_VERSION && LB_TRACE_VERSION != first >> 4)
		return false;
	if (LB_TRACE_PROTOCOL && LB_TRACE_PROTOCOL != protocol)
		return false;
	if (first == LB_IPV4_PLAIN && lb_load16(ip + LB_IP_FRAGMENT_AT) & LB_IP_FRAGMENT_MASK)
		return true; /* a fragment */
	ports = ip + (first == LB_IPV4_PLAIN ? LB_IPV4_LEN : LB_IPV6_LEN);
	if (LB_TRACE_PORT && LB_TRACE_PORT != lb_load16(ports + LB_DPORT_AT))
		return false;
	return first == LB_IPV4_PLAIN ? lb_trace_addresses4(ip) : lb_trace_addresses6(ip);
}

#else
#define lb_trace_fits(event) true
#endif

static __always_inline void lb_trace_write(struct lb_trace_event *event)
{
	u32 zero = 0;
	u64 *lost;

	if (!lb_trace_fits(event))
		return;
	event->time = bpf_ktime_get_ns();
	if (!lb_ringbuf_output((void *)bpf_pseudo_fd(BPF_PSEUDO_MAP_FD, LB_TRACE_RING), event,
			       sizeof(*event), 0))
		return;
	lost = lb_trace_lost.lookup(&zero);
	if (lost)
		++*lost;
}

/* The forwarder's packet as it leaves; negative results go on to another program. */
static __always_inline void lb_trace_xdp(struct xdp_md *ctx, int result)
{
	const void *frame = LB_FRAME(ctx), *end = LB_END(ctx);
	u32 which = LB_TRACE_FORWARDER, counter;
	struct lb_trace_event *event;

	if (result < 0)
		return;
	counter = lb_trace_noted();
	event = lb_trace_events.lookup(&which);
	if (!event || counter == LB_CNT_COUNT)
		return;
#pragma unroll
	for (u32 i = 0; i < LB_TRACE_BYTES; i += 2) {
		if (frame + i + 2 > end)
			break;
		lb_store16(event->data + i, lb_load16(frame + i));
	}
	event->counter = counter;
	event->verdict = result;
	event->program = LB_TRACE_FORWARDER;
	event->ifindex = ctx->ingress_ifindex;
	event->length = end - frame;
	event->captured = event->length < LB_TRACE_BYTES ? event->length & ~1 : LB_TRACE_BYTES;
	lb_trace_write(event);
}

/* The redirector's packet as it comes: an accepted one leaves without its wrap. */
static __always_inline void lb_trace_arrival(struct __sk_buff *skb)
{
	u32 which = LB_TRACE_REDIRECTOR;
	u64 length = skb->len;
	struct lb_trace_event *event = lb_trace_events.lookup(&which);

	if (!event)
		return;
	event->length = length;
	event->captured = 0;
	if (length > LB_TRACE_BYTES)
		length = LB_TRACE_BYTES;
	/* the verifier takes each bound from a comparison; the compiler would merge the two */
	asm volatile("" : "+r"(length));
	if (length > LB_TRACE_BYTES)
		return;
	asm volatile("" : "+r"(length));
	if (length < LB_ETH_LEN)
		return;
	if (!bpf_skb_load_bytes(skb, 0, event->data, length))
		event->captured = length;
}

static __always_inline void lb_trace_tc(struct __sk_buff *skb, int verdict)
{
	u32 which = LB_TRACE_REDIRECTOR, counter = lb_trace_noted();
	struct lb_trace_event *event = lb_trace_events.lookup(&which);

	if (!event || counter == LB_CNT_COUNT)
		return;
	event->counter = counter;
	event->verdict = verdict;
	event->program = LB_TRACE_REDIRECTOR;
	event->ifindex = skb->ifindex;
	lb_trace_write(event);
}

#endif
