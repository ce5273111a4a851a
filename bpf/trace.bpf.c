/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What `lbctl trace` compiles in front of the other sources: where a program
 * ends, the packet is also written into a ring.  The programs of `lbctl up` have
 * nothing of this.  It never changes a verdict, and a full ring only loses events.
 *
 * The loader defines LB_TRACE, LB_TRACE_RING (the ring's descriptor),
 * LB_TRACE_VERDICTS (a bit for each wanted counter) and, of what else is wanted,
 * LB_TRACE_VERSION, LB_TRACE_PROTOCOL, LB_TRACE_PORT (as it lies in a frame) and
 * LB_TRACE_CLIENT0 to 3 and LB_TRACE_VIP0 to 3 with masks (.._MASK0 to 3).  The
 * reader asks again, and exactly: here only packets that are plain are let go.
 */
#include <linux/bpf.h>
#include "abi.h"
#include "bytes.h"

#define LB_PSEUDO_MAP_FD 1

#define LB_TO_STAGE    LB_SLOT_TRACED_STAGE
#define LB_TO_TOO_BIG  LB_SLOT_TRACED_TOO_BIG
#define LB_TO_TC_STAGE LB_TC_TRACED_STAGE

BPF_PERCPU_ARRAY(lb_trace_counter, u32, 1); /* of the packet in hand */
BPF_PERCPU_ARRAY(lb_trace_events, struct lb_trace_event, 2);
BPF_PERCPU_ARRAY(lb_trace_lost, u64, 1);

/* helper 130, since Linux 5.8: not every bcc knows it */
static int (*lb_ringbuf_output)(void *ring, void *data, u64 size, u64 flags) = (void *)130;

static __always_inline void lb_trace_note(u32 counter)
{
	u32 zero = 0, *noted = lb_trace_counter.lookup(&zero);

	if (noted)
		*noted = counter;
}

/* The counter of the packet in hand; LB_CNT_COUNT if nobody wants it. */
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
	return (lb_load32(ip + 12) & LB_TRACE_CLIENT_MASK0) == LB_TRACE_CLIENT0 &&
	       (lb_load32(ip + 16) & LB_TRACE_VIP_MASK0) == LB_TRACE_VIP0;
}

static __always_inline bool lb_trace_addresses6(const u8 *ip)
{
	return (lb_load32(ip + 8) & LB_TRACE_CLIENT_MASK0) == LB_TRACE_CLIENT0 &&
	       (lb_load32(ip + 12) & LB_TRACE_CLIENT_MASK1) == LB_TRACE_CLIENT1 &&
	       (lb_load32(ip + 16) & LB_TRACE_CLIENT_MASK2) == LB_TRACE_CLIENT2 &&
	       (lb_load32(ip + 20) & LB_TRACE_CLIENT_MASK3) == LB_TRACE_CLIENT3 &&
	       (lb_load32(ip + 24) & LB_TRACE_VIP_MASK0) == LB_TRACE_VIP0 &&
	       (lb_load32(ip + 28) & LB_TRACE_VIP_MASK1) == LB_TRACE_VIP1 &&
	       (lb_load32(ip + 32) & LB_TRACE_VIP_MASK2) == LB_TRACE_VIP2 &&
	       (lb_load32(ip + 36) & LB_TRACE_VIP_MASK3) == LB_TRACE_VIP3;
}

/* False only for a packet that the reader would not show: TCP or UDP, nothing rare about it. */
static __always_inline bool lb_trace_fits(const struct lb_trace_event *event)
{
	u32 at = LB_ETH_LEN, first, protocol;
	const u8 *ip;

	if (lb_trace_wrapped(event->counter, event->program))
		at += LB_WRAP_LEN + (event->data[49] & LB_MAX_HOPS) * LB_HOP_LEN;
	ip = event->data + (at & 63);
	first = lb_load8(ip);
	if (at + (first == 0x45 ? LB_IPV4_LEN + 4 : 44) > event->captured)
		return true; /* what lies behind is another packet's */
	protocol = lb_load8(ip + (first == 0x45 ? 9 : 6));
	if ((first != 0x45 && first >> 4 != 6) ||
	    (protocol != LB_PROTO_TCP && protocol != LB_PROTO_UDP))
		return true;
	if (LB_TRACE_VERSION && LB_TRACE_VERSION != first >> 4)
		return false;
	if (LB_TRACE_PROTOCOL && LB_TRACE_PROTOCOL != protocol)
		return false;
	if (first == 0x45 && lb_load16(ip + 6) & 0xff3f)
		return true; /* a fragment */
	if (LB_TRACE_PORT && LB_TRACE_PORT != lb_load16(ip + (first == 0x45 ? 22 : 42)))
		return false;
	return first == 0x45 ? lb_trace_addresses4(ip) : lb_trace_addresses6(ip);
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
	if (!lb_ringbuf_output((void *)bpf_pseudo_fd(LB_PSEUDO_MAP_FD, LB_TRACE_RING), event,
			       sizeof(*event), 0))
		return;
	lost = lb_trace_lost.lookup(&zero);
	if (lost)
		++*lost;
}

/* The forwarder's packet as it leaves; negative results go on to another program. */
static __always_inline void lb_trace_xdp(struct xdp_md *ctx, int result)
{
	const void *frame = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
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

/* The redirector's packet as it comes: what is accepted leaves without its wrap. */
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
	/* the verifier learns both bounds from two comparisons, which the compiler would merge */
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
