#!/bin/busybox sh
# shellcheck shell=dash
# A virtual machine's first program: its root is the release's, shared and unchanged, under a
# writable layer in memory. Then guest.sh goes on with its arguments, those behind -- for the kernel.
b=/bin/busybox
$b mount -t proc proc /proc
$b mount -t sysfs sys /sys
$b mount -t devtmpfs dev /dev
for module in /modules/*.ko; do
    $b insmod "$module" || echo "init: $module does not load"
done
for tag in kernel root bcc; do
    $b mount -t 9p -o trans=virtio,version=9p2000.L,ro,cache=loose,msize=512000 "$tag" "/$tag"
done
$b mount -t tmpfs -o size=75% layer /layer
$b mkdir /layer/upper /layer/work
$b mount -t overlay -o "lowerdir=/bcc:/kernel:/root,upperdir=/layer/upper,workdir=/layer/work" new /new
$b umount /proc
$b umount /sys
$b mount --move /dev /new/dev
exec $b switch_root /new /bin/bash /srv/bucket-brigade/tests/vm/guest.sh machine "$@"
