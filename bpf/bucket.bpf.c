/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * From a service to its pool, a bucket and a chain (docs/wire.md, sections 1 and
 * 3), and the way out, for all programs that forward.
 */
#include "chain.h"
#include "parse.h"
#include "services.h"
#include "siphash.h"

#define LB_IP_FLAGS_AT 6
#define LB_IP_DF       0x0040 /* as a little-endian load sees it */

#define LB_FRAME(ctx) ((void *)(long)(ctx)->data)
#define LB_END(ctx)   ((void *)(long)(ctx)->data_end)

/* A branch, not arithmetic: the CPU need not wait for the view to choose a half. */
static __always_inline const struct lb_vips *lb_vips_in_use(u64 view)
{
	return view & 1 ? LB_STATE_AT(vips[1]) : LB_STATE_AT(vips[0]);
}

static __always_inline const struct lb_service_row *lb_rows_in_use(u64 view)
{
	return view & 1 ? LB_STATE_AT(service[1][0]) : LB_STATE_AT(service[0][0]);
}

static __always_inline void lb_count_service(u64 entry, u64 bytes)
{
	u32 index = LB_ENTRY_SERVICE(entry);
	struct lb_service_stats *stats = lb_service_stats.lookup(&index);

	if (stats) {
		stats->packets++;
		stats->bytes += bytes;
	}
}

/*
 * A service's pool.  For the first pools branches take the place of arithmetic:
 * the CPU predicts them, and so begins to hash with that pool's key before it has
 * found the service.  The sides are equal but for an asm with a constant of its own,
 * or the compiler would make arithmetic of them again.
 */
#define LB_PREDICT_POOL(number)                              \
	if (index == (number)) {                             \
		pool = LB_STATE_AT(pool[number]);            \
		asm volatile("" : "+r"(pool) : "i"(number)); \
		return pool;                                 \
	}

static __always_inline const struct lb_pool *lb_pool_of(u64 entry)
{
	const struct lb_pool *pool;
	u64 index = LB_ENTRY_POOL(entry);

	LB_PREDICT_POOL(0);
	LB_PREDICT_POOL(1);
	LB_PREDICT_POOL(2);
	LB_PREDICT_POOL(3);
	pool = LB_STATE_AT(pool[0]) + index;
	LB_KEEP(pool);
	return pool;
}

/* Where a bucket's chain is if its inner table is not near; null if there is none. */
static __always_inline const void *lb_far_slot(u64 at)
{
	u32 inner = at / LB_INNER_SLOTS, slot = at % LB_INNER_SLOTS;
	void *table = lb_tables.lookup(&inner);

	if (!table)
		return 0;
	return bpf_map_lookup_elem(table, &slot);
}

#define LB_NEAR_SLOTS ((u64)LB_NEAR_TABLES * LB_INNER_SLOTS)

#define LB_FIRST_SLOT(word) (((word) >> LB_POOL_FIRST_SHIFT & LB_POOL_FIRST_MASK) * LB_INNER_SLOTS)

/* The bucket's only DIP, of an LB_POOL_AT_REST; without a table there is none. */
static __always_inline u64 lb_bucket_at_rest(u64 pool_word, u64 hash)
{
	u64 at = (hash & pool_word & LB_POOL_MASK) + LB_FIRST_SLOT(pool_word) * 4;
	const void *slot;

	if (lb_likely(at < LB_NEAR_SLOTS * 4))
		return lb_load16((const void *)lb_get_near() + at * sizeof(u16));
	slot = lb_far_slot(at / 4);
	return slot ? lb_load16(slot + at % 4 * sizeof(u16)) : 0;
}

/* The bucket's chain as one word; without a table it is empty. */
static __always_inline u64 lb_bucket(u64 pool_word, u64 hash)
{
	u64 first = LB_FIRST_SLOT(pool_word), at = hash & pool_word & LB_POOL_MASK;
	const void *slot;

	if (pool_word & LB_POOL_AT_REST)
		return lb_bucket_at_rest(pool_word, hash);
	if (pool_word & LB_POOL_PAIRED) {
		at += first * 2;
		if (lb_likely(at < LB_NEAR_SLOTS * 2))
			return lb_load32((const void *)lb_get_near() + at * sizeof(u32));
		slot = lb_far_slot(at / 2);
		return slot ? lb_load32(slot + at % 2 * sizeof(u32)) : 0;
	}
	at += first;
	if (lb_likely(at < LB_NEAR_SLOTS))
		return lb_load64(&lb_get_near()->slot[at]);
	slot = lb_far_slot(at);
	return slot ? lb_load64(slot) : 0;
}

/*
 * F19, F20: does a packet that is too long once wrapped go to section 4.5?  If this
 * server comes first, only one whose sender can be told.  ip: the inner header.
 */
static __always_inline bool lb_goes_to_too_big(u64 total, const void *ip, u64 version, bool self)
{
	if (lb_likely(total <= LB_STATE_AT(config)->mtu))
		return false;
	return !self || version == 6 || (lb_load16(ip + LB_IP_FLAGS_AT) & LB_IP_DF);
}

/*
 * How the programs end: with an XDP verdict that has been counted, or with where
 * the packet goes on.
 */
#define LB_GO_STAGE   (-1)
#define LB_GO_TOO_BIG (-2)

static __always_inline int lb_leave(struct xdp_md *ctx, int result)
{
	lb_trace_xdp(ctx, result);
	if (lb_likely(result == XDP_TX))
		return XDP_TX;
	if (result == XDP_PASS) {
		lb_go_to_slot(ctx, LB_SLOT_AFTER);
		return XDP_PASS;
	}
	if (result == LB_GO_STAGE)
		lb_stages.call(ctx, LB_TO_STAGE);
	if (result == LB_GO_TOO_BIG)
		lb_stages.call(ctx, LB_TO_TOO_BIG);
	if (result < 0) {
		result = lb_exit(LB_CNT_DROP_NO_STAGE, XDP_DROP);
		lb_trace_xdp(ctx, result);
	}
	return result;
}
