/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Everything the programs and user space must agree on: map keys and values,
 * hashes of look-up tables, wire headers, counters, limits.  This is the only
 * definition; lb/abi.py mirrors it and three tests hold the two together.
 *
 * Both sides read and write these structs in place (user space maps the state
 * into its own memory), so every field has a fixed width, every hole is named
 * and a word that must change at once is one aligned 64-bit field.
 */
#ifndef LB_ABI_H
#define LB_ABI_H

#include <linux/types.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "written for little-endian machines");

/* Is every lower bit set, as a mask needs it? */
#define LB_IS_MASK(number) (((number) & ((number) + 1)) == 0)

/* ---- limits ---- */

#define LB_MAX_DIPS	      4096 /* index 0 means "no DIP" */
#define LB_MAX_POOLS	      256
#define LB_MAX_SERVICES	      4096
#define LB_MAX_INNER	      1024  /* inner tables loaded at one time */
#define LB_INLINE_TABLE_COUNT 8	    /* the first of them, in one value: lb_inline_tables */
#define LB_INNER_SLOTS	      65536 /* in one inner table; a slot has one, two or four buckets */
#define LB_MIN_BUCKETS	      256
#define LB_MAX_BUCKETS	      (1 << 20)
#define LB_MAX_DEPTH	      4 /* DIPs in a chain */
#define LB_SERVICE_ROWS	      16384
#define LB_SERVICE_WIDTH      4	    /* entries in a row: no look-up reads more */
#define LB_TRIE_TOP	      65536 /* by an IPv4 address's first two bytes */
#define LB_TRIE_NODES	      1024  /* node 0 is the empty node */
#define LB_EXACT4_BITS	      11
#define LB_EXACT4_ROWS	      (1 << LB_EXACT4_BITS)
#define LB_EXACT4_WIDTH	      4
#define LB_EXACT6_BITS	      10
#define LB_EXACT6_ROWS	      (1 << LB_EXACT6_BITS)
#define LB_EXACT6_WIDTH	      2
#define LB_VIP6_LENGTHS	      8 /* different lengths of IPv6 prefixes */
#define LB_VIP6_BITS	      13
#define LB_VIP6_SLOTS	      (1 << LB_VIP6_BITS)
#define LB_VIP6_SEED_BITS     11
#define LB_VIP6_SEEDS	      (1 << LB_VIP6_SEED_BITS)
#define LB_VIP_FILTER_BITS    15
#define LB_PEER_BITS	      12
#define LB_PEER_ROWS	      (1 << LB_PEER_BITS)
#define LB_PEER_WIDTH	      8

/* programs take remainders of these for the verifier, or store them in narrow fields */
_Static_assert(LB_IS_MASK(LB_MAX_DIPS - 1), "an index is masked with LB_MAX_DIPS - 1");
_Static_assert(LB_IS_MASK(LB_TRIE_NODES - 1), "a node is masked with LB_TRIE_NODES - 1");
_Static_assert(LB_IS_MASK(LB_INNER_SLOTS - 1), "a place is divided by LB_INNER_SLOTS");
_Static_assert(LB_MAX_DIPS <= 1 << 16, "lb_chain.dip and lb_peer.dip have 16 bits");
_Static_assert(LB_MAX_POOLS <= 1 << 8, "lb_service.pool has 8 bits");
_Static_assert(LB_MAX_SERVICES <= 1 << 16, "lb_service.service has 16 bits");
_Static_assert(LB_TRIE_TOP == 1 << 16, "the first two bytes of an address are the index");
_Static_assert(LB_INLINE_TABLE_COUNT <= LB_MAX_INNER, "inline tables are inner tables");

/* ---- verdict counters: docs/wire.md, sections 4 and 6 ---- */

enum lb_counter {
	/* forwarder */
	LB_CNT_PASS_NOT_IP,
	LB_CNT_PASS_MALFORMED,
	LB_CNT_PASS_VIP_ICMP,
	LB_CNT_PASS_NO_SERVICE,
	LB_CNT_PASS_OTHER_HOST,
	LB_CNT_PASS_LOCAL,
	LB_CNT_PASS_TO_SELF,
	LB_CNT_TX_FORWARD,
	LB_CNT_TX_FORWARD_CHAIN,
	LB_CNT_TX_TOO_BIG,
	LB_CNT_DROP_MALFORMED,
	LB_CNT_DROP_EXT_HEADERS,
	LB_CNT_DROP_FRAGMENT,
	LB_CNT_DROP_SPOOFED,
	LB_CNT_DROP_NO_TABLE,
	LB_CNT_DROP_NO_BUCKET,
	LB_CNT_DROP_NO_ROOM,
	/* both */
	LB_CNT_DROP_NO_STAGE,
	LB_CNT_DROP_NO_DIP,
	LB_CNT_DROP_TOO_BIG,
	/* redirector */
	LB_CNT_OK_NOT_GUE,
	LB_CNT_ACCEPT_LAST_HOP,
	LB_CNT_ACCEPT_ECHO,
	LB_CNT_ACCEPT_SYN,
	LB_CNT_ACCEPT_SOCKET,
	LB_CNT_ACCEPT_SYNCOOKIE,
	LB_CNT_ACCEPT_UDP_SOCKET,
	LB_CNT_ACCEPT_ICMP_ERROR,
	LB_CNT_ACCEPT_PATH_PROBE,
	LB_CNT_PASS_ON,
	LB_CNT_DROP_GUE_MALFORMED,
	LB_CNT_DROP_UNKNOWN_SOURCE,
	LB_CNT_DROP_HOP_LOOP,
	LB_CNT_DROP_UNKNOWN_HOP,
	LB_CNT_DROP_INNER_MALFORMED,
	LB_CNT_DROP_INNER_EXT_HEADERS,
	LB_CNT_DROP_NOT_VIP,
	LB_CNT_DROP_INNER_FRAGMENT,
	LB_CNT_DROP_INNER_PROTOCOL,
	LB_CNT_DROP_ECN,
	LB_CNT_DROP_ERROR,
	LB_CNT_COUNT,
};
_Static_assert(LB_CNT_COUNT <= 64, "LB_TRACE_VERDICTS has a bit for each counter");

/* ---- this server ---- */

/*
 * Raised with every change of layout or meaning: tools refuse pins of another one.
 * A test notices other sizes, offsets and constants, not other meanings.
 */
#define LB_LAYOUT 4

struct lb_config {
	/*
	 * Selects the half of all look-up tables (bit 0) and is, with bit 0
	 * set, the multiplier of their hashes.  One store switches services,
	 * VIPs and peers together.
	 */
	__u64 view;
	__u64 mac_head; /* first two bytes of our MAC, in bits 48..63 */
	__u32 mac_tail; /* its last four bytes, as they lie in a frame */
	__be32 dip;
	__u32 mtu;
	__be16 gue_port;
	__u16 layout;  /* LB_LAYOUT */
	__u64 sources; /* digest of what the programs were compiled from */
	__u64 mac;     /* our MAC in bits 16..63: a frame's first eight bytes, shifted */
	__u64 pad[2];
};
_Static_assert(sizeof(struct lb_config) == 64, "lb_config");

/* ---- pools ---- */

/* A pool's key as SipHash's state after all work that needs no packet. */
struct lb_key {
	__u64 v[4];
	__u64 v1_turned; /* by 17, as the second half of the first round does */
};
_Static_assert(sizeof(struct lb_key) == 40, "lb_key");

/*
 * Pool word: one store swaps the table and its size together.  The key is not
 * in it, because a pool keeps its key for life.  Zero: no usable table.
 */
#define LB_POOL_MASK	    0xfffffULL /* bits 0..19: buckets - 1 */
#define LB_POOL_FIRST_SHIFT 20	       /* bits 20..35: first inner table */
#define LB_POOL_FIRST_MASK  0xffffULL
#define LB_POOL_DEPTH_SHIFT 36 /* bits 36..38: the pool's depth */
#define LB_POOL_DEPTH_MASK  0x7ULL
#define LB_POOL_PAIRED	    (1ULL << 39) /* no chain is longer than 2: two buckets in a slot */
#define LB_POOL_AT_REST	    (1ULL << 63) /* none is longer than 1: four in a slot */

_Static_assert(LB_POOL_MASK == LB_MAX_BUCKETS - 1, "a hash is masked with buckets - 1");
_Static_assert(LB_POOL_MASK < 1ULL << LB_POOL_FIRST_SHIFT, "buckets end before `first`");
_Static_assert(LB_MAX_INNER <= LB_POOL_FIRST_MASK + 1, "`first` holds every inner table");
_Static_assert(LB_POOL_FIRST_MASK << LB_POOL_FIRST_SHIFT < 1ULL << LB_POOL_DEPTH_SHIFT,
	       "`first` ends before the depth");
_Static_assert(LB_MAX_DEPTH <= LB_POOL_DEPTH_MASK, "the depth fits");
_Static_assert(LB_POOL_DEPTH_MASK << LB_POOL_DEPTH_SHIFT < LB_POOL_PAIRED,
	       "the depth ends before LB_POOL_PAIRED");

#define LB_POOL_NAME_LEN 64

struct lb_pool {
	__u64 word;
	__u64 pad[2];
	struct lb_key key;	     /* in the word's cache line */
	char name[LB_POOL_NAME_LEN]; /* for people and tools, zero-terminated */
	__u64 pad_end[16];	     /* to a power of two: an index is a shift */
};
_Static_assert(sizeof(struct lb_pool) == 256, "lb_pool");

/*
 * A slot of an inner table: DIP indices, newest first; zero ends a chain.  One
 * bucket with up to four of them, or two or four buckets after one another with
 * two or one each, as the longest chain of the table allows whatever the pool's
 * depth: half or a quarter as much to keep in the caches.
 */
struct lb_chain {
	__u16 dip[LB_MAX_DEPTH];
};
_Static_assert(sizeof(struct lb_chain) == 8, "lb_chain");

/*
 * The first inner tables, as a value of its own whose address programs have as a
 * constant: a look-up in a map of maps takes its two keys through the stack.
 */
struct lb_inline_tables {
	struct lb_chain slot[LB_INLINE_TABLE_COUNT * LB_INNER_SLOTS];
};
_Static_assert(sizeof(struct lb_inline_tables) == 4 << 20, "lb_inline_tables");

/* ---- DIPs ---- */

#define LB_MAC_MASK 0xffffffffffffULL

struct lb_dip {
	__be32 addr; /* 0: no entry */
	/*
	 * Sum of the outer header's 16-bit words, as they lie in memory, that
	 * no packet changes: version, DF, TTL, protocol and both addresses.
	 */
	__u32 csum;
	__u64 mac; /* bits 0..47, as they lie in a frame; 0: not known */
};
_Static_assert(sizeof(struct lb_dip) == 16, "lb_dip");

/* ---- hashes of the look-up tables ---- */

/*
 * Macros of constant expressions where their arguments are, so that the assertions
 * of lb/abi.py can compare them.  All arguments and results have 64 bits; addresses
 * are words as they lie in a frame.
 *
 * Multiply-shift hashing (Dietzfelbinger et al., 1997): the top bits of a word times
 * an odd number, which is the view.
 */
#define LB_HASH_A 0x9e3779b97f4a7c15ULL
#define LB_HASH_B 0xc2b2ae3d27d4eb4fULL
#define LB_HASH_C 0x85ebca6bULL

#define LB_ROW(view, word, bits) ((word) * ((view) | 1) >> (64 - (bits)))

/* An IPv6 address as one word: the VIP filter's; with the match added, the exact-match table's. */
#define LB_ADDR6_WORD(head, tail) ((head) * LB_HASH_A + (tail))

/* An IPv6 prefix: its hash, whose top bits choose the seed, then hash and seed the slot. */
#define LB_VIP6_WORD(head, tail, length) ((head) * LB_HASH_A + (tail) * LB_HASH_B + (length))
#define LB_VIP6_HASH(view, word)	 (((word) ^ (word) >> 32) * ((view) | 1))
#define LB_VIP6_SEED_ROW(hash)		 ((hash) >> (64 - LB_VIP6_SEED_BITS))
#define LB_VIP6_SLOT(hash, seed) \
	((((hash) ^ (seed)) & 0xffffffff) * LB_HASH_C >> (32 - LB_VIP6_BITS) & (LB_VIP6_SLOTS - 1))

/* One of a VIP's overflow rows. */
#define LB_OVERFLOW_ROW(match, multiplier, shift) (((match) * (multiplier) & 0xffffffff) >> (shift))

/* ---- look-up tables ---- */

enum lb_service_kind {
	LB_KIND_EMPTY = 0,
	LB_KIND_PORT = 1,     /* a service with a port */
	LB_KIND_ANY = 2,      /* one with any port: port 0 in its match */
	LB_KIND_OVERFLOW = 3, /* first in the row of an LB_TRIE_OVERFLOW leaf */
};

#define LB_SERVICE_STATELESS 1
#define LB_SERVICE_BY_CLIENT 0x80 /* its pool hashes the client's address alone */

/*
 * LB_KIND_OVERFLOW, for services that are spread over rows by a hash under which no
 * row has too many: `service` is the first of the rows, `flags` the shift and the low
 * 24 bits of `match` the (odd) multiplier of LB_OVERFLOW_ROW().
 */
#define LB_OVERFLOW_MULTIPLIER 0xffffff

struct lb_service {
	/* port in bits 0..15 as it lies in a frame, protocol in 16..23, kind in 24..31 */
	__u32 match;
	__u16 service; /* index of its counters */
	__u8 pool;
	__u8 flags;
};
_Static_assert(sizeof(struct lb_service) == 8, "lb_service");

/*
 * What an address's VIP serves, services of covering prefixes included: those
 * with a port, then those with any port.
 */
struct lb_service_row {
	struct lb_service entry[LB_SERVICE_WIDTH];
};
_Static_assert(sizeof(struct lb_service_row) == 32, "lb_service_row");

/*
 * IPv4 VIPs are a trie: the first two bytes of an address (as one word, as they
 * lie in a frame) choose from `top`, the third and the fourth from nodes.  The
 * first two choices are always a node's number (0: the empty node, which leads
 * to itself), the third is 0 (no VIP) or a leaf: the number of a row.
 */
#define LB_TRIE_LEAF	 0x8000
#define LB_TRIE_OVERFLOW 0x4000 /* the services with a port are in other rows */
#define LB_TRIE_ROW_MASK 0x3fff

_Static_assert(LB_TRIE_ROW_MASK == LB_SERVICE_ROWS - 1, "a leaf is masked with the rows");
_Static_assert((LB_TRIE_LEAF | LB_TRIE_OVERFLOW | LB_TRIE_ROW_MASK) == 0xffff &&
		       LB_TRIE_LEAF + LB_TRIE_OVERFLOW + LB_TRIE_ROW_MASK == 0xffff,
	       "a leaf's parts do not overlap and fill 16 bits");

struct lb_trie_node {
	__u16 next[256];
};
_Static_assert(sizeof(struct lb_trie_node) == 512, "lb_trie_node");

/*
 * IPv6 VIPs are a table without collisions: a hash chooses a seed, hash and
 * seed the only slot that can hold a prefix.  There is a look-up for each length in
 * use, the longest first.  Addresses and masks as they lie in a frame.
 */
struct lb_vip6 {
	__u64 addr[2];
	__u32 length; /* 0: empty */
	__u32 leaf;
	__u64 pad;
};
_Static_assert(sizeof(struct lb_vip6) == 32, "lb_vip6");

struct lb_vip6_length {
	__u64 mask[2];
	__u64 length; /* 0: no more lengths */
};
_Static_assert(sizeof(struct lb_vip6_length) == 24, "lb_vip6_length");

struct lb_vips {
	__u16 top[LB_TRIE_TOP];
	struct lb_trie_node node[LB_TRIE_NODES];
	struct lb_vip6_length length6[LB_VIP6_LENGTHS];
	__u16 seed6[LB_VIP6_SEEDS];
	struct lb_vip6 vip6[LB_VIP6_SLOTS];
};
_Static_assert(sizeof(struct lb_vips) == 131072 + 524288 + 192 + 4096 + 262144, "lb_vips");

/*
 * VIP filter: a VIP of one address marks the byte that the address hashes to, a prefix
 * the byte of its block: its address with the mask of the family's shortest prefix.  If
 * neither the byte of an address nor that of its block is marked, it is not a VIP.
 */
struct lb_vip_filter {
	__u64 block4; /* mask of an address: no prefix of VIPs is shorter */
	__u64 block6; /* likewise, of an address's first word */
	__u64 pad[6];
	__u8 marked[1 << LB_VIP_FILTER_BITS];
};
_Static_assert(sizeof(struct lb_vip_filter) == 64 + 32768, "lb_vip_filter");

/*
 * Exact-match table: services of single addresses with a port, found by one
 * multiplication and one cache line.  What does not fit into its row is not here and
 * is found by way of `lb_vips` and rows.
 */
struct lb_exact4 {
	__u64 match; /* address, protocol and port in bits 0, 32, 48; 0: empty, ends the row */
	struct lb_service entry;
};
_Static_assert(sizeof(struct lb_exact4) == 16, "lb_exact4");

struct lb_exact4_row {
	struct lb_exact4 entry[LB_EXACT4_WIDTH];
};
_Static_assert(sizeof(struct lb_exact4_row) == 64, "lb_exact4_row");

struct lb_exact6 {
	__u64 addr[2];
	__u64 match; /* protocol and port in bits 0, 16; 0: empty */
	struct lb_service entry;
};
_Static_assert(sizeof(struct lb_exact6) == 32, "lb_exact6");

struct lb_exact6_row {
	struct lb_exact6 entry[LB_EXACT6_WIDTH];
};
_Static_assert(sizeof(struct lb_exact6_row) == 64, "lb_exact6_row");

struct lb_exact {
	struct lb_exact4_row row4[LB_EXACT4_ROWS];
	struct lb_exact6_row row6[LB_EXACT6_ROWS];
};
_Static_assert(sizeof(struct lb_exact) == 64 * (2048 + 1024), "lb_exact");

/* Both lie together, so that the hot path reaches them by one address. */
struct lb_first_lookup {
	struct lb_vip_filter filter;
	struct lb_exact exact;
};

#define LB_PEER_DIP    1 /* may send GUE and be a hop */
#define LB_PEER_PROBER 2 /* may send GUE */

/* Peers: addresses that may send GUE to this server. */
struct lb_peer {
	__be32 addr; /* 0: empty, ends the row */
	__u16 dip;   /* index, 0 for a prober that is not a DIP */
	__u16 flags;
};
_Static_assert(sizeof(struct lb_peer) == 8, "lb_peer");

struct lb_peer_row {
	struct lb_peer entry[LB_PEER_WIDTH];
};
_Static_assert(sizeof(struct lb_peer_row) == 64, "lb_peer_row");

/* For people and tools: what the counters of an index belong to. */
struct lb_service_name {
	__u8 addr[16]; /* IPv4: the first four */
	__u8 version;  /* 4 or 6; 0: unused */
	__u8 length;   /* of the VIP's prefix */
	__be16 port;
	__u8 protocol;
	__u8 any_port; /* 1: any port */
	__u8 pool;
	__u8 flags;
	__u64 pad;
};
_Static_assert(sizeof(struct lb_service_name) == 32, "lb_service_name");

/* ---- the state: one map value, mapped by the agent ---- */

/*
 * One value instead of a map per table, so that programs have its address as a
 * constant (BPF_PSEUDO_MAP_VALUE): no key goes through the stack and no check is
 * made.  Kernels before 5.17 take no value above 4 MiB.
 */
struct lb_state {
	struct lb_config config;
	struct lb_pool pool[LB_MAX_POOLS];
	struct lb_dip dip[LB_MAX_DIPS];
	struct lb_peer_row peer[2][LB_PEER_ROWS];
	struct lb_service_row service[2][LB_SERVICE_ROWS];
	struct lb_first_lookup first_lookup[2];
	struct lb_vips vips[2];
	struct lb_service_name name[LB_MAX_SERVICES];
};
_Static_assert(sizeof(struct lb_state) <= 4 << 20, "lb_state");

/* ---- fragments: docs/wire.md, sections 4.4 and 6.2 ---- */

#define LB_FRAGMENTS 8192

/* IPv4 addresses are in the first word, the others zero. */
struct lb_fragment_key {
	__u32 saddr[4];
	__u32 daddr[4];
	__u32 id;	/* as it lies in a frame */
	__u32 protocol; /* of the key; LB_FRAGMENT_IPV6 beside it */
};
_Static_assert(sizeof(struct lb_fragment_key) == 40, "lb_fragment_key");

#define LB_FRAGMENT_IPV6 0x100

struct lb_fragment {
	__u32 ports;	/* as they lie in a frame */
	__u32 protocol; /* of the upper layer */
};
_Static_assert(sizeof(struct lb_fragment) == 8, "lb_fragment");

/*
 * ---- the root program array: one for the life of its pin ----
 *
 * The forwarder tries the first slot before it and the first after it; an empty one
 * costs a nanosecond.  A program there goes on to the slots behind its own, in
 * order: a tail call into an empty slot just returns.  Others' programs are loaded
 * with this array, so it stays while agents are replaced, and its slots never change
 * their meaning.
 */

enum lb_slot {
	LB_SLOT_BEFORE,	   /* a foreign program, before the forwarder */
	LB_SLOT_BEFORE_2,  /* the next of them, called by the first */
	LB_SLOT_FORWARDER, /* likewise */
	LB_SLOT_AFTER,	   /* a foreign program, where the forwarder passes */
	LB_SLOT_AFTER_2,   /* the next of them, called by the first */
	LB_SLOT_COUNT,
};

/* The forwarder's other programs: an array that each load creates anew. */
enum lb_forwarder_slot {
	LB_FORWARDER_RARE,    /* packets that are not ordinary */
	LB_FORWARDER_TOO_BIG, /* answers to packets that do not fit */
	/* during `lbctl trace`: both once more with tracing, and the forwarder without */
	LB_FORWARDER_TRACED_RARE,
	LB_FORWARDER_TRACED_TOO_BIG,
	LB_FORWARDER_UNTRACED,
	LB_FORWARDER_SLOT_COUNT,
};

/* The redirector's, likewise. */
enum lb_redirector_slot {
	LB_REDIRECTOR_RARE,
	LB_REDIRECTOR_TRACED_RARE,
	LB_REDIRECTOR_SLOT_COUNT,
};

/* Answers to packets that are too big: how many this CPU has sent in a window. */
#define LB_TOO_BIG_WINDOW_SHIFT 26
#define LB_TOO_BIG_MOST		64

struct lb_too_big_window {
	__u64 number; /* time since boot in nanoseconds, shifted */
	__u64 sent;
};
_Static_assert(sizeof(struct lb_too_big_window) == 16, "lb_too_big_window");

struct lb_service_stats {
	__u64 packets;
	__u64 bytes;
};
_Static_assert(sizeof(struct lb_service_stats) == 16, "lb_service_stats");

/*
 * ---- resets: docs/wire.md, section 8 ----
 *
 * A flow for which a reset without ACK has left a VIP.  Addresses and ports as they
 * lie in a packet from the client; an IPv4 address is in the first four bytes, the
 * others are zero.
 */
#define LB_RESETS 8192

struct lb_reset_flow {
	__u64 client[2];
	__u64 vip[2];
	__u32 ports; /* the client's, then the VIP's */
	__u32 version;
};
_Static_assert(sizeof(struct lb_reset_flow) == 40, "lb_reset_flow");

/* What the egress program has seen. */
enum lb_reset_count {
	LB_RESET_FIRST, /* flows: the first reset in 60 s of each */
	LB_RESET_AGAIN, /* their other resets */
	LB_RESET_COUNTS,
};

/* ---- lbctl trace: a packet at the end of a program ---- */

#define LB_TRACE_FORWARDER  0
#define LB_TRACE_REDIRECTOR 1
#define LB_TRACE_BYTES	    192 /* of a packet */
_Static_assert(LB_TRACE_BYTES % 2 == 0, "a packet is copied in words of two bytes");

struct lb_trace_event {
	__u64 time;    /* bpf_ktime_get_ns() */
	__u32 counter; /* enum lb_counter */
	__s32 verdict; /* XDP's or tc's */
	__u32 program;
	__u32 ifindex;
	__u32 length; /* of the frame */
	__u32 captured;
	__u8 data[LB_TRACE_BYTES]; /* forwarder: as it leaves; redirector: as it came */
};
_Static_assert(sizeof(struct lb_trace_event) == 32 + LB_TRACE_BYTES, "lb_trace_event");

/* ---- the wire: docs/wire.md, section 2 ---- */

#define LB_ETH_LEN  14
#define LB_IPV4_LEN 20
#define LB_IPV6_LEN 40
#define LB_TCP_LEN  20
#define LB_UDP_LEN  8
#define LB_WRAP_LEN 36 /* outer IPv4, UDP, GUE and private data, without hops */
#define LB_HOP_LEN  4
#define LB_MAX_HOPS 3 /* in a hop list; programs mask a hop count or index with it */

/* The length of a wrap with so many hops in its list. */
#define LB_WRAP_LEN_WITH(hops) (LB_WRAP_LEN + (hops) * LB_HOP_LEN)

_Static_assert(LB_IS_MASK(LB_MAX_HOPS), "programs mask hop counts with LB_MAX_HOPS");
_Static_assert(LB_MAX_HOPS == LB_MAX_DEPTH - 1, "the first DIP of a chain is not in the hop list");

#define LB_PROTO_ICMP 1
#define LB_PROTO_IPV4 4
#define LB_PROTO_TCP  6
#define LB_PROTO_UDP  17
#define LB_PROTO_IPV6 41

#define LB_GUE_FORWARD_SYN 0x08

struct lb_gue {
	__u8 hlen; /* variant (2 bits), C (1), header length in words (5) */
	__u8 proto;
	__be16 flags;
	__u8 private_flags; /* version (4 bits), flags (4) */
	__u8 reserved;
	__u8 next_hop;
	__u8 hop_count;
};
_Static_assert(sizeof(struct lb_gue) == 8, "lb_gue");
_Static_assert(LB_WRAP_LEN == LB_IPV4_LEN + LB_UDP_LEN + sizeof(struct lb_gue), "LB_WRAP_LEN");

#endif
