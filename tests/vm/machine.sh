#!/bin/bash
# A virtual machine in a network namespace of its own: machine.sh CABLES QEMU...
# CABLES is how many pairs of taps (wire0a and wire0b, ...) there are, each joined by a bridge.
# What QEMU's drivers offer is what a host's do: several queues, an MTU above 1500.
set -euo pipefail
if [[ ${LB_MACHINE-} != yes ]]; then
    LB_MACHINE=yes exec unshare --net -- bash "$0" "$@"
fi
unset LB_MACHINE
cables=$1
shift
echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6
echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6
for ((cable = 0; cable < cables; cable++)); do
    ip link add "cable$cable" type bridge mcast_snooping 0
    for end in a b; do
        ip tuntap add "wire$cable$end" mode tap multi_queue
        ip link set "wire$cable$end" mtu 1600 master "cable$cable" up
    done
    ip link set "cable$cable" up
done
exec "$@"
