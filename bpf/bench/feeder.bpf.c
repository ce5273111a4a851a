/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Feeds programs under BPF_PROG_TEST_RUN so that every packet is a fresh one.
 *
 * A test run with repeat > 1 gives a program its own output again.  So a feeder is
 * run instead: it restores the packet's length and first bytes, changes its flow if
 * the lane has several, and calls the program under test with a tail call of constant
 * index (a plain jump once compiled).  The feeder's own cost is measured with a program
 * that does nothing, and subtracted.
 *
 * For XDP several programs, a lane each, take turns of a few hundred packets within
 * one run: a disturbance by other work on the CPU lasts longer than that, so it affects
 * all of them.
 */
#include <linux/bpf.h>
#include "frame.h"

/* bcc makes a string of it: no expression, no spaces */
/* clang-format off */
#define BPF_LICENSE Dual BSD/GPL
/* clang-format on */

#define LB_FEED_BYTES	  128 /* of a template; XDP restores 64 of them, TC 90 */
#define LB_FEED_TEMPLATES 4096
#define LB_FEED_STAMPS	  8192
#define LB_FEED_LANES	  4

struct lb_template {
	u64 length;
	u8 bytes[LB_FEED_BYTES];
};

/*
 * Destinations of flows.  Not a template for each: those would fill the caches that the
 * program under test needs for its own tables.
 */
struct lb_flow_target {
	__be32 daddr;
	__be16 dport;
	u16 pad;
};

/* A program under test and the packets it gets. */
struct lb_lane {
	u64 first;	/* number of its first template */
	u64 templates;	/* number of its templates */
	u64 turn;	/* the next template, counted from the first */
	u64 flow_bits;	/* 0, or 2^n flows of the first template's kind */
	u64 targets;	/* number of destinations for the flows */
	u64 fed;	/* packets so far */
	u64 multiplier; /* odd; the order of flows in this pass */
	u64 growth;	/* bytes that the program adds to a packet, as a u32 */
};

struct lb_feed {
	u64 packets;			     /* fed so far */
	u64 odd;			     /* packets that came back with an unexpected length */
	u64 refused;			     /* packets that could not be restored */
	u64 last_length;		     /* of the previous packet */
	u64 last_growth;		     /* of the program that had it */
	u64 lane;			     /* the current one */
	u64 left;			     /* packets left in this turn */
	u64 turn;			     /* packets in each turn */
	u64 measured;			     /* packets at the end of each turn that are timed */
	u64 stamps;			     /* number of times taken: two a turn */
	u64 jumped_at;			     /* TC: when the program was entered */
	u64 spent;			     /* TC: nanoseconds from there to the next packet */
	u64 clock;			     /* TC: the part of them for reading the clock */
	struct lb_lane lanes[LB_FEED_LANES]; /* TC: the first */
	u64 stamp[LB_FEED_STAMPS];
};

BPF_F_TABLE("array", u32, struct lb_feed, lb_feed, 1, BPF_F_MMAPABLE);
BPF_F_TABLE("array", u32, struct lb_template, lb_templates, LB_FEED_TEMPLATES, BPF_F_MMAPABLE);
BPF_F_TABLE("array", u32, struct lb_flow_target, lb_flow_targets, LB_FEED_TEMPLATES,
	    BPF_F_MMAPABLE);
BPF_PROG_ARRAY(lb_target, LB_FEED_LANES);
BPF_PROG_ARRAY(lb_tc_target, 1);

/* A permutation of 2^bits flows, another one on each pass. */
static __always_inline u64 lb_next_flow(struct lb_lane *lane)
{
	u64 mask = (1ULL << lane->flow_bits) - 1;

	if (!(lane->fed & mask))
		lane->multiplier = lane->multiplier * 6364136223846793005ULL + 2;
	return lane->fed * lane->multiplier & mask;
}

static __always_inline u32 lb_next_template(struct lb_lane *lane)
{
	u64 turn = lane->turn;

	lane->turn = turn + 1 >= lane->templates ? 0 : turn + 1;
	return lane->first + turn;
}

static __always_inline void lb_take_time(struct lb_feed *feed)
{
	u64 at = feed->stamps;

	if (at < LB_FEED_STAMPS)
		feed->stamp[at] = bpf_ktime_get_ns();
	feed->stamps = at + 1;
}

/* The lane of the next packet. */
static __always_inline u64 lb_next_lane(struct lb_feed *feed)
{
	if (!feed->left) {
		if (feed->packets)
			lb_take_time(feed);
		feed->lane = (feed->lane + 1) % LB_FEED_LANES;
		feed->left = feed->turn;
	}
	if (feed->left == feed->measured)
		lb_take_time(feed);
	feed->left--;
	return feed->lane % LB_FEED_LANES;
}

/* Source: 10.0.0.0 and the flow's number, with the template's port; and one of the targets. */
static __always_inline void lb_write_flow(struct lb_lane *lane, void *data)
{
	u64 flow = lb_next_flow(lane);
	u32 key = flow * lane->targets >> lane->flow_bits;
	struct lb_flow_target *target = lb_flow_targets.lookup(&key);

	*(volatile u32 *)(data + LB_AT_SADDR) = __builtin_bswap32(0x0a000000 | flow);
	if (!target)
		return;
	*(volatile u32 *)(data + LB_AT_DADDR) = target->daddr;
	*(volatile u16 *)(data + LB_AT_DPORT) = target->dport;
}

_Static_assert(LB_FEED_LANES == 4, "lb_feed_xdp() calls each lane by a constant index");

int lb_feed_xdp(struct xdp_md *ctx)
{
	u32 zero = 0, key;
	struct lb_feed *feed = lb_feed.lookup(&zero);
	struct lb_template *template;
	u64 length = ctx->data_end - ctx->data, number;
	struct lb_lane *lane;
	volatile u64 *words;
	void *data;

	if (!feed)
		return XDP_ABORTED;
	number = lb_next_lane(feed);
	lane = &feed->lanes[number];
	key = lb_next_template(lane);
	template = lb_templates.lookup(&key);
	if (!template)
		return XDP_ABORTED;
	if ((u32)(length - feed->last_length) != (u32)feed->last_growth)
		feed->odd++;
	feed->last_length = template->length;
	feed->last_growth = lane->growth;
	/* also by 0: the time of the program that does nothing must include this call */
	if (bpf_xdp_adjust_head(ctx, (int)(length - template->length))) {
		feed->refused++;
		return XDP_ABORTED;
	}
	data = (void *)(long)ctx->data;
	if (data + 64 > (void *)(long)ctx->data_end) {
		feed->refused++;
		return XDP_ABORTED;
	}
	words = data;
#pragma unroll
	for (int i = 0; i < 8; i++)
		words[i] = ((u64 *)template->bytes)[i];
	if (lane->flow_bits)
		lb_write_flow(lane, data);
	lane->fed++;
	/* atomic, so that the stores above are complete before the program begins */
	__sync_fetch_and_add(&feed->packets, 1);
	/* a constant index is a jump, a variable one costs more than most programs */
	if (number == 0)
		lb_target.call(ctx, 0);
	else if (number == 1)
		lb_target.call(ctx, 1);
	else if (number == 2)
		lb_target.call(ctx, 2);
	else
		lb_target.call(ctx, 3);
	return XDP_ABORTED;
}

/*
 * For TC, restoring the packet is expensive (it moves the Ethernet header), so only the
 * program is timed: from the jump to the next packet.
 */
int lb_feed_tc(struct __sk_buff *skb)
{
	u64 now = bpf_ktime_get_ns();
	u32 zero = 0, key;
	struct lb_feed *feed = lb_feed.lookup(&zero);
	struct lb_template *template;
	struct lb_lane *lane;
	s32 missing;

	if (!feed)
		return 2;
	if (feed->jumped_at)
		feed->spent += now - feed->jumped_at;
	lane = &feed->lanes[0];
	key = lb_next_template(lane);
	template = lb_templates.lookup(&key);
	if (!template)
		return 2;
	if ((u32)(skb->len - feed->last_length) != (u32)lane->growth)
		feed->odd++;
	feed->last_length = template->length;
	missing = template->length - skb->len;
	if (missing && bpf_skb_adjust_room(skb, missing, BPF_ADJ_ROOM_MAC, 0))
		feed->refused++;
	if (bpf_skb_store_bytes(skb, 0, template->bytes, 90, 0))
		feed->refused++;
	__sync_fetch_and_add(&feed->packets, 1);
	now = bpf_ktime_get_ns();
	feed->clock += bpf_ktime_get_ns() - now;
	feed->jumped_at = bpf_ktime_get_ns();
	lb_tc_target.call(skb, 0);
	return 2;
}
