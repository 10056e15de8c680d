#!/bin/sh
# inits.sh sysvinit|openrc|runit OUT FROM: the Debian tree FROM (benches/trees/build.sh minimal) with another
# first program in systemd's place: it prints a marker when it is up and has a root shell on ttyS1.
# Needs root; the packages are installed from this host's apt sources.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
kind=${1:?sysvinit, openrc or runit}
out=${2:?directory to make}
from=${3:?tree}
[ ! -e "$out" ] || { echo "inits.sh: $out exists; remove it or name another directory" >&2; exit 2; }
case $kind in
    sysvinit) packages="sysvinit-core sysv-rc initscripts insserv startpar orphan-sysvinit-scripts ifupdown" ;;
    openrc) packages="sysvinit-core openrc initscripts orphan-sysvinit-scripts ifupdown" ;;
    runit) packages="runit-init runit sysv-rc initscripts insserv startpar orphan-sysvinit-scripts ifupdown" ;;
    *) echo "inits.sh: $kind: sysvinit, openrc or runit" >&2; exit 2 ;;
esac
# shellcheck source=tests/boot/inside.sh
. "$here/inside.sh"
trap 'inside_close "$out.part"' EXIT INT TERM
rm -rf "$out.part"
# A copy of FROM itself would be a link if FROM is one, and all changes below would change FROM.
mkdir "$out.part"
cp -a --reflink=auto "$from/." "$out.part"
inside_open "$out.part"
# shellcheck disable=SC2086  # a list
inside_apt "$out.part" $packages
inside_close "$out.part"

cat > "$out.part/usr/local/sbin/boot-shell" <<'Y'
#!/bin/sh
# The root shell of the boot tests: no job control, no login.
HOME=/root TERM=dumb PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export HOME TERM PATH
cd /root
# init made this process the leader of a session: the line becomes its terminal.
exec /bin/bash --norc --noprofile --noediting < /dev/ttyS1 > /dev/ttyS1 2>&1
Y
cat > "$out.part/usr/local/sbin/boot-marker" <<'Y'
#!/bin/sh
read -r up _ < /proc/uptime
printf '\r\nBENCH-MARK up %s uptime=%s\r\n' "$(cat /proc/1/comm)" "$up" > /dev/ttyS0
Y
chmod 755 "$out.part/usr/local/sbin/boot-shell" "$out.part/usr/local/sbin/boot-marker"
if [ "$kind" = runit ]; then
    for name in boot-shell boot-marker; do
        mkdir -p "$out.part/etc/sv/$name"
        ln -s "/etc/sv/$name" "$out.part/etc/runit/runsvdir/default/$name"
    done
    printf '#!/bin/sh\nexec setsid -c /usr/local/sbin/boot-shell\n' > "$out.part/etc/sv/boot-shell/run"
    printf '#!/bin/sh\n/usr/local/sbin/boot-marker\nexec sleep infinity\n' > "$out.part/etc/sv/boot-marker/run"
    chmod 755 "$out.part/etc/sv"/boot-*/run
else
    # getty on the console would hang it up, and later messages of the kernel would be lost.
    sed -i '/getty/d' "$out.part/etc/inittab"
    printf 'mk:2345:once:/usr/local/sbin/boot-marker\nsh:2345:respawn:/usr/local/sbin/boot-shell\n' >> "$out.part/etc/inittab"
fi
chroot "$out.part" useradd --create-home --shell /bin/bash tester
sed -i '1i auth sufficient pam_succeed_if.so use_uid user = tester' "$out.part/etc/pam.d/su"
mv "$out.part" "$out"
