/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
int lb_redirector(struct __sk_buff *skb)
{
	return lb_exit(LB_CNT_OK_NOT_GUE, 0);
}
