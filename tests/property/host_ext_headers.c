/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* bpf/headers.h behind plain functions, for ctypes. */
#include "headers.h"

int host_read_headers4(const void *ip, __u64 room, struct lb_headers *headers)
{
	return lb_read_headers4(ip, room, headers);
}

int host_read_headers6(const void *ip, __u64 len, __u64 room, struct lb_headers *headers)
{
	return lb_read_headers6(ip, ip + len, room, headers);
}

int host_read_embedded4(const void *ip, __u64 room, __u64 at, struct lb_embedded *embedded)
{
	return lb_read_embedded(ip, ip + room, room, at, 4, embedded);
}

int host_read_embedded6(const void *ip, __u64 room, __u64 at, struct lb_embedded *embedded)
{
	return lb_read_embedded(ip, ip + room, room, at, 6, embedded);
}

int host_key_protocol_ok(__u64 version, __u64 protocol)
{
	return lb_key_protocol_ok(version, protocol);
}

int host_icmp_is_error(__u64 version, __u64 type)
{
	return lb_icmp_is_error(version, type);
}
