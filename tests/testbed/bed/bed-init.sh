#!/bin/sh
# Process 1 of the bed: a host with everything a privileged jailer may want,
# which waits for one job on a virtio-serial port, runs it and says how it ended.
# Ports: 1 control, 2 stdin, 3 stdout, 4 stderr, 5 output archive.
# Disks: vda root, vdb input archive, vdc assets, vdd scratch.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb LC_ALL=C.UTF-8
mount -t proc proc /proc
mount -t sysfs sys /sys
mkdir -p /dev/pts /dev/shm
mount -t devpts -o ptmxmode=666 devpts /dev/pts
mount -t tmpfs shm /dev/shm
mount -t tmpfs run /run
mount -t tmpfs -o size=80% tmp /tmp
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t securityfs securityfs /sys/kernel/security
ln -sf /proc/self/fd /dev/fd
ln -sf /proc/self/fd/0 /dev/stdin
ln -sf /proc/self/fd/1 /dev/stdout
ln -sf /proc/self/fd/2 /dev/stderr
ip link set lo up
hostname bed
for module in kvm-amd tun vhost_net vhost_vsock loop erofs squashfs; do
	modprobe "$module" || echo "bed: no module $module"
done
# A bed that hangs is asked over the serial line what it does.
echo 1 >/proc/sys/kernel/sysrq
chmod 666 /dev/kvm /dev/net/tun
for controller in $(cat /sys/fs/cgroup/cgroup.controllers); do
	echo "+$controller" >/sys/fs/cgroup/cgroup.subtree_control
done
mkdir -p /casemate /scratch /out /run/bed
mkfifo /run/bed/in /run/bed/out /run/bed/err

# The number before the p is the virtio device's, and no business of ours.
set -- /dev/vport*p1
port=${1%1}
exec 3<>"${port}1"
echo 3 >/proc/sys/vm/drop_caches
echo WARM >&3
# ---- The warm state is saved while this line waits.
read -r _go epoch has_stdin <&3

date -s "@$epoch" >/dev/null
blockdev --flushbufs /dev/vdb /dev/vdc /dev/vdd
tar -xf /dev/vdb -C / || { echo "FAIL cannot unpack the input archive" >&3; sleep 60; }
# Every bed wakes with the same random state: the seed goes in, and the generator is made
# to take it now (RNDRESEEDCRNG, random(4)) and not at its next turn a minute later.
dd if=/run/bed/seed of=/dev/urandom bs=64 count=1 2>/dev/null
perl -e 'open my $r, "+<", "/dev/urandom" or die $!; ioctl $r, 0x5207, 0 or die $!' ||
	{ echo "FAIL cannot reseed the random numbers" >&3; sleep 60; }
mount -t ext4 -o ro,noload /dev/vdc /casemate 2>/dev/null
mount -t ext4 /dev/vdd /scratch || { echo "FAIL cannot mount the scratch disk" >&3; sleep 60; }
cat </run/bed/out >"${port}3" &
out=$!
cat </run/bed/err >"${port}4" &
err=$!
if [ "$has_stdin" = 1 ]; then cat <"${port}2" >/run/bed/in 3>&- & else : >/run/bed/in & fi
echo STARTED >&3
setsid --wait sh /run/bed/job.sh </run/bed/in >/run/bed/out 2>/run/bed/err 3>&-
status=$?
# A process the job left behind may hold the streams: it gets two seconds to let go.
(sleep 2; kill $out $err) 2>/dev/null 3>&- &
wait $out $err
if [ -n "$(ls -A /out)" ]; then tar -cf "${port}5" -C /out . || { echo "FAIL cannot write the outputs" >&3; sleep 60; }; fi
echo "EXIT $status" >&3
while :; do sleep 60; done
