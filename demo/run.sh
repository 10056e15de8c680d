#!/bin/sh
# The main job on a real Debian: import, serve, mount over HTTP, change, bake, log, roll back.
# All files are below lab/; needs root. `make demo` runs it; `make demo-boot` boots the result.
set -eu
cd "$(dirname "$0")/.."
bakery=$PWD/target/release/bakery
layerfs=$PWD/target/release/layerfs
site=$PWD/lab/demo
tree=$PWD/lab/trees/minimal
port=${DEMO_PORT:-8088}
export BAKERY_STORE="$site/store"

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
run() { printf '$ %s\n' "$*" | sed "s|$PWD/||g"; "$@"; }

server='' watcher=''
finish() {
	"$layerfs" umount "$site/mnt" 2>/dev/null || :
	for process in $watcher $server; do kill "$process" 2>/dev/null || :; done
	wait
}
trap finish EXIT
trap 'exit 1' INT TERM

[ "$(id -u)" = 0 ] || { echo "demo: it mounts, so run it as root" >&2; exit 2; }
rm -rf "$site"
mkdir -p "$site/mnt" "$site/spool" "$site/upper" "$site/work"

say 'A store, and a real Debian in it'
run "$bakery" init
run "$bakery" import office "$tree" -m 'Debian as it was installed'

say 'Serve it, and mount it over HTTP with a writable upper'
"$bakery" serve --listen "127.0.0.1:$port" 2>"$site/serve.log" &
server=$!
"$bakery" watch --spool "$site/spool" --settle 300 --rescan 1 2>"$site/watch.log" &
watcher=$!
tries=0
until curl -fs "http://127.0.0.1:$port/healthz" >/dev/null; do
	tries=$((tries + 1))
	[ "$tries" -lt 100 ] || { echo "demo: the server did not start; see $site/serve.log" >&2; exit 1; }
	sleep 0.1
done
run "$layerfs" mount --keys "$BAKERY_STORE.keys/allowed_signers" -o "upperdir=$site/upper,workdir=$site/work" \
	"http://127.0.0.1:$port/office" "$site/mnt"
run cat "$site/mnt/etc/debian_version"

say 'Change something, as an administrator would on one machine'
echo 'Welcome to the office. Printers are on the second floor.' >"$site/mnt/etc/motd"
mkdir -p "$site/mnt/opt/tools"
cp "$site/mnt/bin/ls" "$site/mnt/opt/tools/list"
run "$layerfs" status "$site/mnt"
run "$layerfs" umount "$site/mnt"

say 'Send it to the bakery (layerfs push does this over ssh), which bakes and publishes it'
mkdir -p "$site/spool/incoming/office"
tar --xattrs --xattrs-include='*' -C "$site/upper" -I 'zstd -3' -cf "$site/spool/incoming/office/.motd.part" .
mv "$site/spool/incoming/office/.motd.part" "$site/spool/incoming/office/motd.tar.zst"
tries=0
until "$bakery" --json log office | grep -q '"revision": *2'; do
	tries=$((tries + 1))
	[ "$tries" -lt 300 ] || { echo "demo: nothing was published; see $site/watch.log" >&2; exit 1; }
	sleep 0.2
done
run "$bakery" log office
# As diff(1): 1 means that they differ.
run "$bakery" diff office@1 office@2 || [ $? = 1 ]

say 'Every machine that boots now has it'
run "$layerfs" mount --keys "$BAKERY_STORE.keys/allowed_signers" "http://127.0.0.1:$port/office" "$site/mnt"
run cat "$site/mnt/etc/motd"
run "$layerfs" umount "$site/mnt"

say 'And back: a rollback is a new revision with the old contents'
run "$bakery" rollback office@1
run "$bakery" log office
run "$layerfs" mount --keys "$BAKERY_STORE.keys/allowed_signers" "http://127.0.0.1:$port/office" "$site/mnt"
run ls -l "$site/mnt/opt"
run "$layerfs" umount "$site/mnt"

say 'Check every byte of the store'
run "$bakery" verify --all

say 'Done. To boot a Debian like this one from such a server in QEMU: make demo-boot'
