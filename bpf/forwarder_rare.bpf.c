/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The forwarder's program for rare packets: tags, IPv4 options, IPv6 extension headers,
 * ICMP, fragments (docs/wire.md, section 4).  forwarder.bpf.c calls it for an unchanged
 * frame, and it begins anew.
 */
#ifndef LB_FORWARDER_RARE_BPF_C
#define LB_FORWARDER_RARE_BPF_C

#include "bucket.bpf.c"
#include "exit.bpf.c"
#include "encap.h"
#include "headers.h"
#include "tags.h"

/* The flow that selects the bucket: from the packet, its first fragment, or an ICMP error's quote. */
struct lb_flow {
	u64 saddr[2]; /* IPv4: in the first word */
	u64 daddr[2];
	u64 ports;
	u64 protocol;
	u64 read_len; /* the packet's length must be at least this (F14) */
	bool silent;  /* never answered when too big: a later fragment, an ICMP error */
};

struct lb_arrival {
	const void *ip;
	const void *end;
	u64 l3;
	u64 ip_len; /* from the IP header to the frame's end */
	u64 frame_len;
	bool other_host; /* the frame is for another host's MAC */
};

#define LB_FOUND (-3)

/* "VIP?": the counter if the packet is to a VIP of ours, in a frame for us. */
static __always_inline int lb_if_vip(const struct lb_arrival *arrival, u64 leaf, u32 counter,
				     int verdict)
{
	if (!leaf)
		return lb_exit(LB_CNT_PASS_NO_SERVICE, XDP_PASS);
	if (arrival->other_host)
		return lb_exit(LB_CNT_PASS_OTHER_HOST, XDP_PASS);
	return lb_exit(counter, verdict);
}

/* client, vip: where these addresses are; a packet that a server sent has them reversed. */
static __always_inline void lb_read_addresses(const void *client, const void *vip, u64 version,
					      struct lb_flow *flow)
{
	if (version == 4) {
		flow->saddr[0] = lb_load32(client);
		flow->daddr[0] = lb_load32(vip);
		return;
	}
	flow->saddr[0] = lb_load64(client);
	flow->saddr[1] = lb_load64(client + 8);
	flow->daddr[0] = lb_load64(vip);
	flow->daddr[1] = lb_load64(vip + 8);
}

#define LB_SADDR_OF(ip, version) ((ip) + ((version) == 4 ? LB_IP_SADDR_AT : LB_IP6_SADDR_AT))
#define LB_DADDR_OF(ip, version) ((ip) + ((version) == 4 ? LB_IP_DADDR_AT : LB_IP6_DADDR_AT))

/* F8: section 4.3; the flow of the packet inside an error, reversed. */
static __always_inline int lb_find_icmp(const struct lb_arrival *arrival, u64 version, u64 leaf,
					const struct lb_headers *headers, struct lb_flow *flow)
{
	const void *icmp =
		lb_at(arrival->ip, arrival->end, arrival->ip_len, headers->length, LB_ICMP_LEN);
	struct lb_embedded embedded;
	const void *header;

	if (!leaf)
		return lb_exit(LB_CNT_PASS_NO_SERVICE, XDP_PASS);
	if (arrival->other_host)
		return lb_exit(LB_CNT_PASS_OTHER_HOST, XDP_PASS);
	if (!icmp)
		return lb_exit(LB_CNT_DROP_MALFORMED, XDP_DROP);
	if (!lb_icmp_is_error(version, lb_load8(icmp)))
		return lb_exit(LB_CNT_PASS_VIP_ICMP, XDP_PASS);
	switch (lb_read_embedded(arrival->ip, arrival->end, arrival->ip_len,
				 headers->length + LB_ICMP_LEN, version, &embedded)) {
	case LB_EMBEDDED_OK:
		break;
	case LB_EMBEDDED_OTHER:
		return lb_exit(LB_CNT_PASS_VIP_ICMP, XDP_PASS);
	case LB_EMBEDDED_EXT_HEADERS:
		return lb_exit(LB_CNT_DROP_EXT_HEADERS, XDP_DROP);
	default:
		return lb_exit(LB_CNT_DROP_MALFORMED, XDP_DROP);
	}
	header = lb_at(arrival->ip, arrival->end, arrival->ip_len, embedded.at, LB_IP_LEN(version));
	if (!header)
		return lb_exit(LB_CNT_DROP_MALFORMED, XDP_DROP);
	lb_read_addresses(LB_DADDR_OF(header, version), LB_SADDR_OF(header, version), version,
			  flow);
	flow->ports = embedded.ports;
	flow->protocol = embedded.protocol;
	flow->read_len = embedded.length;
	flow->silent = true;
	return LB_FOUND;
}

/* F9: section 4.4. */
static __always_inline int lb_find_later(const struct lb_arrival *arrival, u64 version, u64 leaf,
					 const struct lb_headers *headers, struct lb_flow *flow)
{
	struct lb_fragment_key key;
	struct lb_fragment *first;

	if (!lb_key_protocol_ok(version, headers->key_protocol))
		return lb_exit(LB_CNT_PASS_NO_SERVICE, XDP_PASS);
	lb_fill_fragment_key(arrival->ip, version, headers, &key);
	first = lb_fragments.lookup(&key);
	if (!first)
		return lb_if_vip(arrival, leaf, LB_CNT_DROP_FRAGMENT, XDP_DROP);
	lb_read_addresses(LB_SADDR_OF(arrival->ip, version), LB_DADDR_OF(arrival->ip, version),
			  version, flow);
	flow->ports = first->ports;
	flow->protocol = first->protocol;
	flow->read_len = headers->length + 1;
	flow->silent = true;
	return LB_FOUND;
}

/* F10 to F12. */
static __always_inline int lb_find_ports(const struct lb_arrival *arrival, u64 version, u64 leaf,
					 const struct lb_headers *headers, struct lb_flow *flow)
{
	u64 length = headers->protocol == LB_PROTO_TCP ? LB_TCP_LEN : LB_UDP_LEN;
	const struct lb_config *config = LB_STATE_AT(config);
	const void *l4;

	if (!lb_is_tcp_or_udp(headers->protocol))
		return lb_exit(LB_CNT_PASS_NO_SERVICE, XDP_PASS);
	l4 = lb_at(arrival->ip, arrival->end, arrival->ip_len, headers->length, LB_UDP_LEN);
	if (!l4 || headers->length + length > arrival->ip_len)
		return lb_if_vip(arrival, leaf, LB_CNT_DROP_MALFORMED, XDP_DROP);
	lb_read_addresses(LB_SADDR_OF(arrival->ip, version), LB_DADDR_OF(arrival->ip, version),
			  version, flow);
	flow->ports = lb_load32(l4);
	flow->protocol = headers->protocol;
	flow->read_len = headers->length + length;
	flow->silent = false;
	if (version == 4 && flow->saddr[0] == config->dip && flow->protocol == LB_PROTO_UDP &&
	    flow->ports >> 16 == config->gue_port && !arrival->other_host)
		return lb_exit(LB_CNT_DROP_SPOOFED, XDP_DROP);
	return LB_FOUND;
}

/* F5 to F12: LB_FOUND, or a verdict. */
static __always_inline int lb_find_flow(const struct lb_arrival *arrival, u64 version, u64 leaf,
					struct lb_headers *headers, struct lb_flow *flow)
{
	int result;

	if (version == 4 && (lb_load8(arrival->ip) & 0xf) < 5)
		return lb_if_vip(arrival, leaf, LB_CNT_DROP_MALFORMED, XDP_DROP);
	result = version == 4
			 ? lb_read_headers4(arrival->ip, arrival->ip_len, headers)
			 : lb_read_headers6(arrival->ip, arrival->end, arrival->ip_len, headers);
	if (result == LB_HEADERS_TOO_MANY)
		return lb_if_vip(arrival, leaf, LB_CNT_DROP_EXT_HEADERS, XDP_DROP);
	if (result != LB_HEADERS_OK)
		return lb_if_vip(arrival, leaf, LB_CNT_DROP_MALFORMED, XDP_DROP);
	if (headers->protocol == LB_ICMP_PROTO(version) && headers->fragment != LB_FRAGMENT_NONE)
		return lb_if_vip(arrival, leaf, LB_CNT_PASS_VIP_ICMP, XDP_PASS);
	if (headers->protocol == LB_ICMP_PROTO(version))
		return lb_find_icmp(arrival, version, leaf, headers, flow);
	if (headers->fragment == LB_FRAGMENT_LATER)
		return lb_find_later(arrival, version, leaf, headers, flow);
	return lb_find_ports(arrival, version, leaf, headers, flow);
}

static __always_inline void lb_remember_first(const struct lb_arrival *arrival, u64 version,
					      const struct lb_headers *headers,
					      const struct lb_flow *flow)
{
	struct lb_fragment value = { flow->ports, flow->protocol };
	struct lb_fragment_key key;

	lb_fill_fragment_key(arrival->ip, version, headers, &key);
	lb_fragments.update(&key, &value);
}

static __always_inline u64 lb_hash_flow(const struct lb_key *key, u64 flags, u64 version,
					const struct lb_flow *flow)
{
	if (version == 4) {
		if (flags & LB_SERVICE_BY_CLIENT)
			return lb_client_hash4(key, flow->saddr[0]);
		return lb_flow_hash4(key, flow->saddr[0] | flow->daddr[0] << 32, flow->ports,
				     flow->protocol);
	}
	if (flags & LB_SERVICE_BY_CLIENT)
		return lb_client_hash6(key, flow->saddr);
	return lb_flow_hash6(key, flow->saddr, flow->daddr, flow->ports, flow->protocol);
}

/* Where a packet goes. */
struct lb_way {
	u64 path;
	u64 hash;
	__be32 hop[LB_MAX_HOPS];
};

/* F15 to F17. */
static __always_inline int lb_find_way(u64 entry, u64 version, const struct lb_flow *flow,
				       struct lb_way *way)
{
	const struct lb_pool *pool = LB_STATE_AT(pool[0]) + LB_ENTRY_POOL(entry);
	const struct lb_dip *dips = LB_STATE_AT(dip[0]);
	u64 chain, hops, flags = LB_ENTRY_FLAGS(entry);
	u64 word = pool->word; /* once: another key makes it zero for a while */

	if (!word)
		return lb_exit(LB_CNT_DROP_NO_TABLE, XDP_DROP);
	way->hash = lb_hash_flow(&pool->key, flags, version, flow);
	chain = lb_bucket(word, way->hash);
	if (!(chain & LB_INDEX_MASK))
		return lb_exit(LB_CNT_DROP_NO_BUCKET, XDP_DROP);
	way->path = lb_chain_path(chain, flow->protocol, flags);
	hops = lb_chain_hops(way->path);
	way->hop[0] = dips[(way->path >> 16) % LB_MAX_DIPS].addr;
	way->hop[1] = dips[(way->path >> 32) % LB_MAX_DIPS].addr;
	way->hop[2] = dips[(way->path >> 48) % LB_MAX_DIPS].addr;
	if (!dips[way->path % LB_MAX_DIPS].addr || (hops > 0 && !way->hop[0]) ||
	    (hops > 1 && !way->hop[1]) || (hops > 2 && !way->hop[2]))
		return lb_exit(LB_CNT_DROP_NO_DIP, XDP_DROP);
	return LB_FOUND;
}

/* Grows the frame and writes all outer headers; false if it cannot grow. */
static __always_inline bool lb_wrap_rare(struct xdp_md *ctx, u64 l3, u64 version,
					 const struct lb_way *way, bool self)
{
	const struct lb_dip *first = LB_STATE_AT(dip[0]) + way->path % LB_MAX_DIPS;
	u64 hops = lb_chain_hops(way->path) & LB_MAX_HOPS;
	u64 grown = LB_WRAP_LEN_WITH(hops);
	const struct lb_config *config = LB_STATE_AT(config);
	void *frame, *old, *outer_ip, *end;
	struct lb_outer outer;
	const void *ip;

	if (bpf_xdp_adjust_head(ctx, -(int)grown))
		return false;
	frame = LB_FRAME(ctx);
	end = LB_END(ctx);
	old = frame + grown;
	outer_ip = frame + (lb_opaque(l3) & LB_L3_MASK);
	ip = lb_ip_at(old, end, l3, version);
	if (!ip || old + LB_MAX_LINK_LEN > end || frame + LB_MAX_LINK_LEN > end ||
	    outer_ip + LB_WRAP_LEN_WITH(LB_MAX_HOPS) + LB_TAG_LEN > end)
		return false;
	outer = lb_outer_for(ip, version);
	lb_write_macs(frame, self ? lb_macs_kept(old) : lb_macs_towards(config, first->mac, old));
	lb_copy_tags(frame, old, l3);
	lb_write_wrap(outer_ip, config, first, &outer, way->hash, hops);
	if (hops > 0)
		lb_write_hops(outer_ip, hops, way->hop[0], way->hop[1], way->hop[2]);
	return true;
}

/* F18 to F22. */
static __always_inline int lb_send(struct xdp_md *ctx, const struct lb_arrival *arrival,
				   u64 version, u64 inner_len, const struct lb_way *way,
				   bool silent)
{
	const struct lb_config *config = LB_STATE_AT(config);
	u64 hops = lb_chain_hops(way->path), total = inner_len + LB_WRAP_LEN_WITH(hops);
	bool self = LB_STATE_AT(dip[0])[way->path % LB_MAX_DIPS].addr == config->dip;

	if (self && !hops)
		return lb_exit(LB_CNT_PASS_LOCAL, XDP_PASS);
	if (!(self && silent) && lb_goes_to_too_big(total, arrival->ip, version, self))
		return silent ? lb_exit(LB_CNT_DROP_TOO_BIG, XDP_DROP) : LB_GO_TOO_BIG;
	/* no link limits a packet to ourselves, but its length field does */
	if (total > 0xffff)
		return lb_exit(LB_CNT_DROP_TOO_BIG, XDP_DROP);
	if (!lb_wrap_rare(ctx, arrival->l3, version, way, self))
		return lb_exit(LB_CNT_DROP_NO_ROOM, XDP_DROP);
	if (self)
		return lb_exit(LB_CNT_PASS_TO_SELF, XDP_PASS);
	return lb_exit(hops ? LB_CNT_TX_FORWARD_CHAIN : LB_CNT_TX_FORWARD, XDP_TX);
}

static __always_inline u64 lb_entry_of(u64 view, u64 leaf, const struct lb_flow *flow)
{
	if (!leaf)
		return 0;
	return lb_service_of(lb_rows_in_use(view), leaf, flow->ports >> 16, flow->protocol);
}

/* F4 to F22. */
static __always_inline int lb_forward_rare_ip(struct xdp_md *ctx, u64 l3, u64 version)
{
	struct lb_arrival arrival = { .end = LB_END(ctx), .l3 = l3 };
	const void *frame = LB_FRAME(ctx);
	struct lb_headers headers = {};
	struct lb_flow flow = {};
	struct lb_way way = {};
	u64 view = LB_STATE_AT(config)->view, leaf, entry, inner_len;
	int result;

	arrival.frame_len = LB_END(ctx) - LB_FRAME(ctx);
	arrival.ip_len = arrival.frame_len - l3;
	arrival.ip = lb_ip_at(frame, arrival.end, l3, version);
	if (!arrival.ip || frame + LB_ETH_LEN > arrival.end)
		return lb_exit(LB_CNT_PASS_MALFORMED, XDP_PASS);
	arrival.other_host = lb_is_for_other_host(frame, LB_STATE_AT(config));
	leaf = lb_leaf_of(view, arrival.ip, version);
	result = lb_find_flow(&arrival, version, leaf, &headers, &flow);
	if (result != LB_FOUND)
		return result;
	entry = lb_entry_of(view, leaf, &flow);
	if (!entry && !lb_is_tcp_or_udp(headers.protocol) && headers.fragment != LB_FRAGMENT_LATER)
		return lb_exit(LB_CNT_PASS_VIP_ICMP, XDP_PASS);
	if (!entry)
		return lb_exit(LB_CNT_PASS_NO_SERVICE, XDP_PASS);
	if (arrival.other_host)
		return lb_exit(LB_CNT_PASS_OTHER_HOST, XDP_PASS);
	lb_count_service(entry, arrival.frame_len);
	inner_len = lb_outer_for(arrival.ip, version).inner_len;
	if (inner_len < flow.read_len || inner_len > arrival.ip_len)
		return lb_exit(LB_CNT_DROP_MALFORMED, XDP_DROP);
	if (headers.fragment == LB_FRAGMENT_FIRST)
		lb_remember_first(&arrival, version, &headers, &flow);
	result = lb_find_way(entry, version, &flow, &way);
	if (result != LB_FOUND)
		return result;
	return lb_send(ctx, &arrival, version, inner_len, &way, flow.silent);
}

int lb_forwarder_rare(struct xdp_md *ctx)
{
	u64 l3 = 0, type = 0;
	int reason = lb_read_link(LB_FRAME(ctx), LB_END(ctx), &l3, &type);

	if (reason != LB_LINK_OK)
		return lb_leave(ctx, lb_exit(reason, XDP_PASS));
	if (type == LB_ETH_IPV4)
		return lb_leave(ctx, lb_forward_rare_ip(ctx, l3, 4));
	return lb_leave(ctx, lb_forward_rare_ip(ctx, l3, 6));
}

#endif
