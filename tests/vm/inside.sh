#!/bin/bash
# Work in a root file system that is not the machine's, in namespaces that end with it:
#   inside.sh setup ROOT                        run scripts/setup in it; what it makes stays
#   inside.sh trial ROOT whole|load LAYER MOUNT run guest.sh in it; nothing stays
# LAYER is laid over ROOT, in memory, at the empty folder MOUNT. Mounts vanish with the namespace, whatever happens.
set -euo pipefail
work=$1 root=$2
if [[ ${LB_INSIDE-} != yes ]]; then
    namespaces=(--mount --propagation private --pid --fork --kill-child)
    [[ $work == setup ]] || namespaces+=(--net)
    LB_INSIDE=yes exec unshare "${namespaces[@]}" -- bash "$0" "$@"
fi
unset LB_INSIDE

if [[ $work == trial ]]; then
    extent=$3 layer=$4 place=$5
    mount -t tmpfs work "$place"
    mkdir "$place/upper" "$place/work" "$place/root"
    mount -t overlay -o "lowerdir=$layer:$root,upperdir=$place/upper,workdir=$place/work" \
        new "$place/root"
    root=$place/root
fi
mount -t proc proc "$root/proc"
mount -t sysfs sys "$root/sys"
mount --rbind /dev "$root/dev"
mount -t tmpfs tmp "$root/tmp"
mount -t tmpfs run "$root/run"

if [[ $work == setup ]]; then
    # Names, certificates and pip's settings are the machine's.
    for path in /etc/resolv.conf /etc/pip.conf; do
        [[ -e $path ]] || continue
        : >>"$root$path"
        mount --bind "$path" "$root$path"
    done
    mount --bind /etc/ssl "$root/etc/ssl"
    chroot "$root" bash /srv/bucket-brigade/scripts/setup
    exit
fi
exec chroot "$root" bash /srv/bucket-brigade/tests/vm/guest.sh chroot "$extent"
