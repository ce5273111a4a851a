/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The forwarder, an XDP program: VIP packet -> bucket -> chain -> GUE -> first
 * hop, for ordinary packets.  docs/wire.md, section 4, numbers its decisions.
 * What is rare goes to the stage, so that the ordinary packet does not pay for it.
 */
#include "encap.h"

/* F18, F20, F21: a chain at rest, or a service that visits the current server only. */
static __always_inline int lb_forward_one(struct xdp_md *ctx, const struct lb_state *state,
					  const struct lb_dip *dip, const struct lb_packet *packet,
					  u64 hash)
{
	struct lb_outer outer;
	void *frame;

	if (dip->addr == state->config.dip)
		return lb_exit(LB_CNT_PASS_LOCAL, XDP_PASS);
	if (packet->inner_len + LB_WRAP_LEN > state->config.mtu)
		return LB_GO_TOO_BIG;
	if (bpf_xdp_adjust_head(ctx, -LB_WRAP_LEN))
		return lb_exit(LB_CNT_DROP_NO_ROOM, XDP_DROP);
	frame = LB_FRAME(ctx);
	if (frame + LB_WRAP_LEN + LB_ETH_LEN + LB_IPV4_LEN > LB_END(ctx))
		return lb_exit(LB_CNT_DROP_NO_ROOM, XDP_DROP);
	outer = lb_outer_for(frame + LB_WRAP_LEN + LB_ETH_LEN, packet->version);
	lb_write_macs(frame, lb_macs_towards(&state->config, dip->mac, frame + LB_WRAP_LEN));
	lb_write_wrap(frame + LB_ETH_LEN, &state->config, dip, &outer, hash, 0);
	return lb_exit(LB_CNT_TX_FORWARD, XDP_TX);
}

/* F19, F20, F22: a bucket in transition. */
static __always_inline int lb_forward_chain(struct xdp_md *ctx, const struct lb_state *state,
					    u64 path, const struct lb_packet *packet, u64 hash)
{
	const struct lb_dip *dips = state->dip;
	const struct lb_dip *first = &dips[path % LB_MAX_DIPS];
	u64 hops = lb_chain_hops(path), room = LB_WRAP_LEN + hops * LB_HOP_LEN;
	u64 hop1 = dips[(path >> 16) % LB_MAX_DIPS].addr;
	u64 hop2 = dips[(path >> 32) % LB_MAX_DIPS].addr;
	u64 hop3 = dips[(path >> 48) % LB_MAX_DIPS].addr;
	struct lb_outer outer;
	void *frame, *old;
	bool self;

	if (!hop1 || (hops > 1 && !hop2) || (hops > 2 && !hop3))
		return lb_exit(LB_CNT_DROP_NO_DIP, XDP_DROP);
	self = first->addr == state->config.dip;
	/* no link limits a packet to ourselves, but its length field does */
	if (packet->inner_len + room > (self ? 0xffff : state->config.mtu))
		return self ? lb_exit(LB_CNT_DROP_TOO_BIG, XDP_DROP) : LB_GO_TOO_BIG;
	if (bpf_xdp_adjust_head(ctx, -(int)room))
		return lb_exit(LB_CNT_DROP_NO_ROOM, XDP_DROP);
	frame = LB_FRAME(ctx);
	old = frame + room;
	if (frame + LB_WRAP_LEN + LB_MAX_HOPS * LB_HOP_LEN + LB_ETH_LEN + LB_IPV4_LEN > LB_END(ctx))
		return lb_exit(LB_CNT_DROP_NO_ROOM, XDP_DROP);
	outer = lb_outer_for(old + LB_ETH_LEN, packet->version);
	lb_write_macs(frame,
		      self ? lb_macs_kept(old) : lb_macs_towards(&state->config, first->mac, old));
	lb_write_wrap(frame + LB_ETH_LEN, &state->config, first, &outer, hash, hops);
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
					      u64 entry, const struct lb_packet *packet)
{
	u64 frame_len = LB_END(ctx) - LB_FRAME(ctx);
	const struct lb_pool *pool = lb_pool_of(state, entry);
	u64 word = pool->word, hash, chain, flags = LB_ENTRY_FLAGS(entry);
	const struct lb_dip *dip;

	lb_count_service(entry, frame_len);
	if (!lb_inner_len_ok(packet, frame_len - LB_ETH_LEN))
		return lb_exit(LB_CNT_DROP_MALFORMED, XDP_DROP);
	if (!(word & LB_POOL_VALID))
		return lb_exit(LB_CNT_DROP_NO_TABLE, XDP_DROP);
	hash = lb_hash(pool, entry, packet);
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
		return lb_forward_chain(ctx, state, chain, packet, hash);
	return lb_forward_one(ctx, state, dip, packet, hash);
}

/* A frame with room for an IPv4 header and its first word right. */
static __always_inline int lb_forward4(struct xdp_md *ctx, const struct lb_state *state,
				       const void *frame, const void *end)
{
	u64 leaf, entry, own = state->config.dip;
	struct lb_packet packet = {};

	/* F12: only this program makes GUE from our own DIP, behind this check */
	if (lb_unlikely(lb_load32(frame + LB_AT_SADDR) == own))
		return LB_GO_STAGE;
	leaf = lb_leaf4(state, lb_load32(frame + LB_AT_DADDR));
	if (!leaf)
		return lb_exit(LB_CNT_PASS_NO_SERVICE, XDP_PASS);
	if (lb_unlikely(!lb_parse4(frame, end, &packet)))
		return LB_GO_STAGE;
	entry = lb_service_of(state, leaf, packet.ports >> 16, packet.protocol);
	if (!entry)
		return lb_exit(LB_CNT_PASS_NO_SERVICE, XDP_PASS);
	return lb_forward_service(ctx, state, entry, &packet);
}

/* Likewise for IPv6. */
static __always_inline int lb_forward6(struct xdp_md *ctx, const struct lb_state *state,
				       const void *frame, const void *end)
{
	struct lb_packet packet = {};
	u64 leaf, entry;

	leaf = lb_leaf6(state, lb_load64(frame + LB_AT_DADDR6),
			lb_load64(frame + LB_AT_DADDR6 + 8));
	if (!leaf)
		return lb_exit(LB_CNT_PASS_NO_SERVICE, XDP_PASS);
	if (lb_unlikely(!lb_parse6(frame, end, &packet)))
		return LB_GO_STAGE;
	entry = lb_service_of(state, leaf, packet.ports >> 16, packet.protocol);
	if (!entry)
		return lb_exit(LB_CNT_PASS_NO_SERVICE, XDP_PASS);
	return lb_forward_service(ctx, state, entry, &packet);
}

/*
 * Without tags an address tells most packets of a server apart: nothing that
 * is not for a VIP needs more than F4, F12 and F13.
 */
static __always_inline int lb_forward(struct xdp_md *ctx)
{
	const struct lb_state *state = lb_get_state();
	const void *frame = LB_FRAME(ctx), *end = LB_END(ctx);
	u64 word, type;

	if (frame + LB_ETH_LEN + LB_IPV4_LEN <= end) {
		word = lb_load32(frame + LB_AT_ETHERTYPE) & LB_VERSION_MASK;
		if (lb_likely(word == LB_IS_IPV4))
			return lb_forward4(ctx, state, frame, end);
		if (word == LB_IS_IPV6 && frame + LB_ETH_LEN + LB_IPV6_LEN <= end)
			return lb_forward6(ctx, state, frame, end);
	}
	if (frame + LB_ETH_LEN > end)
		return lb_exit(LB_CNT_PASS_NOT_IP, XDP_PASS);
	type = lb_load16(frame + LB_AT_ETHERTYPE);
	if (type == LB_ETH_IPV4 || type == LB_ETH_IPV6)
		return lb_exit(LB_CNT_PASS_MALFORMED, XDP_PASS);
	if (type == LB_ETH_VLAN || type == LB_ETH_QINQ)
		return LB_GO_STAGE;
	return lb_exit(LB_CNT_PASS_NOT_IP, XDP_PASS);
}

/* What is attached: programs before the forwarder, then the forwarder. */
int lb_root(struct xdp_md *ctx)
{
	lb_root_slots.call(ctx, LB_SLOT_BEFORE);
	lb_root_slots.call(ctx, LB_SLOT_BEFORE_2);
	return lb_leave(ctx, lb_forward(ctx));
}

/* The forwarder alone, for those programs to go on to. */
int lb_forwarder(struct xdp_md *ctx)
{
	return lb_leave(ctx, lb_forward(ctx));
}
