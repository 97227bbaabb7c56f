#!/bin/sh
# The first process of a kernel under test. Its root is the host's, read-only; what it is told
# comes in the environment, where the kernel puts those of its parameters that it does not know:
#   SHUNT_RUN      the host's folder with the file `job`, to which the status is written
#   SHUNT_VISIBLE  folders of the host, with colons between, that must stay to be seen
# What it says itself goes to the kernel's console; what the job says goes to a terminal of its
# own, so that neither garbles the other.
set -u
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t bpf bpf /sys/fs/bpf
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
for folder in /dev/shm /run /tmp /var/tmp; do
    mount -t tmpfs -o mode=1777 tmpfs "$folder"
done

# What one of those has just hidden comes back: a checkout may lie below /tmp.
IFS=:
for folder in $SHUNT_VISIBLE; do
    if [ ! -d "$folder" ]; then
        mkdir -p "$folder"
        mount -t hostfs -o "$folder" none "$folder"
    fi
done
unset IFS

mkdir /run/job
mount -t hostfs -o "$SHUNT_RUN" none /run/job

# As a distribution sets it up: a kernel's own limit of 1024 is a limit of nobody's.
ulimit -n 1048576
ip link set lo up
hostname kernel-under-test 2>/dev/null

stty -F /dev/tty1 raw -echo
(exec sh /run/job/job </dev/null >/dev/tty1 2>&1)
status=$?
# This waits until the terminal has passed on what it was given.
stty -F /dev/tty1 sane
echo "$status" >/run/job/status.part
mv /run/job/status.part /run/job/status
sync
echo o >/proc/sysrq-trigger
# The end of the first process would be a panic.
while :; do sleep 60; done
