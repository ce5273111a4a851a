/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The parts of a kernel that the programs of bpf/ need to run as ordinary C: maps in
 * bcc's notation, helpers, contexts.  Frames lie in memory of exactly their size, and
 * bytes that a program may not touch yet are poisoned, so that AddressSanitizer
 * reports every byte that is read or written outside.
 */
#ifndef LB_HOST_KERNEL_H
#define LB_HOST_KERNEL_H

#define _GNU_SOURCE /* MAP_32BIT */
#include <setjmp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* the kernel's contexts, of which only these fields are of use here */
#define xdp_md	  uapi_xdp_md
#define __sk_buff uapi_sk_buff
#include <linux/bpf.h>
#undef xdp_md
#undef __sk_buff

#include "abi.h"

typedef __u8 u8;
typedef __u16 u16;
typedef __u32 u32;
typedef __u64 u64;
typedef __s32 s32;
typedef __s64 s64;

#ifndef __always_inline
#define __always_inline inline __attribute__((always_inline))
#endif

struct xdp_md {
	u32 data;
	u32 data_end;
};

struct __sk_buff {
	u32 data;
	u32 data_end;
	u32 len;
	u32 protocol;
	u32 ifindex;
};

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#include <sanitizer/asan_interface.h>
#endif
#endif
#ifndef ASAN_POISON_MEMORY_REGION
#define ASAN_POISON_MEMORY_REGION(at, size)   ((void)(at), (void)(size))
#define ASAN_UNPOISON_MEMORY_REGION(at, size) ((void)(at), (void)(size))
#endif

/* ---- maps: a struct of functions makes bcc's `map.lookup(&key)` valid C ---- */

#define HOST_ARRAY(key_type, leaf_type, name, size)              \
	static leaf_type name##_values[size];                    \
	static leaf_type *name##_find(const key_type *key)       \
	{                                                        \
		return *key < (size) ? &name##_values[*key] : 0; \
	}                                                        \
	static const struct {                                    \
		leaf_type *(*lookup)(const key_type *);          \
	} name __attribute__((unused)) = { name##_find }

#define HOST_REMEMBERED 512
#define HOST_MEMORIES	8

struct host_memory {
	void *at;
	size_t size;
};

static struct host_memory host_memories[HOST_MEMORIES];
static u32 host_memory_count;

static __attribute__((unused)) void host_forget_all(void)
{
	for (u32 i = 0; i < host_memory_count; i++)
		memset(host_memories[i].at, 0, host_memories[i].size);
}

/* A hash map that forgets what was written first. */
#define HOST_HASH(key_type, leaf_type, name)                                          \
	static struct {                                                               \
		key_type key;                                                         \
		leaf_type leaf;                                                       \
		bool used;                                                            \
	} name##_values[HOST_REMEMBERED];                                             \
	static u32 name##_next;                                                       \
	static leaf_type *name##_find(const key_type *key)                            \
	{                                                                             \
		for (u32 i = 0; i < HOST_REMEMBERED; i++)                             \
			if (name##_values[i].used &&                                  \
			    !memcmp(&name##_values[i].key, key, sizeof(*key)))        \
				return &name##_values[i].leaf;                        \
		return 0;                                                             \
	}                                                                             \
	static void name##_write(const key_type *key, const leaf_type *leaf)          \
	{                                                                             \
		leaf_type *old = name##_find(key);                                    \
		if (old) {                                                            \
			*old = *leaf;                                                 \
			return;                                                       \
		}                                                                     \
		name##_values[name##_next].key = *key;                                \
		name##_values[name##_next].leaf = *leaf;                              \
		name##_values[name##_next].used = true;                               \
		name##_next = (name##_next + 1) % HOST_REMEMBERED;                    \
	}                                                                             \
	__attribute__((constructor)) static void name##_register(void)                \
	{                                                                             \
		host_memories[host_memory_count++] =                                  \
			(struct host_memory){ name##_values, sizeof(name##_values) }; \
	}                                                                             \
	static const struct {                                                         \
		leaf_type *(*lookup)(const key_type *);                               \
		void (*update)(const key_type *, const leaf_type *);                  \
	} name __attribute__((unused)) = { name##_find, name##_write }

/* A tail call does not come back, unless the slot is empty. */
#define HOST_PROGRAMS(name, size)                                 \
	static int (*name##_values[size])(void *);                \
	static void name##_jump(void *context, u32 slot)          \
	{                                                         \
		if (slot < (size) && name##_values[slot])         \
			host_leave(name##_values[slot](context)); \
	}                                                         \
	static const struct {                                     \
		void (*call)(void *, u32);                        \
	} name __attribute__((unused)) = { name##_jump }

#define BPF_F_TABLE(kind, key_type, leaf_type, name, size, flags) \
	HOST_ARRAY(key_type, leaf_type, name, size)
#define BPF_PERCPU_ARRAY(name, leaf_type, size)		 HOST_ARRAY(u32, leaf_type, name, size)
#define BPF_TABLE(kind, key_type, leaf_type, name, size) HOST_HASH(key_type, leaf_type, name)
#define BPF_PROG_ARRAY(name, size)			 HOST_PROGRAMS(name, size)
#define BPF_ARRAY_OF_MAPS(name, inner, size)		 HOST_ARRAY(u32, host_table, name, size)

/* Inner tables: a few real ones serve all pools. */
typedef u64 host_table[LB_INNER_SLOTS];

static void *bpf_map_lookup_elem(void *table, const u32 *slot)
{
	return *slot < LB_INNER_SLOTS ? &(*(host_table *)table)[*slot] : 0;
}

/* ---- the state, the way out, the clock ---- */

static struct lb_state host_state;
static struct lb_inline_tables host_inline_tables;
static jmp_buf host_way_out;
static int host_verdict;
static u64 host_now;

#define LB_STATE_FD	    0
#define LB_INLINE_TABLES_FD 1
#define LB_ROOT_FD	    2

static unsigned long host_value(int fd)
{
	return fd == LB_STATE_FD ? (unsigned long)&host_state : (unsigned long)&host_inline_tables;
}

#define bpf_pseudo_fd(kind, fd) host_value(fd)

/* The root array has no other programs: a tail call into it returns. */
#define BPF_FUNC_tail_call host_tail_call

static void host_tail_call(void *context, u64 array, u64 slot)
{
	(void)context, (void)array, (void)slot;
}

static __attribute__((noreturn)) void host_leave(int verdict)
{
	host_verdict = verdict;
	longjmp(host_way_out, 1);
}

static __attribute__((unused)) u64 bpf_ktime_get_ns(void)
{
	return host_now;
}

static __attribute__((unused)) u64 bpf_ktime_get_boot_ns(void)
{
	return host_now;
}

static __attribute__((unused)) u32 bpf_get_smp_processor_id(void)
{
	return 0;
}

#include "helpers.h"

#endif
