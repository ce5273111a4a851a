/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Declarations that bcc and the loader supply, for tools that read these files without
 * them: clangd and `clang -fsyntax-only`, by ../compile_flags.txt.  No program is
 * compiled with this file.
 */
#ifndef LB_EDITOR_BCC_H
#define LB_EDITOR_BCC_H

#include <stdbool.h>
#include <stddef.h>
#include <linux/bpf.h>

typedef __u8 u8;
typedef __u16 u16;
typedef __u32 u32;
typedef __u64 u64;
typedef __s32 s32;
typedef __s64 s64;

#ifndef __always_inline
#define __always_inline inline __attribute__((always_inline))
#endif

/* ---- maps: bcc rewrites `map.lookup(&key)` ---- */

#define BPF_TABLE(kind, key_type, leaf_type, name, size) \
	static struct {                                  \
		leaf_type *(*lookup)(key_type *);        \
		void (*update)(key_type *, leaf_type *); \
	} name __attribute__((unused))
#define BPF_F_TABLE(kind, key_type, leaf_type, name, size, flags) \
	BPF_TABLE(kind, key_type, leaf_type, name, size)
#define BPF_PERCPU_ARRAY(name, leaf_type, size) \
	BPF_TABLE("percpu_array", u32, leaf_type, name, size)
#define BPF_ARRAY_OF_MAPS(name, inner, size) BPF_TABLE("array_of_maps", u32, void, name, size)
#define BPF_PROG_ARRAY(name, size)                     \
	static struct {                                \
		void (*call)(void *context, u32 slot); \
	} name __attribute__((unused))

u64 bpf_pseudo_fd(u64 kind, u64 fd);

/* ---- helpers ---- */

void *bpf_map_lookup_elem(void *map, const void *key);
u64 bpf_ktime_get_ns(void);
long bpf_xdp_adjust_head(struct xdp_md *ctx, int delta);
long bpf_xdp_adjust_tail(struct xdp_md *ctx, int delta);
s64 bpf_csum_diff(const void *from, u32 from_size, const void *to, u32 to_size, u32 seed);
long bpf_skb_load_bytes(const void *skb, u32 offset, void *to, u32 size);
long bpf_skb_store_bytes(struct __sk_buff *skb, u32 offset, const void *from, u32 size, u64 flags);
long bpf_skb_pull_data(struct __sk_buff *skb, u32 length);
long bpf_skb_adjust_room(struct __sk_buff *skb, s32 grow, u32 mode, u64 flags);
long bpf_skb_change_proto(struct __sk_buff *skb, __be16 protocol, u64 flags);
long bpf_redirect(u32 ifindex, u64 flags);
struct bpf_tcp_sock *bpf_tcp_sock(struct bpf_sock *sk);
struct bpf_sock *bpf_skc_lookup_tcp(void *ctx, struct bpf_sock_tuple *tuple, u32 size, u64 netns,
				    u64 flags);
struct bpf_sock *bpf_sk_lookup_udp(void *ctx, struct bpf_sock_tuple *tuple, u32 size, u64 netns,
				   u64 flags);
void bpf_sk_release(struct bpf_sock *sk);
long bpf_tcp_check_syncookie(struct bpf_sock *sk, void *ip, u32 ip_size, void *tcp, u32 tcp_size);

/* ---- numbers that the loader defines: descriptors of maps, and what `lbctl trace` wants ---- */

#define LB_STATE_FD	    0
#define LB_INLINE_TABLES_FD 0
#define LB_ROOT_FD	    0

#define LB_TRACE_RING	      0
#define LB_TRACE_VERDICTS     (~0ULL)
#define LB_TRACE_FILTERED     1
#define LB_TRACE_VERSION      0
#define LB_TRACE_PROTOCOL     0
#define LB_TRACE_PORT	      0
#define LB_TRACE_CLIENT0      0
#define LB_TRACE_CLIENT1      0
#define LB_TRACE_CLIENT2      0
#define LB_TRACE_CLIENT3      0
#define LB_TRACE_CLIENT_MASK0 0
#define LB_TRACE_CLIENT_MASK1 0
#define LB_TRACE_CLIENT_MASK2 0
#define LB_TRACE_CLIENT_MASK3 0
#define LB_TRACE_VIP0	      0
#define LB_TRACE_VIP1	      0
#define LB_TRACE_VIP2	      0
#define LB_TRACE_VIP3	      0
#define LB_TRACE_VIP_MASK0    0
#define LB_TRACE_VIP_MASK1    0
#define LB_TRACE_VIP_MASK2    0
#define LB_TRACE_VIP_MASK3    0

#endif
