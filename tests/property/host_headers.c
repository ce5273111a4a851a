/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The pure headers of bpf/ behind plain functions, for ctypes.  Frames are
 * handed over as pointer and length; whatever reads past the end is found by
 * the guard page that the test puts there.
 */
#include "chain.h"
#include "ecn.h"
#include "encap.h"
#include "gue.h"
#include "inner.h"
#include "parse.h"
#include "services.h"
#include "siphash.h"

__u64 host_flow_hash(__u64 k0, __u64 k1, __u64 addresses, __u64 ports, __u64 protocol)
{
	struct lb_key key;

	lb_key_schedule(&key, k0, k1);
	return lb_flow_hash(&key, addresses, ports, protocol);
}

void host_key_schedule(__u64 k0, __u64 k1, struct lb_key *key)
{
	lb_key_schedule(key, k0, k1);
}

__u64 host_source_port(__u64 hash)
{
	return lb_source_port(hash);
}

int host_parse_fast(const void *frame, __u64 len, struct lb_packet *packet)
{
	return lb_parse_fast(frame, frame + len, packet);
}

int host_parse_slow(const void *frame, __u64 len, struct lb_packet *packet)
{
	return lb_parse_slow(frame, frame + len, packet);
}

int host_total_len_ok(const struct lb_packet *packet, __u64 frame_len)
{
	return lb_total_len_ok(packet, frame_len);
}

__u64 host_chain_path(__u64 chain, __u64 protocol, __u64 flags)
{
	return lb_chain_path(chain, protocol, flags);
}

__u64 host_chain_hops(__u64 path)
{
	return lb_chain_hops(path);
}

int host_chain_at_rest(__u64 chain, __u64 protocol, __u64 flags)
{
	return lb_chain_at_rest(chain, protocol, flags);
}

__u64 host_find_service(const struct lb_state *state, __u64 daddr, __u64 dport, __u64 protocol)
{
	const struct lb_service *service = lb_find_service(state, daddr, dport, protocol);

	return service ? service->service : ~0ULL;
}

int host_is_vip(const struct lb_state *state, __u64 addr)
{
	return lb_is_vip(state, addr);
}

__u64 host_known_word(const struct lb_state *state, __u64 addr)
{
	return lb_known_word(state, addr);
}

/* The wrap in front of a frame: 36 + 4 * hop_count bytes of room lie before it. */
void host_wrap(void *frame, const struct lb_config *config, const struct lb_dip *dip, __u64 hash,
	       __u64 hop_count)
{
	const void *old = frame + LB_WRAP_LEN + hop_count * LB_HOP_LEN;

	lb_write_wrap(frame, config, dip, lb_macs_towards(config, dip->mac, old), hash, hop_count);
}

int host_read_tunnel(const void *frame, __u64 len, const struct lb_config *config,
		     struct lb_tunnel *tunnel)
{
	if (len < LB_NOT_GUE_LEN || !lb_is_gue(frame, config))
		return -1;
	return lb_read_tunnel(frame, frame + len, len, tunnel);
}

__u64 host_hop_ahead(const void *frame, __u64 len, const struct lb_tunnel *tunnel, __u64 i)
{
	return lb_hop_ahead(frame, frame + len, tunnel, i);
}

/* R8, then R10 to R13, as the redirector calls them. */
int host_read_inner(const void *frame, __u64 len, const struct lb_tunnel *tunnel,
		    struct lb_inner *inner)
{
	const void *ip = frame + lb_inner_offset(tunnel);

	if (!lb_inner_ip_ok(ip, frame + len, tunnel))
		return LB_CNT_DROP_INNER_MALFORMED;
	return lb_read_inner(ip, frame + len, inner);
}

int host_ecn_decap(__u64 outer, __u64 inner)
{
	return lb_ecn_decap(outer, inner);
}

__u64 host_checksum_after_tos(__u64 checksum, __u64 old_tos, __u64 new_tos)
{
	return lb_checksum_after_tos(checksum, old_tos, new_tos);
}

__u64 host_outer_checksum(const void *frame, __u64 saddr, __u64 daddr)
{
	return lb_outer_checksum(frame, saddr, daddr);
}
