/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The forwarder, an XDP program: VIP packet -> bucket -> chain -> GUE -> first
 * hop.  docs/wire.md, section 4, numbers its decisions.
 */
#include "chain.h"
#include "encap.h"
#include "parse.h"
#include "services.h"
#include "siphash.h"

#define LB_FRAME(ctx) ((void *)(long)(ctx)->data)
#define LB_END(ctx)   ((void *)(long)(ctx)->data_end)

/* Not an ordinary packet: F1 to F11 by name. */
static __always_inline int lb_forward_odd(const struct lb_state *state, const void *frame,
					  int reason)
{
	u32 counter = reason & ~LB_IF_VIP;

	if (reason & LB_IF_VIP && !lb_is_vip(state, lb_load32(frame + LB_AT_DADDR)))
		return lb_exit(LB_CNT_PASS_NO_SERVICE, XDP_PASS);
	if (counter >= LB_CNT_DROP_MALFORMED)
		return lb_exit(counter, XDP_DROP);
	return lb_exit(counter, XDP_PASS);
}

static __always_inline void lb_count_service(const struct lb_service *service, u64 bytes)
{
	u32 index = service->service;
	struct lb_service_stats *stats = lb_service_stats.lookup(&index);

	if (stats) {
		stats->packets++;
		stats->bytes += bytes;
	}
}

/*
 * A service's pool.  For the first pool a branch takes the place of arithmetic:
 * the CPU predicts it, and so begins to hash with that pool's key before it has
 * found the service.  The empty assembly keeps the compiler from seeing that
 * both sides are equal.
 */
static __always_inline const struct lb_pool *lb_pool_of(const struct lb_state *state,
							const struct lb_service *service)
{
	u64 index = service->pool, first = 0;

	asm volatile("" : "+r"(first));
	if (lb_likely(index == 0))
		return &state->pool[first & (LB_MAX_POOLS - 1)];
	return &state->pool[index];
}

/*
 * Where a bucket's chain is; null if there is no such inner table.  All
 * branches here go the same way for all packets of a pool, so that only the
 * last look-up has to wait for the hash.
 */
static __always_inline void *lb_bucket_slot(u64 pool_word, u64 at)
{
	u64 first = pool_word >> LB_POOL_FIRST_SHIFT & LB_POOL_FIRST_MASK;
	u32 inner = first, slot = at % LB_INNER_SLOTS;
	void *table;

	if (lb_unlikely((pool_word & LB_POOL_MASK) >= LB_INNER_SLOTS))
		inner = first + at / LB_INNER_SLOTS;
	table = lb_tables.lookup(&inner);
	if (!table)
		return 0;
	return bpf_map_lookup_elem(table, &slot);
}

/* The bucket's chain as one word; without a table it is empty. */
static __always_inline u64 lb_bucket(u64 pool_word, u64 hash)
{
	u64 bucket = hash & pool_word & LB_POOL_MASK;
	void *slot;

	if (lb_likely(pool_word & LB_POOL_PAIRED)) {
		slot = lb_bucket_slot(pool_word, bucket / 2);
		return slot ? lb_load32(slot + bucket % 2 * sizeof(u32)) : 0;
	}
	slot = lb_bucket_slot(pool_word, bucket);
	return slot ? lb_load64(slot) : 0;
}

/* F18, F20, F21: a chain at rest, or a service that visits the current server only. */
static __always_inline int lb_forward_one(struct xdp_md *ctx, const struct lb_state *state,
					  const struct lb_dip *dip, u64 total_len, u64 hash)
{
	void *frame;

	if (dip->addr == state->config.dip)
		return lb_exit(LB_CNT_PASS_LOCAL, XDP_PASS);
	if (total_len + LB_WRAP_LEN > state->config.mtu)
		return lb_exit(LB_CNT_DROP_TOO_BIG, XDP_DROP);
	if (bpf_xdp_adjust_head(ctx, -LB_WRAP_LEN))
		return lb_exit(LB_CNT_DROP_NO_ROOM, XDP_DROP);
	frame = LB_FRAME(ctx);
	if (frame + LB_WRAP_LEN + LB_ETH_LEN + LB_IPV4_LEN > LB_END(ctx))
		return lb_exit(LB_CNT_DROP_NO_ROOM, XDP_DROP);
	lb_write_wrap(frame, &state->config, dip,
		      lb_macs_towards(&state->config, dip->mac, frame + LB_WRAP_LEN), hash, 0);
	return lb_exit(LB_CNT_TX_FORWARD, XDP_TX);
}

/* F19, F20, F22: a bucket in transition. */
static __always_inline int lb_forward_chain(struct xdp_md *ctx, const struct lb_state *state,
					    u64 path, u64 total_len, u64 hash)
{
	const struct lb_dip *dips = state->dip;
	const struct lb_dip *first = &dips[path % LB_MAX_DIPS];
	u64 hops = lb_chain_hops(path), room = LB_WRAP_LEN + hops * LB_HOP_LEN;
	u64 hop1 = dips[(path >> 16) % LB_MAX_DIPS].addr;
	u64 hop2 = dips[(path >> 32) % LB_MAX_DIPS].addr;
	u64 hop3 = dips[(path >> 48) % LB_MAX_DIPS].addr;
	struct lb_macs macs;
	void *frame, *old;
	bool self;

	if (!hop1 || (hops > 1 && !hop2) || (hops > 2 && !hop3))
		return lb_exit(LB_CNT_DROP_NO_DIP, XDP_DROP);
	self = first->addr == state->config.dip;
	/* no link limits a packet to ourselves, but its length field does */
	if (total_len + room > (self ? 0xffff : state->config.mtu))
		return lb_exit(LB_CNT_DROP_TOO_BIG, XDP_DROP);
	if (bpf_xdp_adjust_head(ctx, -(int)room))
		return lb_exit(LB_CNT_DROP_NO_ROOM, XDP_DROP);
	frame = LB_FRAME(ctx);
	old = frame + room;
	if (frame + LB_WRAP_LEN + LB_MAX_HOPS * LB_HOP_LEN + LB_ETH_LEN + LB_IPV4_LEN > LB_END(ctx))
		return lb_exit(LB_CNT_DROP_NO_ROOM, XDP_DROP);
	macs = self ? lb_macs_kept(old) : lb_macs_towards(&state->config, first->mac, old);
	lb_write_wrap(frame, &state->config, first, macs, hash, hops);
	lb_store32(frame + LB_ETH_LEN + LB_WRAP_LEN, hop1);
	if (hops > 1)
		lb_store32(frame + LB_ETH_LEN + LB_WRAP_LEN + LB_HOP_LEN, hop2);
	if (hops > 2)
		lb_store32(frame + LB_ETH_LEN + LB_WRAP_LEN + 2 * LB_HOP_LEN, hop3);
	if (self)
		return lb_exit(LB_CNT_PASS_TO_SELF, XDP_PASS);
	return lb_exit(LB_CNT_TX_FORWARD_CHAIN, XDP_TX);
}

/* F14 to F22: a packet for a service of ours. */
static __always_inline int lb_forward_service(struct xdp_md *ctx, const struct lb_state *state,
					      const struct lb_service *service,
					      const struct lb_packet *packet)
{
	u64 frame_len = LB_END(ctx) - LB_FRAME(ctx);
	const struct lb_pool *pool = lb_pool_of(state, service);
	u64 word = pool->word, hash, chain, flags = service->flags;
	const struct lb_dip *dip;

	lb_count_service(service, frame_len);
	if (!lb_total_len_ok(packet, frame_len))
		return lb_exit(LB_CNT_DROP_MALFORMED, XDP_DROP);
	if (!(word & LB_POOL_VALID))
		return lb_exit(LB_CNT_DROP_NO_TABLE, XDP_DROP);
	hash = lb_flow_hash(&pool->key, packet->addresses, packet->ports, packet->protocol);
	chain = lb_bucket(word, hash);
	if (!(chain & LB_INDEX_MASK))
		return lb_exit(LB_CNT_DROP_NO_BUCKET, XDP_DROP);
	if (lb_unlikely(!lb_chain_at_rest(chain, packet->protocol, flags)))
		chain = lb_chain_path(chain, packet->protocol, flags);
	else
		chain &= LB_INDEX_MASK;
	dip = &state->dip[chain % LB_MAX_DIPS];
	if (!dip->addr)
		return lb_exit(LB_CNT_DROP_NO_DIP, XDP_DROP);
	if (lb_unlikely(chain >> 16))
		return lb_forward_chain(ctx, state, chain, packet->total_len, hash);
	return lb_forward_one(ctx, state, dip, packet->total_len, hash);
}

int lb_forwarder(struct xdp_md *ctx)
{
	const struct lb_state *state = lb_get_state();
	const struct lb_service *service;
	struct lb_packet packet;
	void *frame = LB_FRAME(ctx), *end = LB_END(ctx);
	int reason;

	if (!state)
		return lb_exit(LB_CNT_PASS_NO_SERVICE, XDP_PASS);
	if (lb_unlikely(!lb_parse_fast(frame, end, &packet))) {
		reason = lb_parse_slow(frame, end, &packet);
		if (reason != LB_PARSED)
			return lb_forward_odd(state, frame, reason);
	}
	/* F12: only this program makes GUE from our own DIP, behind this check */
	if (packet.protocol == LB_PROTO_UDP && packet.dport == state->config.gue_port &&
	    (packet.addresses & 0xffffffff) == state->config.dip)
		return lb_exit(LB_CNT_DROP_SPOOFED, XDP_DROP);
	service = lb_find_service(state, packet.daddr, packet.dport, packet.protocol);
	if (!service)
		return lb_exit(LB_CNT_PASS_NO_SERVICE, XDP_PASS);
	return lb_forward_service(ctx, state, service, &packet);
}
