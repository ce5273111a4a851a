/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * libFuzzer's target: both programs over any bytes, under AddressSanitizer and
 * UndefinedBehaviorSanitizer.  Input: one byte that picks the program and the
 * sockets, one for how much of the packet is linear, then the frame.  The
 * state is a file, LB_FUZZ_STATE, which tests/fuzz/libfuzzer.py writes.
 */
#include "run.h"

#define HOST_PREFIX	2
#define HOST_MOST_BYTES 66000
#define HOST_TABLES	(LB_INLINE_TABLE_COUNT + 6)

static void host_fill_tables(void)
{
	u64 random = 0x9e3779b97f4a7c15ULL;

	for (u32 table = 0; table < HOST_TABLES; table++)
		for (u32 slot = 0; slot < LB_INNER_SLOTS; slot++) {
			random = random * 6364136223846793005ULL + 1442695040888963407ULL;
			/* indices 0 to 7: empty slots, unknown ones and this server among them */
			host_slots(table)[slot] = random >> 8 & 0x0007000700070007ULL;
		}
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	const char *path = getenv("LB_FUZZ_STATE");
	FILE *file = path ? fopen(path, "rb") : 0;

	(void)argc, (void)argv;
	if (!file || fread(&host_state, sizeof(host_state), 1, file) != 1) {
		fprintf(stderr, "LB_FUZZ_STATE names no file with a state\n");
		exit(2);
	}
	fclose(file);
	host_fill_tables();
	host_install();
	return 0;
}

static void host_fail(const char *what)
{
	fprintf(stderr, "%s\n", what);
	abort();
}

/* Did the forwarder encapsulate the packet, or answer it? */
static bool host_is_sent(s32 counter)
{
	return counter == LB_CNT_TX_FORWARD || counter == LB_CNT_TX_FORWARD_CHAIN ||
	       counter == LB_CNT_TX_TOO_BIG || counter == LB_CNT_PASS_TO_SELF;
}

/* Checks that hold for the result of any packet. */
static void host_judge(const u8 *frame, u32 size, const struct host_result *result)
{
	bool drop = result->verdict == (int)XDP_DROP || result->verdict == 2;

	if (result->counter < 0)
		host_fail("not one counter by one");
	if (result->counter == LB_CNT_DROP_ERROR || result->counter == LB_CNT_DROP_NO_ROOM)
		host_fail("a counter that no packet can cause");
	if (drop)
		return;
	if (result->length > size + LB_WRAP_LEN + LB_MAX_HOPS * LB_HOP_LEN &&
	    result->counter != LB_CNT_TX_TOO_BIG)
		host_fail("the frame grew by more than a wrap");
	if (host_is_sent(result->counter) && memcmp(frame, (u8 *)&host_state.config.mac + 2, 6))
		host_fail("a frame for another host was forwarded");
	if ((result->counter == LB_CNT_OK_NOT_GUE || result->counter == LB_CNT_PASS_NO_SERVICE ||
	     result->counter == LB_CNT_PASS_OTHER_HOST || result->counter == LB_CNT_PASS_LOCAL) &&
	    (result->length != size || memcmp(host_packet.data, frame, size)))
		host_fail("a frame that is not for this server has changed");
}

int LLVMFuzzerTestOneInput(const u8 *input, size_t size)
{
	struct host_result result;

	if (size < HOST_PREFIX || size > HOST_MOST_BYTES)
		return 0;
	host_has_socket = input[0] & 2;
	host_has_cookie = input[0] & 4;
	/* LISTEN, TIME-WAIT, ESTABLISHED; a request */
	host_socket.state = input[0] & 8 ? 10 : (input[0] & 32 ? 6 : 1);
	if (input[0] & 64)
		host_socket.state = 12;
	if (input[0] & 16)
		host_now += 1ULL << 26;
	if (!host_run(input[0] & 1 ? HOST_REDIRECTOR : HOST_FORWARDER, input + HOST_PREFIX,
		      size - HOST_PREFIX, LB_ETH_LEN + input[1], &result))
		host_fail("no memory for packets");
	host_judge(input + HOST_PREFIX, size - HOST_PREFIX, &result);
	return 0;
}
