#!/bin/sh
# The inside of the cgroup v2 lane: prepares the guest, runs the suites named in FOLDER/suites, writes what they said.
#
#   guest.sh FOLDER
#
# FOLDER is shared with the host and writable. It holds `etc.tar`, the host's /etc, and `suites`: one line per suite,
# tab-separated: name, seconds allowed, working directory, test binary, parts of its tests. Written: NAME.log per suite,
# `results` (name, tab, exit status, tab, seconds), `machine` (what this guest is), and, at the very end, `done`. A host
# that finds no `done` knows that the guest died on the way.
set -u
folder=$1
fail() { echo "guest: $*" >"$folder/broken"; exit 1; }

# The guest's root asks the host for every name and every page anew, which takes longer than what is tested. The same
# files a second time, at /run/host where the benchmark asks for it, with what was seen remembered: nothing of the host
# changes meanwhile. Not for the tests yet: a guest with this root (and more modules) once stood still in its first suite.
if grep -q " /run/host 9p " /proc/self/mounts; then
    tag=$(tr ' ' '\n' </proc/cmdline | sed -n 's|^virtme_\(initmount[0-9]*\)=/run/host$|virtme.\1|p')
    options=rw,version=9p2000.L,trans=virtio,access=any,msize=524288,cache=loose
    umount /run/host && mount -t 9p -o $options "$tag" /run/host || fail "cannot mount a root that is cached"
    # What lies over the first root lies over the second, but for /run, which is made anew below.
    awk '$2 != "/" && $2 !~ "^/run(/|$)" { print $2 }' /proc/self/mounts | while read -r at; do
        mountpoint -q "/run/host$at" || mount --rbind "$at" "/run/host$at" || exit 1
    done || fail "cannot mount below a root that is cached"
    cd /run/host && pivot_root . . && umount -l . && cd / || fail "cannot take a root that is cached"
fi

# Everything else in this file is reached by absolute paths that the host wrote: a tmpfs must not hide them.
mkdir -p /run /var/tmp /var/lib/bivouac 2>/dev/null
mount -t tmpfs -o mode=755 tmpfs /run || fail "cannot mount tmpfs on /run"
# The root is 9p, which cannot be the upper layer of an overlay; what tests write lies on tmpfs.
mount -t tmpfs -o mode=1777,size=1g tmpfs /var/tmp || fail "cannot mount tmpfs on /var/tmp"
mount -t tmpfs -o mode=755,size=512m tmpfs /var/lib/bivouac || fail "cannot mount tmpfs on /var/lib/bivouac"
# Every start looks at each name of /etc, and some tests write there.
tar -xf "$folder/etc.tar" -C /run && rm "$folder/etc.tar" && mkdir -p /run/etc/bivouac && mount --bind /run/etc /etc ||
    fail "cannot keep /etc in memory"

# No init system here: the machine's cgroups are ours to mount, as on a host that boots with v2 only.
mountpoint -q /sys/fs/cgroup || mount -t cgroup2 none /sys/fs/cgroup || fail "cannot mount cgroup2"
for controller in cpuset cpu io memory hugetlb pids; do
    echo "+$controller" >/sys/fs/cgroup/cgroup.subtree_control 2>/dev/null
done
for needed in cpuset cpu io memory pids; do
    grep -qw "$needed" /sys/fs/cgroup/cgroup.subtree_control || fail "controller $needed cannot be enabled"
done
modprobe overlay 2>/dev/null
ip link set lo up 2>/dev/null

{
    echo "kernel $(uname -r)"
    echo "up $(cut -d' ' -f1 /proc/uptime) s before the first suite"
    echo "controllers $(cat /sys/fs/cgroup/cgroup.subtree_control)"
    echo "cgroup $(stat -f -c %T /sys/fs/cgroup)"
} >"$folder/machine"

export BIVOUAC_TEST_LANE=vm BIVOUAC_TEST_DIR=/var/tmp TMPDIR=/var/tmp HOME=/root RUST_BACKTRACE=1
# The environment of the first process in a guest is almost empty.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
[ -r "$folder/environment" ] && . "$folder/environment"

# in_memory FILE...: what is started often is copied, and the copy mounted in its place.
in_memory() {
    for file in "$@"; do
        file=$(readlink -f "$file") && [ -f "$file" ] || continue
        copy=/run/in-memory$file
        mkdir -p "${copy%/*}"
        [ -e "$copy" ] && continue
        cp -p "$file" "$copy" && mount --bind "$copy" "$file" || fail "cannot keep $file in memory"
    done
}
for program in "${BIVOUAC_BIN:-}" "${BIVOUAC_SHIM:-}"; do
    [ -n "$program" ] && in_memory "$program"
done
# The benchmark: its own programs, and its peers with their libraries. These are no mounts: a task is shown what is
# mounted below /usr, so each would cost our launches something.
if [ -n "${BIVOUAC_DIST:-}" ]; then
    in_memory "$BIVOUAC_DIST"/* "$BIVOUAC_ENGINE"
    mkdir -p /run/p
    for peer in bwrap runc crun; do
        path=$(command -v "$peer") || continue
        cp $(ldd "$path" | grep -o '/[^ )]*') /run/p/
        # As long as what it replaces.
        sed 's:/lib64/ld-linux-x86-64:/run/p/ld-linux-x86-64:' "$path" >"/run/p/$peer" && chmod 755 "/run/p/$peer"
        "/run/p/$peer" --version >/dev/null || fail "$peer does not run from memory"
    done
    export PATH="/run/p:$PATH" LD_LIBRARY_PATH=/run/p
fi

: >"$folder/results"
tab=$(printf '\t')
while IFS="$tab" read -r name seconds cwd binary part; do
    [ -n "$name" ] || continue
    # Only these tests make a file system, one of them with quotas.
    case $name in bivouac--disks | bivouac-shim--cost) modprobe --all loop ext4 quota_v2 ;; esac
    before=$(cut -d. -f1 /proc/uptime)
    ( cd "$cwd" && exec timeout -k 10 "$seconds" "$binary" --show-output $part ) >"$folder/$name.log" 2>&1 </dev/null
    status=$?
    after=$(cut -d. -f1 /proc/uptime)
    printf '%s\t%s\t%s\n' "$name" "$status" "$((after - before))" >>"$folder/results"
done <"$folder/suites"
sync
: >"$folder/done"
