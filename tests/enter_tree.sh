#!/bin/bash
# enter_tree.sh TREE DIR[:DIR...] COMMAND...: run COMMAND as user 1000 with TREE as its root, in which
# each DIR is where it is outside. A chroot would not do: user namespaces are refused in one.
set -eu
if [ -z "${ENTER_TREE_INSIDE:-}" ]; then
    export ENTER_TREE_INSIDE=1
    exec unshare --mount --pid --fork --kill-child --propagation private "$BASH" "$0" "$@"
fi
tree=$1 binds=$2
shift 2
mount --bind "$tree" "$tree"
mount -t proc proc "$tree/proc"
mount --rbind /sys "$tree/sys"
mount --rbind /dev "$tree/dev"
cp /etc/resolv.conf "$tree/etc/resolv.conf"
IFS=: read -r -a folders <<< "$binds"
for place in "${folders[@]}"; do
    if [ -d "$place" ]; then
        mkdir -p "$tree/$place"
    else
        mkdir -p "$tree/$(dirname "$place")"
        touch "$tree/$place"
    fi
    mount --bind "$place" "$tree/$place"
done
# Apptainer mounts images through FUSE, as the user.
if [ -e /dev/fuse ]; then
    mkdir -p "$tree/.dev"
    rm -f "$tree/.dev/fuse"
    mknod -m 0666 "$tree/.dev/fuse" c 10 229
    mount --bind "$tree/.dev/fuse" "$tree/dev/fuse"
fi
mkdir -p "$tree/.outside"
cd "$tree"
pivot_root . .outside
umount -l /.outside
cd /home/builder
exec setpriv --reuid=1000 --regid=1000 --init-groups env -i HOME=/home/builder USER=builder \
    PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin LANG=C.UTF-8 TMPDIR=/tmp "$@"
