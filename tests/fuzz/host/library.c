/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The programs for ctypes (tests/fuzz/host.py). */
#include "run.h"

void host_set_state(const void *state, u32 size)
{
	memcpy(&host_state, state, size < sizeof(host_state) ? size : sizeof(host_state));
}

int host_set_table(u32 index, const void *slots)
{
	if (index >= LB_MAX_INNER)
		return -1;
	memcpy(host_slots(index), slots, sizeof(host_table));
	return 0;
}

/* Forgets earlier packets: no fragments, and a new window for answers. */
void host_forget(void)
{
	host_forget_all();
	host_now += 1ULL << 32;
}

/* `out` has `size_of_out` bytes; returns 0, or -1 without memory. */
int host_packet_through(u32 program, const void *bytes, u32 size, u32 linear, void *out,
			u32 size_of_out, struct host_result *result)
{
	host_install();
	if (!host_run(program, bytes, size, linear, result))
		return -1;
	memcpy(out, host_packet.data, result->length < size_of_out ? result->length : size_of_out);
	return 0;
}
