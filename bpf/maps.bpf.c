/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The maps, and the one exit that counts.  The loader joins all *.bpf.c files
 * into one source, so that the programs share the maps; bcc rewrites map access
 * only there, never in headers.
 */
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
BPF_PROG_ARRAY(lb_stages, LB_STAGE_SLOT_COUNT); /* the forwarder's other programs */
BPF_TABLE("lru_hash", struct lb_fragment_key, struct lb_fragment, lb_fragments, LB_FRAGMENTS);
BPF_PERCPU_ARRAY(lb_too_big_windows, struct lb_too_big_window, 1);
BPF_PROG_ARRAY(lb_tc_stages, LB_TC_STAGE_COUNT); /* the redirector's program for rare packets */
BPF_TABLE("lru_hash", struct lb_fragment_key, u64, lb_decisions, LB_FRAGMENTS);

/* Where trace.bpf.c, which only `lbctl trace` compiles, looks in: not here. */
#ifndef LB_TRACE
#define lb_trace_note(counter)
#define lb_trace_xdp(ctx, result)
#define lb_trace_arrival(skb)
#define lb_trace_tc(skb, verdict)
#define LB_TO_STAGE    LB_SLOT_STAGE
#define LB_TO_TOO_BIG  LB_SLOT_TOO_BIG
#define LB_TO_TC_STAGE LB_TC_STAGE
#endif

/* The only way out of either program: no verdict without a counter. */
static __always_inline int lb_exit(u32 counter, int verdict)
{
	u64 *count = lb_counters.lookup(&counter);

	if (count)
		++*count;
	lb_trace_note(counter);
	return verdict;
}

/*
 * The state, which the loader has made, as a constant address
 * (BPF_PSEUDO_MAP_VALUE of its descriptor): never null.  The compiler loads it
 * anew wherever it is written, so hot code writes LB_STATE_AT() rather than keep
 * a pointer over calls and the hash; before them, where addresses are looked up,
 * a register is free for it.
 */
#define LB_PSEUDO_MAP_VALUE 2

static __always_inline const struct lb_state *lb_get_state(void)
{
	return (const struct lb_state *)bpf_pseudo_fd(LB_PSEUDO_MAP_VALUE, LB_STATE_FD);
}

#define LB_STATE_AT(member) (&lb_get_state()->member)

static __always_inline const struct lb_near *lb_get_near(void)
{
	return (const struct lb_near *)bpf_pseudo_fd(LB_PSEUDO_MAP_VALUE, LB_NEAR_FD);
}

/*
 * The root array, which the loader has made or found, likewise by its descriptor
 * (BPF_PSEUDO_MAP_FD): bcc's own macro would make a map.  Returns if nobody is there.
 */
#define LB_PSEUDO_MAP_FD 1

/* bcc's own returns an int, which costs the caller two shifts */
static long (*lb_adjust_head)(void *ctx, long delta) = (void *)BPF_FUNC_xdp_adjust_head;

/* a variable: bcc 0.18 ends the process at a call of what has no declaration */
static void (*lb_tail_call)(void *ctx, u64 array, u64 slot) = (void *)BPF_FUNC_tail_call;

static __always_inline void lb_go_to_slot(struct xdp_md *ctx, enum lb_slot slot)
{
	lb_tail_call(ctx, bpf_pseudo_fd(LB_PSEUDO_MAP_FD, LB_ROOT_FD), slot);
}
