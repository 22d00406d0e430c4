#!/bin/busybox sh
# First program of the bed: the root disk stays as built, changes live in memory.
/bin/busybox mount -t devtmpfs dev /dev
for module in /modules/*.ko; do /bin/busybox insmod "$module" || echo "initramfs: insmod $module failed"; done
/bin/busybox mount -t ext4 -o ro,noload /dev/vda /lower
/bin/busybox mount -t tmpfs -o size=50% upper /upper
/bin/busybox mkdir /upper/u /upper/w
/bin/busybox mount -t overlay -o lowerdir=/lower,upperdir=/upper/u,workdir=/upper/w overlay /new
/bin/busybox mount -o move /dev /new/dev
exec /bin/busybox switch_root /new /sbin/bed-init
