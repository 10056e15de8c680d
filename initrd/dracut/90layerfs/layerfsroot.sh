#!/bin/sh
# dracut: /sbin/layerfsroot INTERFACE NETROOT NEWROOT, called for every interface that is up.
# A failure leaves NEWROOT unmounted: dracut calls again for the next interface, again.sh for this one, and
# dracut starts its shell when the time has elapsed.
type getarg > /dev/null 2>&1 || . /lib/dracut-lib.sh
# shellcheck source=/dev/null
. /lib/layerfs/adapter.sh

interface=$1
newroot=$3
! ismounted "$newroot" || exit 0

# The next-server from dracut's DHCP client, in either spelling.
server=
for file in "/tmp/dhclient.$interface.dhcpopts" "/tmp/net.$interface.override" "/run/NetworkManager/devices"/*; do
    if [ -n "$server" ] || [ ! -f "$file" ]; then continue; fi
    server=$(sed -n "/^\(new_next_server\|next-server\)=/{s/^[^=]*='\{0,1\}\([^']*\)'\{0,1\}$/\1/p;q;}" "$file")
done

if ! lf_adapter "$(getcmdline)" "$newroot" "$server"; then
    warn "layerfs: $lf_why"
    lf_say "$lf_why"
    lf_log >&2
    mkdir -p /run/layerfs
    echo "$interface" > /run/layerfs/again
    exit 1
fi
