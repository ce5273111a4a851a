/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * From a service to its pool, a bucket and its chain (docs/wire.md, sections 1 and 3),
 * for the forwarder's programs.
 */
#ifndef LB_BUCKET_BPF_C
#define LB_BUCKET_BPF_C

#include "maps.bpf.c"
#include "chain.h"
#include "frame.h"
#include "services.h"
#include "siphash.h"
#include "vips.h"

/* A branch, not arithmetic: the CPU need not wait for the view to choose a half. */
static __always_inline const struct lb_vips *lb_vips_in_use(u64 view)
{
	return view & 1 ? LB_STATE_AT(vips[1]) : LB_STATE_AT(vips[0]);
}

/* view: read once a packet, so that leaf and row are of the same half. */
static __always_inline u64 lb_leaf_of(u64 view, const void *ip, u64 version)
{
	if (version == 4)
		return lb_leaf4(lb_vips_in_use(view), lb_load32(ip + LB_IP_DADDR_AT));
	return lb_leaf6(lb_vips_in_use(view), view, lb_load64(ip + LB_IP6_DADDR_AT),
			lb_load64(ip + LB_IP6_DADDR_AT + 8));
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
 * A service's pool.  The first pools are chosen by branches instead of arithmetic:
 * the CPU predicts them, and so begins to hash with that pool's key before it has
 * found the service.  Each side has an empty asm with a constant of its own, because
 * the compiler would turn equal sides into arithmetic again.
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

/* A slot of an inner table that is a map of its own; null if there is no such table. */
static __always_inline const void *lb_find_slot(u64 at)
{
	u32 inner = at / LB_INNER_SLOTS, slot = at % LB_INNER_SLOTS;
	void *table = lb_tables.lookup(&inner);

	if (!table)
		return 0;
	return bpf_map_lookup_elem(table, &slot);
}

#define LB_INLINE_SLOTS ((u64)LB_INLINE_TABLE_COUNT * LB_INNER_SLOTS)

#define LB_FIRST_SLOT(word) (((word) >> LB_POOL_FIRST_SHIFT & LB_POOL_FIRST_MASK) * LB_INNER_SLOTS)

/* The bucket's only DIP, for an LB_POOL_AT_REST; 0 without a table. */
static __always_inline u64 lb_bucket_at_rest(u64 pool_word, u64 hash)
{
	u64 at = (hash & pool_word & LB_POOL_MASK) + LB_FIRST_SLOT(pool_word) * 4;
	const void *slot;

	if (lb_likely(at < LB_INLINE_SLOTS * 4))
		return lb_load16((const void *)lb_get_inline_tables() + at * sizeof(u16));
	slot = lb_find_slot(at / 4);
	return slot ? lb_load16(slot + at % 4 * sizeof(u16)) : 0;
}

/* The bucket's chain as one word; empty without a table. */
static __always_inline u64 lb_bucket(u64 pool_word, u64 hash)
{
	u64 first = LB_FIRST_SLOT(pool_word), at = hash & pool_word & LB_POOL_MASK;
	const void *slot;

	if (pool_word & LB_POOL_AT_REST)
		return lb_bucket_at_rest(pool_word, hash);
	if (pool_word & LB_POOL_PAIRED) {
		at += first * 2;
		if (lb_likely(at < LB_INLINE_SLOTS * 2))
			return lb_load32((const void *)lb_get_inline_tables() + at * sizeof(u32));
		slot = lb_find_slot(at / 2);
		return slot ? lb_load32(slot + at % 2 * sizeof(u32)) : 0;
	}
	at += first;
	if (lb_likely(at < LB_INLINE_SLOTS))
		return lb_load64(&lb_get_inline_tables()->slot[at]);
	slot = lb_find_slot(at);
	return slot ? lb_load64(slot) : 0;
}

/*
 * F19, F20: does a packet that is too long once wrapped go to section 4.5?  If this
 * server is the first hop, only if the sender may be sent an ICMP error.  ip: the inner
 * header.
 */
static __always_inline bool lb_goes_to_too_big(u64 total, const void *ip, u64 version, bool self)
{
	if (lb_likely(total <= LB_STATE_AT(config)->mtu))
		return false;
	return !self || version == 6 || (lb_load16(ip + LB_IP_FRAGMENT_AT) & LB_IP_DF);
}

#endif
