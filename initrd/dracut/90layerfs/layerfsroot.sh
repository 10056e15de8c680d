#!/bin/sh
# dracut: /sbin/layerfsroot INTERFACE NETROOT NEWROOT, called for every interface that came up.
# A failure leaves NEWROOT unmounted: dracut calls again for the next interface, and gives its
# shell when the time is over.
type getarg > /dev/null 2>&1 || . /lib/dracut-lib.sh
# shellcheck source=/dev/null
. /lib/layerfs/adapter.sh

interface=$1
newroot=$3
! ismounted "$newroot" || exit 0

# What dracut's DHCP client left, in either of its spellings: the next-server.
server=
for file in "/tmp/dhclient.$interface.dhcpopts" "/tmp/net.$interface.override" "/run/NetworkManager/devices"/*; do
    if [ -n "$server" ] || [ ! -f "$file" ]; then continue; fi
    server=$(sed -n "s/^\(new_next_server\|next-server\)='\{0,1\}\([^']*\)'\{0,1\}$/\2/p" "$file" | head -n 1)
done

# The daemon's "/" stays the initramfs while /proc moves: a second one below stays with it.
mount -t proc -o nosuid,nodev,noexec proc /proc
if ! lf_adapter "$(getcmdline)" "$newroot" "$server"; then
    warn "layerfs: $lf_why"
    lf_log >&2
    umount /proc
    exit 1
fi
