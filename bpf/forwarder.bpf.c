/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The forwarder, an XDP program: VIP packet -> bucket -> chain -> GUE -> first
 * hop, for ordinary packets.  docs/wire.md, section 4, numbers its decisions.  Rare
 * packets go to forwarder_rare.bpf.c, so that ordinary ones do not pay for them.
 *
 * A packet's fields are read where they are needed, not kept: registers are few,
 * and each look-up takes five of them.  `version` is a constant, 4 or 6.
 */
#ifndef LB_FORWARDER_BPF_C
#define LB_FORWARDER_BPF_C

#include "bucket.bpf.c"
#include "exit.bpf.c"
#include "encap.h"

/* bcc's own returns an int, which costs the caller two shifts */
static long (*lb_adjust_head)(void *ctx, long delta) = (void *)BPF_FUNC_xdp_adjust_head;

static __always_inline u64 lb_inner_len(const void *frame, int version)
{
	if (version == 4)
		return lb_swap16(lb_load16(frame + LB_AT_TOTAL_LEN));
	return lb_swap16(lb_load16(frame + LB_AT_PAYLOAD6_LEN)) + LB_IPV6_LEN;
}

static __always_inline u64 lb_protocol(const void *frame, int version)
{
	return lb_load8(frame + (version == 4 ? LB_AT_PROTOCOL : LB_AT_PROTOCOL6));
}

static __always_inline u64 lb_ports(const void *frame, int version)
{
	return lb_load32(frame + (version == 4 ? LB_AT_SPORT : LB_AT_SPORT6));
}

/* F14 */
static __always_inline bool lb_length_ok(const void *frame, int version, u64 frame_len)
{
	u64 length = lb_inner_len(frame, version);
	u64 least = version == 4 ? LB_IPV4_LEN + LB_UDP_LEN : LB_IPV6_LEN + LB_UDP_LEN;

	if (lb_protocol(frame, version) == LB_PROTO_TCP)
		least += LB_TCP_LEN - LB_UDP_LEN;
	return length >= least && length + LB_ETH_LEN <= frame_len;
}

static __always_inline u64 lb_hash(const struct lb_key *key, u64 flags, const void *frame,
				   int version)
{
	u64 ports = lb_ports(frame, version), protocol = lb_protocol(frame, version);
	u64 saddr[2], daddr[2];

	if (version == 4) {
		if (lb_unlikely(flags & LB_SERVICE_BY_CLIENT))
			return lb_client_hash4(key, lb_load32(frame + LB_AT_SADDR));
		return lb_flow_hash4(key, lb_load64(frame + LB_AT_SADDR), ports, protocol);
	}
	saddr[0] = lb_load64(frame + LB_AT_SADDR6);
	saddr[1] = lb_load64(frame + LB_AT_SADDR6 + 8);
	if (lb_unlikely(flags & LB_SERVICE_BY_CLIENT))
		return lb_client_hash6(key, saddr);
	daddr[0] = lb_load64(frame + LB_AT_DADDR6);
	daddr[1] = lb_load64(frame + LB_AT_DADDR6 + 8);
	return lb_flow_hash6(key, saddr, daddr, ports, protocol);
}

/* F18, F20, F21: a chain at rest, or a service that visits the current server only. */
static __always_inline int lb_forward_one(struct xdp_md *ctx, const void *before, int version,
					  u64 index, u64 hash)
{
	const struct lb_config *config = LB_STATE_AT(config);
	const struct lb_dip *dip = LB_STATE_AT(dip[0]) + index % LB_MAX_DIPS;
	struct lb_outer outer;
	void *frame;
	u64 addr;

	LB_KEEP(dip);
	addr = dip->addr;
	if (!addr)
		return lb_exit(LB_CNT_DROP_NO_DIP, XDP_DROP);
	if (addr == config->dip)
		return lb_exit(LB_CNT_PASS_LOCAL, XDP_PASS);
	if (lb_inner_len(before, version) + LB_WRAP_LEN > config->mtu)
		return LB_GO_TOO_BIG;
	if (lb_adjust_head(ctx, -LB_WRAP_LEN))
		return lb_exit(LB_CNT_DROP_NO_ROOM, XDP_DROP);
	frame = LB_FRAME(ctx);
	if (frame + LB_WRAP_LEN + LB_ETH_LEN + LB_IPV4_LEN > LB_END(ctx))
		return lb_exit(LB_CNT_DROP_NO_ROOM, XDP_DROP);
	config = LB_STATE_AT(config);
	outer = lb_outer_for(frame + LB_WRAP_LEN + LB_ETH_LEN, version);
	lb_write_macs(frame, lb_macs_towards(config, dip->mac, frame + LB_WRAP_LEN));
	lb_write_wrap(frame + LB_ETH_LEN, config, dip, &outer, hash, 0);
	return lb_exit(LB_CNT_TX_FORWARD, XDP_TX);
}

/* F19, F20, F22: a bucket in transition. */
static __always_inline int lb_forward_chain(struct xdp_md *ctx, const void *before, int version,
					    u64 path, u64 hash)
{
	const struct lb_config *config = LB_STATE_AT(config);
	const struct lb_dip *dips = LB_STATE_AT(dip[0]), *first = &dips[path % LB_MAX_DIPS];
	u64 hops = lb_chain_hops(path), grown = LB_WRAP_LEN_WITH(hops);
	u64 hop1 = dips[(path >> 16) % LB_MAX_DIPS].addr;
	u64 hop2 = dips[(path >> 32) % LB_MAX_DIPS].addr;
	u64 hop3 = dips[(path >> 48) % LB_MAX_DIPS].addr, total;
	struct lb_outer outer;
	void *frame, *old;
	bool self;

	if (!first->addr || !hop1 || (hops > 1 && !hop2) || (hops > 2 && !hop3))
		return lb_exit(LB_CNT_DROP_NO_DIP, XDP_DROP);
	self = first->addr == config->dip;
	total = lb_inner_len(before, version) + grown;
	if (lb_goes_to_too_big(total, before + LB_ETH_LEN, version, self))
		return LB_GO_TOO_BIG;
	/* no link limits a packet to ourselves, but its length field does */
	if (total > 0xffff)
		return lb_exit(LB_CNT_DROP_TOO_BIG, XDP_DROP);
	if (lb_adjust_head(ctx, -(long)grown))
		return lb_exit(LB_CNT_DROP_NO_ROOM, XDP_DROP);
	frame = LB_FRAME(ctx);
	old = frame + grown;
	if (frame + LB_WRAP_LEN_WITH(LB_MAX_HOPS) + LB_ETH_LEN + LB_IPV4_LEN > LB_END(ctx))
		return lb_exit(LB_CNT_DROP_NO_ROOM, XDP_DROP);
	config = LB_STATE_AT(config);
	outer = lb_outer_for(old + LB_ETH_LEN, version);
	lb_write_macs(frame, self ? lb_macs_kept(old) : lb_macs_towards(config, first->mac, old));
	lb_write_wrap(frame + LB_ETH_LEN, config, first, &outer, hash, hops);
	lb_write_hops(frame + LB_ETH_LEN, hops, hop1, hop2, hop3);
	if (self)
		return lb_exit(LB_CNT_PASS_TO_SELF, XDP_PASS);
	return lb_exit(LB_CNT_TX_FORWARD_CHAIN, XDP_TX);
}

/* F13b to F22: a packet for a service of ours. */
static __always_inline int lb_forward_service(struct xdp_md *ctx, const void *frame, int version,
					      u64 entry)
{
	u64 frame_len = LB_END(ctx) - LB_FRAME(ctx), hash, chain, protocol, word;
	const struct lb_pool *pool;

	if (lb_unlikely(lb_is_for_other_host(frame, LB_STATE_AT(config))))
		return lb_exit(LB_CNT_PASS_OTHER_HOST, XDP_PASS);
	lb_count_service(entry, frame_len);
	if (!lb_length_ok(frame, version, frame_len))
		return lb_exit(LB_CNT_DROP_MALFORMED, XDP_DROP);
	pool = lb_pool_of(entry);
	word = pool->word;
	if (!word)
		return lb_exit(LB_CNT_DROP_NO_TABLE, XDP_DROP);
	hash = lb_hash(&pool->key, LB_ENTRY_FLAGS(entry), frame, version);
	if (lb_likely(word & LB_POOL_AT_REST)) {
		chain = lb_bucket_at_rest(word, hash);
	} else {
		chain = lb_bucket(word, hash);
		protocol = lb_protocol(frame, version);
		if (lb_chain_at_rest(chain, protocol, LB_ENTRY_FLAGS(entry)))
			chain &= LB_INDEX_MASK;
		else
			chain = lb_chain_path(chain, protocol, LB_ENTRY_FLAGS(entry));
		if (chain >> 16)
			return lb_forward_chain(ctx, frame, version, chain, hash);
	}
	if (!chain)
		return lb_exit(LB_CNT_DROP_NO_BUCKET, XDP_DROP);
	return lb_forward_one(ctx, frame, version, chain, hash);
}

/*
 * A frame long enough for TCP, without options.  A packet that is not for a VIP passes
 * by its address alone; one for a service of the exact-match table is TCP or UDP.
 */
static __always_inline int lb_forward4(struct xdp_md *ctx, const void *frame)
{
	const struct lb_state *state = lb_get_state();
	u64 view = state->config.view, daddr = lb_load32(frame + LB_AT_DADDR);
	const struct lb_first_lookup *first = &state->first_lookup[view & 1];
	u64 leaf, entry;

	/* F12: only this program makes GUE from our own DIP, after this check */
	if (lb_unlikely(lb_load32(frame + LB_AT_SADDR) == state->config.dip))
		return LB_GO_RARE;
	if (!lb_vip_filter_passes4(&first->filter, view, daddr))
		return lb_exit(LB_CNT_PASS_NO_SERVICE, XDP_PASS);
	entry = lb_find_exact4(&first->exact, view, lb_load64(frame + LB_AT_DADDR),
			       lb_protocol(frame, 4));
	if (lb_unlikely(!entry)) {
		leaf = lb_leaf4(lb_vips_in_use(view), daddr);
		if (!leaf)
			return lb_exit(LB_CNT_PASS_NO_SERVICE, XDP_PASS);
		if (!lb_is_tcp_or_udp(lb_protocol(frame, 4)) || lb_is_fragment4(frame))
			return LB_GO_RARE;
		entry = lb_service_of(lb_rows_in_use(view), leaf, lb_load16(frame + LB_AT_DPORT),
				      lb_protocol(frame, 4));
		if (!entry)
			return lb_exit(LB_CNT_PASS_NO_SERVICE, XDP_PASS);
	} else if (lb_unlikely(lb_is_fragment4(frame))) {
		return LB_GO_RARE;
	}
	return lb_forward_service(ctx, frame, 4, entry);
}

/* Likewise for IPv6; a packet with extension headers has no entry in the exact-match table. */
static __always_inline int lb_forward6(struct xdp_md *ctx, const void *frame, const void *end)
{
	const struct lb_state *state = lb_get_state();
	u64 view = state->config.view, head = lb_load64(frame + LB_AT_DADDR6),
	    tail = lb_load64(frame + LB_AT_DADDR6 + 8);
	const struct lb_first_lookup *first = &state->first_lookup[view & 1];
	u64 leaf, entry = 0;

	if (!lb_vip_filter_passes6(&first->filter, view, head, tail))
		return lb_exit(LB_CNT_PASS_NO_SERVICE, XDP_PASS);
	if (lb_likely(frame + LB_ETH_LEN + LB_IPV6_LEN + LB_TCP_LEN <= end))
		entry = lb_find_exact6(&first->exact, view, head, tail, lb_ports(frame, 6),
				       lb_protocol(frame, 6));
	if (!entry) {
		leaf = lb_leaf6(lb_vips_in_use(view), view, head, tail);
		if (!leaf)
			return lb_exit(LB_CNT_PASS_NO_SERVICE, XDP_PASS);
		if (!lb_is_ordinary6(frame, end))
			return LB_GO_RARE;
		entry = lb_service_of(lb_rows_in_use(view), leaf, lb_load16(frame + LB_AT_DPORT6),
				      lb_protocol(frame, 6));
		if (!entry)
			return lb_exit(LB_CNT_PASS_NO_SERVICE, XDP_PASS);
	}
	return lb_forward_service(ctx, frame, 6, entry);
}

/* F1 to F4 for all other frames: tags, IPv4 options, frames too short for a TCP header. */
static __always_inline int lb_forward_other(const void *frame, const void *end)
{
	u64 type, view = LB_STATE_AT(config)->view;

	if (frame + LB_ETH_LEN > end)
		return lb_exit(LB_CNT_PASS_NOT_IP, XDP_PASS);
	type = lb_load16(frame + LB_AT_ETHERTYPE);
	if (type != LB_ETH_IPV4 && type != LB_ETH_IPV6 && type != LB_ETH_VLAN &&
	    type != LB_ETH_QINQ)
		return lb_exit(LB_CNT_PASS_NOT_IP, XDP_PASS);
	if (frame + LB_ETH_LEN + LB_IPV4_LEN <= end &&
	    (lb_load32(frame + LB_AT_ETHERTYPE) & LB_VERSION_MASK) == LB_IS_IPV4 &&
	    lb_load32(frame + LB_AT_SADDR) != LB_STATE_AT(config)->dip &&
	    !lb_leaf4(lb_vips_in_use(view), lb_load32(frame + LB_AT_DADDR)))
		return lb_exit(LB_CNT_PASS_NO_SERVICE, XDP_PASS);
	return LB_GO_RARE;
}

/*
 * Most packets of a server are decided by their address: one without tags that is not
 * for a VIP passes by F4, F12 and F13, whatever else it is.
 */
static __always_inline int lb_forward(struct xdp_md *ctx)
{
	const void *frame = LB_FRAME(ctx), *end = LB_END(ctx);
	u64 word;

	if (lb_likely(frame + LB_ETH_LEN + LB_IPV4_LEN + LB_TCP_LEN <= end)) {
		word = lb_load32(frame + LB_AT_ETHERTYPE);
		if (lb_likely((word & LB_NO_OPTIONS_MASK) == LB_NO_OPTIONS4))
			return lb_forward4(ctx, frame);
		if ((word & LB_VERSION_MASK) == LB_IS_IPV6)
			return lb_forward6(ctx, frame, end);
	}
	return lb_forward_other(frame, end);
}

/* The program that is attached: runs programs before the forwarder, then the forwarder. */
int lb_root(struct xdp_md *ctx)
{
	lb_go_to_slot(ctx, LB_SLOT_BEFORE);
	return lb_leave(ctx, lb_forward(ctx));
}

/* The forwarder alone, in the root array: programs before it call it. */
int lb_forwarder(struct xdp_md *ctx)
{
	return lb_leave(ctx, lb_forward(ctx));
}

#endif
