/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Packets in memory, and the helpers that change them, as <linux/bpf.h> documents
 * each, as far as the programs rely on it.
 */
#ifndef LB_HOST_HELPERS_H
#define LB_HOST_HELPERS_H

#define HOST_HEADROOM	      256
#define HOST_MEMORY	      (1 << 17)
#define HOST_VERDICT_REDIRECT 7

/*
 * A packet with head room.  All lie in one piece of memory below 4 GiB,
 * because contexts hold 32-bit addresses; around the packet it is poisoned.
 */
struct host_frame {
	u8 *memory;
	u8 *data;
	u8 *end;
};

static u8 *host_memory_for_packets(void)
{
	static u8 *memory;

	if (memory)
		return memory;
	memory = mmap(0, HOST_MEMORY, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
	if (memory == MAP_FAILED)
		memory = 0;
	else
		ASAN_POISON_MEMORY_REGION(memory, HOST_MEMORY);
	return memory;
}

static bool host_put(struct host_frame *frame, const u8 *bytes, size_t size)
{
	/* the packet before this one */
	if (frame->memory)
		ASAN_POISON_MEMORY_REGION(frame->memory, frame->end - frame->memory);
	frame->memory = host_memory_for_packets();
	if (!frame->memory || HOST_HEADROOM + size > HOST_MEMORY)
		return false;
	frame->data = frame->memory + HOST_HEADROOM;
	frame->end = frame->data + size;
	ASAN_UNPOISON_MEMORY_REGION(frame->data, size);
	memcpy(frame->data, bytes, size);
	return true;
}

static struct host_frame host_packet;

static u8 *host_at(u32 address)
{
	return (u8 *)(unsigned long)address;
}

/* ---- XDP ---- */

static __attribute__((unused)) long bpf_xdp_adjust_head(struct xdp_md *ctx, int delta)
{
	u8 *data = host_at(ctx->data) + delta;

	if (data < host_packet.memory || data + LB_ETH_LEN > host_at(ctx->data_end))
		return -1;
	if (delta < 0)
		ASAN_UNPOISON_MEMORY_REGION(data, -delta);
	else
		ASAN_POISON_MEMORY_REGION(host_at(ctx->data), delta);
	ctx->data = (u32)(unsigned long)data;
	return 0;
}

#define BPF_FUNC_xdp_adjust_head host_adjust_head

static long host_adjust_head(void *ctx, long delta)
{
	return bpf_xdp_adjust_head(ctx, (int)delta);
}

static __attribute__((unused)) long bpf_xdp_adjust_tail(struct xdp_md *ctx, int delta)
{
	u8 *end = host_at(ctx->data_end) + delta;

	if (delta > 0 || end < host_at(ctx->data) + LB_ETH_LEN)
		return -1;
	ASAN_POISON_MEMORY_REGION(end, -delta);
	ctx->data_end = (u32)(unsigned long)end;
	return 0;
}

/* RFC 1071 over words as they lie in memory; sizes are multiples of 4 and at most 512. */
static __attribute__((unused)) s64 bpf_csum_diff(const void *from, u32 from_size, const void *to,
						 u32 to_size, u32 seed)
{
	u64 sum = seed;
	u32 word;

	if (from_size % 4 || to_size % 4 || from_size + to_size > 512)
		return -22;
	for (u32 i = 0; i < from_size; i += 4) {
		memcpy(&word, (const u8 *)from + i, 4);
		sum += (u32)~word;
	}
	for (u32 i = 0; i < to_size; i += 4) {
		memcpy(&word, (const u8 *)to + i, 4);
		sum += word;
	}
	while (sum >> 32)
		sum = (sum & 0xffffffff) + (sum >> 32);
	return (s64)sum;
}

/* ---- TC ---- */

static u8 *host_skb_data(const struct __sk_buff *skb)
{
	return host_at(skb->data);
}

/* Only the first `linear` bytes are readable. */
static void host_show(struct __sk_buff *skb, u32 linear)
{
	u8 *data = host_skb_data(skb);

	if (linear > skb->len)
		linear = skb->len;
	ASAN_UNPOISON_MEMORY_REGION(data, skb->len);
	ASAN_POISON_MEMORY_REGION(data + linear, skb->len - linear);
	skb->data_end = (u32)(unsigned long)(data + linear);
}

static long bpf_skb_pull_data(struct __sk_buff *skb, u32 length)
{
	u32 linear = skb->data_end - skb->data;

	if (length > skb->len)
		return -1;
	host_show(skb, length > linear ? length : linear);
	return 0;
}

static long bpf_skb_store_bytes(struct __sk_buff *skb, u32 offset, const void *from, u32 size,
				u64 flags)
{
	u32 linear = skb->data_end - skb->data;

	(void)flags;
	if (offset > 0xffff || offset + size > skb->len)
		return -1;
	host_show(skb, linear > offset + size ? linear : offset + size);
	memcpy(host_skb_data(skb) + offset, from, size);
	return 0;
}

/* Takes bytes out behind the Ethernet header, or puts some in (BPF_ADJ_ROOM_MAC). */
static long host_move(struct __sk_buff *skb, s32 grow)
{
	u8 *old = host_skb_data(skb), *data = old - grow;
	u32 linear = skb->data_end - skb->data;

	if (data < host_packet.memory || (s64)skb->len + grow < LB_ETH_LEN)
		return -1;
	ASAN_UNPOISON_MEMORY_REGION(host_packet.memory, host_packet.end - host_packet.memory);
	memmove(data, old, LB_ETH_LEN);
	if (grow > 0)
		memset(data + LB_ETH_LEN, 0, grow);
	skb->data = (u32)(unsigned long)data;
	skb->len += grow;
	ASAN_POISON_MEMORY_REGION(host_packet.memory, data - host_packet.memory);
	host_show(skb, (s64)linear + grow > LB_ETH_LEN ? linear + grow : LB_ETH_LEN);
	return 0;
}

static long bpf_skb_adjust_room(struct __sk_buff *skb, s32 grow, u32 mode, u64 flags)
{
	(void)flags;
	/* the rest must hold an IP header of the packet's protocol */
	if (mode != BPF_ADJ_ROOM_MAC ||
	    (s64)skb->len + grow - LB_ETH_LEN < (skb->protocol == 0xdd86 ? 40 : 20))
		return -1;
	return host_move(skb, grow);
}

static long bpf_skb_change_proto(struct __sk_buff *skb, u16 protocol, u64 flags)
{
	if (flags || skb->protocol != 0x0008 || protocol != 0xdd86)
		return -1;
	if (host_move(skb, 20))
		return -1;
	skb->protocol = protocol;
	return 0;
}

static long bpf_redirect(u32 ifindex, u64 flags)
{
	(void)ifindex;
	(void)flags;
	return HOST_VERDICT_REDIRECT;
}

/* Sockets: the one that there is, if there is one. */
static struct bpf_sock host_socket;
static struct bpf_tcp_sock host_tcp_socket;
static bool host_has_socket, host_has_cookie;

static struct bpf_sock *bpf_skc_lookup_tcp(void *skb, struct bpf_sock_tuple *tuple, u32 size,
					   u64 netns, u64 flags)
{
	(void)skb, (void)netns, (void)flags;
	if (size == sizeof(tuple->ipv4))
		host_socket.dst_ip4 = tuple->ipv4.saddr;
	else
		memcpy(host_socket.dst_ip6, tuple->ipv6.saddr, 16);
	host_socket.dst_port = size == sizeof(tuple->ipv4) ? tuple->ipv4.sport : tuple->ipv6.sport;
	return host_has_socket ? &host_socket : 0;
}

static struct bpf_sock *bpf_sk_lookup_udp(void *skb, struct bpf_sock_tuple *tuple, u32 size,
					  u64 netns, u64 flags)
{
	return bpf_skc_lookup_tcp(skb, tuple, size, netns, flags);
}

static void bpf_sk_release(struct bpf_sock *sk)
{
	(void)sk;
}

static struct bpf_tcp_sock *bpf_tcp_sock(struct bpf_sock *sk)
{
	/* neither TIME-WAIT nor a request is a full socket */
	return sk->state == 6 || sk->state == 12 ? 0 : &host_tcp_socket;
}

static long bpf_tcp_check_syncookie(struct bpf_sock *sk, const void *ip, u32 ip_size,
				    const void *tcp, u32 tcp_size)
{
	volatile u8 last = ((const u8 *)ip)[ip_size - 1] ^ ((const u8 *)tcp)[tcp_size - 1];

	(void)sk, (void)last;
	return host_has_cookie ? 0 : -2;
}

#endif
