# shellcheck shell=bash
# Sourced by the suites: a room with a layer and an upper, in a mount namespace of its own; on a tmpfs, or on a new file system
# of the type ROOM_FS (ext4, xfs, btrfs).
#   own_room "$0" "$@"            first of all; sets room, bin
#   bake_lower                    $room/lower becomes the layer
#   enter default|passthrough     mounts it with the upper at $room/mnt, where $suite is an empty directory
#   leave                         unmounts it and empties the upper
# Needs root and target/release/{layerfs,bakery} (LAYERFS_BIN: elsewhere).
export LC_ALL=C
umask 022

own_room() {
	[ -n "${_OWN_NAMESPACE:-}" ] || exec env _OWN_NAMESPACE=1 unshare -m --propagation private -- bash "$@"
	here=$(cd "$(dirname "$1")" && pwd)
	bin=$(realpath "${LAYERFS_BIN:-$here/../../target/release}")
	room=$(mktemp -d)
	disk=
	trap 'cd /; umount -l "$room/mnt" 2>/dev/null || true; umount -l "$room"; rmdir "$room"; rm -f "$disk"' EXIT
	if [ "${ROOM_FS:-tmpfs}" = tmpfs ]; then
		mount -t tmpfs -o mode=755 conformance "$room"
	else
		disk=$(mktemp -p /var/tmp)
		truncate -s 6G "$disk"
		"mkfs.$ROOM_FS" -q "$disk"
		mount -o loop "$disk" "$room"
		chmod 755 "$room"
	fi
	mkdir "$room"/{lower,mnt,plain}
	suite=$room/mnt/suite
}

bake_lower() {
	"$bin/bakery" -q bake -o "$room/base.layer" "$room/lower" >"$room/out"
}

attach() {
	"$bin/layerfs" mount -o "lowerdir=$room/base.layer,upperdir=$room/upper,workdir=$room/work,$options" none "$room/mnt"
}

enter() {
	mkdir "$room/upper" "$room/work"
	options=rw
	[ "$1" = default ] || options=$1
	attach
	mkdir -m 777 "$suite"
}

leave() {
	"$bin/layerfs" umount "$room/mnt"
	rm -rf "$room/upper" "$room/work"
}
