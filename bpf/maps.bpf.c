/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The maps, and the one exit that counts.  The loader joins this file,
 * forwarder.bpf.c and redirector.bpf.c into one source, so that both programs
 * share the maps; bcc rewrites map access only there, never in headers.
 */
#include <linux/bpf.h>
#include "abi.h"
#include "bytes.h"

/* bcc makes a string of it: no expression, no spaces */
/* clang-format off */
#define BPF_LICENSE Dual BSD/GPL
/* clang-format on */

/*
 * As far as bcc is concerned the value is bytes: it would generate readers and
 * writers for every single field of an array's elements.
 */
struct lb_state_bytes {
	__u8 bytes[sizeof(struct lb_state)];
};

BPF_F_TABLE("array", u32, struct lb_state_bytes, lb_state, 1, BPF_F_MMAPABLE);
BPF_F_TABLE("array", u32, u64, lb_template, LB_INNER_SLOTS, BPF_F_MMAPABLE);
BPF_ARRAY_OF_MAPS(lb_tables, "lb_template", LB_MAX_INNER);
BPF_PERCPU_ARRAY(lb_counters, u64, LB_CNT_COUNT);
BPF_PERCPU_ARRAY(lb_service_stats, struct lb_service_stats, LB_MAX_SERVICES);

/* The only way out of either program: no verdict without a counter. */
static __always_inline int lb_exit(u32 counter, int verdict)
{
	u64 *count = lb_counters.lookup(&counter);

	if (count)
		++*count;
	return verdict;
}

static __always_inline const struct lb_state *lb_get_state(void)
{
	u32 zero = 0;

	return (const struct lb_state *)lb_state.lookup(&zero);
}
