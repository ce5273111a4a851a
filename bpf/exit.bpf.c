/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * How the programs end: with a counted verdict, or with a tail call to the program
 * that decides.
 */
#ifndef LB_EXIT_BPF_C
#define LB_EXIT_BPF_C

#include "maps.bpf.c"

/* Only `lbctl trace` compiles trace.bpf.c, which defines these. */
#ifndef LB_TRACE
#define lb_trace_note(counter)
#define lb_trace_xdp(ctx, result)
#define lb_trace_arrival(skb)
#define lb_trace_tc(skb, verdict)
#define LB_TO_FORWARDER_RARE  LB_FORWARDER_RARE
#define LB_TO_TOO_BIG	      LB_FORWARDER_TOO_BIG
#define LB_TO_REDIRECTOR_RARE LB_REDIRECTOR_RARE
#endif

/* The only way to a verdict, in all programs: no verdict without a counter. */
static __always_inline int lb_exit(u32 counter, int verdict)
{
	u64 *count = lb_counters.lookup(&counter);

	if (count)
		++*count;
	lb_trace_note(counter);
	return verdict;
}

/* a variable: bcc 0.18 ends the process at a call of a function without a declaration */
static void (*lb_tail_call)(void *ctx, u64 array, u64 slot) = (void *)BPF_FUNC_tail_call;

/*
 * Calls the program in a slot of the root array, which the loader has made or found, by
 * the array's descriptor (BPF_PSEUDO_MAP_FD): bcc's own macro would make a map.
 * Returns if the slot is empty.
 */
static __always_inline void lb_go_to_slot(struct xdp_md *ctx, enum lb_slot slot)
{
	lb_tail_call(ctx, bpf_pseudo_fd(BPF_PSEUDO_MAP_FD, LB_ROOT_FD), slot);
}

/* XDP programs return a verdict that has been counted, or where the packet goes on. */
#define LB_GO_RARE    (-1)
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
	if (result == LB_GO_RARE)
		lb_forwarder_programs.call(ctx, LB_TO_FORWARDER_RARE);
	if (result == LB_GO_TOO_BIG)
		lb_forwarder_programs.call(ctx, LB_TO_TOO_BIG);
	if (result < 0) {
		result = lb_exit(LB_CNT_DROP_NO_STAGE, XDP_DROP);
		lb_trace_xdp(ctx, result);
	}
	return result;
}

#endif
