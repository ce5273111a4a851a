/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The maps of all programs, and the addresses of the two that user space maps into
 * its memory.  README.md: how the loader joins the *.bpf.c files, and in which order.
 */
#ifndef LB_MAPS_BPF_C
#define LB_MAPS_BPF_C

#include <linux/bpf.h>
#include "abi.h"
#include "bytes.h"

/* bcc makes a string of it: no expression, no spaces */
/* clang-format off */
#define BPF_LICENSE Dual BSD/GPL
/* clang-format on */

BPF_F_TABLE("array", u32, u64, lb_template, LB_INNER_SLOTS, BPF_F_MMAPABLE);
BPF_ARRAY_OF_MAPS(lb_tables, "lb_template", LB_MAX_INNER);
BPF_PERCPU_ARRAY(lb_counters, u64, LB_CNT_COUNT);
BPF_PERCPU_ARRAY(lb_service_stats, struct lb_service_stats, LB_MAX_SERVICES);
BPF_PROG_ARRAY(lb_forwarder_programs, LB_FORWARDER_SLOT_COUNT);
BPF_TABLE("lru_hash", struct lb_fragment_key, struct lb_fragment, lb_fragments, LB_FRAGMENTS);
BPF_PERCPU_ARRAY(lb_too_big_windows, struct lb_too_big_window, 1);
BPF_PROG_ARRAY(lb_redirector_programs, LB_REDIRECTOR_SLOT_COUNT);
BPF_TABLE("lru_hash", struct lb_fragment_key, u64, lb_decisions, LB_FRAGMENTS);

/* UDP flows that were delivered here without a connected socket, and the time of the last delivery. */
#define LB_FRESH_FLOWS 8192
#define LB_FRESH_NS    5000000000ULL

/* The bytes of a struct bpf_sock_tuple, zero behind the part of its family. */
struct lb_flow_key {
	u32 word[9];
};

BPF_TABLE("lru_hash", struct lb_flow_key, u64, lb_fresh, LB_FRESH_FLOWS);

/* SYNs that were accepted while their buckets were in transition. */
#define LB_OPENINGS   8192
#define LB_OPENING_NS 64000000000ULL

struct lb_opening {
	u64 at; /* when */
	u32 sequence;
	u32 pad;
};

BPF_TABLE("lru_hash", struct lb_flow_key, struct lb_opening, lb_openings, LB_OPENINGS);

/* Flows with resets, and the time of the first one; how many resets there were. */
BPF_TABLE("lru_hash", struct lb_reset_flow, u64, lb_resets, LB_RESETS);
BPF_PERCPU_ARRAY(lb_reset_counts, u64, LB_RESET_COUNTS);

/*
 * The state, which the loader creates, as a constant address (BPF_PSEUDO_MAP_VALUE of
 * its descriptor): never null.  The compiler loads it anew wherever it is written, so
 * hot code writes LB_STATE_AT() rather than keep a pointer over calls and the hash;
 * before them, where addresses are looked up, a register is free for it.
 */
static __always_inline const struct lb_state *lb_get_state(void)
{
	return (const struct lb_state *)bpf_pseudo_fd(BPF_PSEUDO_MAP_VALUE, LB_STATE_FD);
}

#define LB_STATE_AT(member) (&lb_get_state()->member)

static __always_inline const struct lb_inline_tables *lb_get_inline_tables(void)
{
	return (const struct lb_inline_tables *)bpf_pseudo_fd(BPF_PSEUDO_MAP_VALUE,
							      LB_INLINE_TABLES_FD);
}

#endif
