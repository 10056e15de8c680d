#!/bin/bash
# pjdfstest and fsx (both from the crate registry) on a writable layerfs mount, in both modes.
#   run.sh short|long          root; needs target/release/{layerfs,bakery}
# Exit code 0: not one failure. Everything happens in a mount namespace of its own.
set -euo pipefail
[ -n "${_OWN_NAMESPACE:-}" ] || exec env _OWN_NAMESPACE=1 unshare -m --propagation private -- bash "$0" "$@"
here=$(cd "$(dirname "$0")" && pwd)
bin=${LAYERFS_BIN:-$here/../../target/release}
case ${1:?short or long} in
short) seeds=2 operations=2000 ;;
long) seeds=10 operations=20000 ;;
*) echo "short or long, not $1" >&2; exit 2 ;;
esac
PATH=$HOME/.cargo/bin:$PATH
for tool in pjdfstest@0.2.2 fsx@0.3.2; do
	command -v "${tool%@*}" >/dev/null || cargo install --locked --quiet "$tool"
done

room=$(mktemp -d)
mount -t tmpfs -o mode=755 conformance "$room"
trap 'cd /; umount -l "$room"; rmdir "$room"' EXIT
mkdir "$room"/{lower,upper,work,mnt,other,sbin,sbin-work,artifacts}
mount -t tmpfs other "$room/other"
# mount(8) finds its helper here, for the remounts of the EROFS tests.
ln -s "$bin/layerfs" "$room/sbin/mount.fuse.layerfs"
mount -t overlay helpers -o "lowerdir=/usr/sbin,upperdir=$room/sbin,workdir=$room/sbin-work" /usr/sbin
mkdir -p "$room/lower/etc"; echo lower >"$room/lower/etc/file"
"$bin/bakery" -q bake -o "$room/base.layer" "$room/lower" >"$room/out"

failed=0
for mode in default passthrough; do
	options="lowerdir=$room/base.layer,upperdir=$room/upper,workdir=$room/work"
	[ $mode = default ] || options=$options,$mode
	"$bin/layerfs" mount -o "$options" none "$room/mnt"
	mkdir -m 755 "$room/mnt/suite"
	# The tests that remount alone, the others side by side.
	sed 's/^allow_remount = .*/allow_remount = false/' "$here/pjdfstest.toml" >"$room/together.toml"
	for set in together.toml alone; do
		if [ $set = alone ]; then arguments=(-c "$here/pjdfstest.toml"); patterns=(erofs); else arguments=(-c "$room/$set"); patterns=(); fi
		if ! pjdfstest "${arguments[@]}" -s "$room/other" -p "$room/mnt/suite" "${patterns[@]}" >"$room/out" 2>&1; then
			grep -A2 FAILED "$room/out" || cat "$room/out"
			failed=1
		fi
		grep -E '^Summary|^tests:' "$room/out" || tail -n 3 "$room/out"
	done
	for seed in $(seq "$seeds"); do
		if ! fsx -f "$here/fsx.toml" -N "$operations" -S "$seed" -P "$room/artifacts" "$room/mnt/suite/fsx$seed" >"$room/out" 2>&1; then
			echo "fsx: seed $seed, $mode mode:"; tail -n 20 "$room/out"
			failed=1
		fi
	done
	echo "$mode mode: pjdfstest, fsx $seeds x $operations: failed=$failed"
	rm -rf "$room/mnt/suite"
	"$bin/layerfs" umount "$room/mnt"
done
exit $failed
