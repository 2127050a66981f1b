# Becomes the first process of a cell: makes its root file system, and then waits until its standard input ends,
# which it does when firedrill closes the cell or dies. The kernel then kills every process of the cell.
#
# Runs in new mount, network, process, IPC and host name namespaces, as root in them. Arguments: the folder for
# the root, the cell's own folder, the user id, the group id, names for the cell (space-separated), and folders
# with programs outside of the usual places.
set -eu
umask 022
root=$1 own=$2 uid=$3 gid=$4 aliases=$5
shift 5

# The number of this process as others see it: the old /proc is still there.
read -r number _ </proc/self/stat

mount --make-rprivate /
mount -t tmpfs -o mode=0755,size=16m,nr_inodes=16k cell "$root"
mkdir "$root/etc" "$root/dev" "$root/proc" "$root/tmp" "$root/run" "$root/var" "$root/cell"
ln -s /tmp "$root/var/tmp"

# A folder of this machine, to be read and not to be written.
show() {
  [ -d "$1" ] || return 0
  mkdir -p "$root$1"
  mount --bind "$1" "$root$1"
  mount -o remount,bind,ro,nosuid,nodev "$root$1" 2>/dev/null || mount -o remount,bind,ro "$root$1"
}

for place in /bin /sbin /lib /lib32 /lib64 /libx32; do
  if [ -L "$place" ]; then ln -s "$(readlink "$place")" "$root$place"; else show "$place"; fi
done
show /usr
show /nix/store
for place in /etc/alternatives /etc/ssl/certs /etc/ld.so.conf.d "$@"; do show "$place"; done
for file in ld.so.cache ld.so.conf localtime nsswitch.conf; do
  [ ! -f "/etc/$file" ] || cp -L "/etc/$file" "$root/etc/$file"
done
printf 'root:x:0:0::/:/bin/sh\ncell:x:%s:%s::/cell:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n' "$uid" "$gid" >"$root/etc/passwd"
printf 'root:x:0:\ncell:x:%s:\nnogroup:x:65534:\n' "$gid" >"$root/etc/group"
printf '127.0.0.1 localhost cell%s\n::1 localhost\n' "${aliases:+ $aliases}" >"$root/etc/hosts"
: >"$root/etc/resolv.conf"
hostname cell 2>/dev/null || :

for device in null zero full random urandom; do
  : >"$root/dev/$device"
  mount --bind "/dev/$device" "$root/dev/$device"
done
ln -s /proc/self/fd "$root/dev/fd"
ln -s /proc/self/fd/0 "$root/dev/stdin"
ln -s /proc/self/fd/1 "$root/dev/stdout"
ln -s /proc/self/fd/2 "$root/dev/stderr"
mkdir "$root/dev/shm"
mount -t tmpfs -o mode=1777,nosuid,nodev,size=25% shm "$root/dev/shm"
mount -t tmpfs -o mode=1777,nosuid,nodev,size=10% tmp "$root/tmp"
mount -t tmpfs -o mode=1777,nosuid,nodev,size=16m run "$root/run"
mount --bind "$own" "$root/cell"
mount -o remount,bind,nosuid,nodev "$root/cell" 2>/dev/null || :
mount -t proc -o nosuid,nodev,noexec proc "$root/proc"

# Without a loopback network, servers that only speak TCP cannot be asked.
if command -v ip >/dev/null 2>&1; then ip link set lo up 2>/dev/null || :; fi

cd "$root"
mkdir old
pivot_root . old
umount -l /old
rmdir /old
mount -o remount,ro / 2>/dev/null || mount -o remount,bind,ro /
printf 'ready %s\n' "$number"
exec cat >/dev/null
