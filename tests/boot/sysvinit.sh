#!/bin/sh
# sysvinit.sh OUT FROM: the Debian tree FROM (benches/trees/build.sh minimal) with sysvinit in
# systemd's place: it prints a marker in runlevel 2 and has a root shell on ttyS1.
# Needs root; sysvinit-core is installed from this host's apt sources.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
out=${1:?directory to make}
from=${2:?tree}
[ ! -e "$out" ] || { echo "sysvinit.sh: $out exists; remove it or name another directory" >&2; exit 2; }
# shellcheck source=tests/boot/inside.sh
. "$here/inside.sh"
trap 'inside_close "$out"' EXIT INT TERM
cp -a --reflink=auto "$from" "$out"
inside_open "$out"
inside_apt "$out" sysvinit-core sysv-rc initscripts insserv startpar orphan-sysvinit-scripts ifupdown
inside_close "$out"

cat > "$out/usr/local/sbin/boot-shell" <<'Y'
#!/bin/sh
# The root shell of the boot tests: no job control, nothing of a login.
HOME=/root TERM=dumb PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export HOME TERM PATH
cd /root
# init made this process the leader of a session: the line becomes its terminal.
exec /bin/bash --norc --noprofile --noediting < /dev/ttyS1 > /dev/ttyS1 2>&1
Y
cat > "$out/usr/local/sbin/boot-marker" <<'Y'
#!/bin/sh
read -r up _ < /proc/uptime
printf '\r\nBENCH-MARK runlevel %s uptime=%s\r\n' "$(runlevel)" "$up" > /dev/ttyS0
Y
chmod 755 "$out/usr/local/sbin/boot-shell" "$out/usr/local/sbin/boot-marker"
# getty on the console would hang it up, and what the kernel says after that would be lost.
sed -i '/getty/d' "$out/etc/inittab"
printf 'mk:2345:once:/usr/local/sbin/boot-marker\nsh:2345:respawn:/usr/local/sbin/boot-shell\n' >> "$out/etc/inittab"
chroot "$out" useradd --create-home --shell /bin/bash tester
sed -i '1i auth sufficient pam_succeed_if.so use_uid user = tester' "$out/etc/pam.d/su"
