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

/* The socket that every flow has: its state as the kernel counts them, 0 for none. */
void host_set_socket(u32 state, u32 has_cookie)
{
	host_has_socket = state != 0;
	host_has_cookie = has_cookie != 0;
	host_socket.state = state;
}

/* What it expects next, and what it sends next. */
void host_set_numbers(u32 rcv_nxt, u32 snd_nxt)
{
	host_tcp_socket.rcv_nxt = rcv_nxt;
	host_tcp_socket.snd_nxt = snd_nxt;
}

/*
 * The service whose counters have grown by one packet of so many bytes since the
 * last call: -1 if none has grown, -2 if there was anything else.
 */
s32 host_service(u64 bytes)
{
	s32 found = -1;

	for (u32 i = 0; i < LB_MAX_SERVICES; i++) {
		struct lb_service_stats *stats = &lb_service_stats_values[i];

		if (!stats->packets && !stats->bytes)
			continue;
		found = found == -1 && stats->packets == 1 && stats->bytes == bytes ? (s32)i : -2;
		memset(stats, 0, sizeof(*stats));
	}
	return found;
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
