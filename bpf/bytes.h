/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Bytes of a packet as machine words.  The kernel lets BPF programs read and
 * write unaligned words where the machine can; the host build goes through
 * memcpy, so that sanitizers accept it.  (bcc compiles as if for the host and
 * does not define __BPF__, so the loader defines LB_IN_KERNEL.)
 */
#ifndef LB_BYTES_H
#define LB_BYTES_H

#include "abi.h"

#define LB_INLINE static inline __attribute__((always_inline))

#define lb_likely(x)   __builtin_expect(!!(x), 1)
#define lb_unlikely(x) __builtin_expect(!!(x), 0)

/* numbers between the wire and this machine */
#define lb_swap16(x) __builtin_bswap16((__u16)(x))
#define lb_swap32(x) __builtin_bswap32((__u32)(x))

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

/* Keeps a pointer in one register: the compiler must not compute it anew at each use. */
#define LB_KEEP(pointer) asm volatile("" : "+r"(pointer))

LB_WORD(8)
LB_WORD(16)
LB_WORD(32)
LB_WORD(64)

/*
 * A number that the compiler knows nothing about: it may no longer leave out a check
 * or a mask that the verifier needs.
 */
LB_INLINE __u64 lb_opaque(__u64 number)
{
	__asm__ volatile("" : "+r"(number));
	return number;
}

/* Folds a sum of 16-bit words into the checksum that goes into a header. */
LB_INLINE __u64 lb_checksum(__u64 sum)
{
	/* adds the high half, and the carry that this addition makes, in one step */
	sum += (sum + (sum >> 16)) >> 16;
	return ~sum & 0xffff;
}

#endif
