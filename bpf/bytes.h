/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Bytes of a packet as machine words.  The kernel lets BPF programs read and
 * write unaligned words where the machine can; the host build goes through
 * memcpy, so that sanitizers accept it.  (bcc compiles as if for the host and
 * defines no __BPF__: the loader says LB_IN_KERNEL.)
 */
#ifndef LB_BYTES_H
#define LB_BYTES_H

#include "abi.h"

#define LB_INLINE static inline __attribute__((always_inline))

#define lb_likely(x)   __builtin_expect(!!(x), 1)
#define lb_unlikely(x) __builtin_expect(!!(x), 0)

/* 16-bit numbers between the wire and this machine */
#define lb_swap16(x) __builtin_bswap16((__u16)(x))

#ifdef LB_IN_KERNEL
#define LB_WORD(bits)                                            \
	LB_INLINE __u##bits lb_load##bits(const void *from)      \
	{                                                        \
		return *(const __u##bits *)from;                 \
	}                                                        \
	LB_INLINE void lb_store##bits(void *to, __u##bits value) \
	{                                                        \
		*(__u##bits *)to = value;                        \
	}
#else
#define LB_WORD(bits)                                            \
	LB_INLINE __u##bits lb_load##bits(const void *from)      \
	{                                                        \
		__u##bits value;                                 \
		__builtin_memcpy(&value, from, sizeof(value));   \
		return value;                                    \
	}                                                        \
	LB_INLINE void lb_store##bits(void *to, __u##bits value) \
	{                                                        \
		__builtin_memcpy(to, &value, sizeof(value));     \
	}
#endif

/* Keeps a pointer in one register: the compiler must not work it out anew at each use. */
#define LB_KEEP(pointer) asm volatile("" : "+r"(pointer))

LB_WORD(8)
LB_WORD(16)
LB_WORD(32)
LB_WORD(64)

/* Folds a sum of 16-bit words into the checksum that goes into a header. */
LB_INLINE __u64 lb_checksum(__u64 sum)
{
	/* what the high half and the carry of adding it come to, added in one go */
	sum += (sum + (sum >> 16)) >> 16;
	return ~sum & 0xffff;
}

#endif
