#!/bin/sh
# dracut cmdline hook (sourced): for a layerfs root it sets netroot=, which makes dracut call
# /sbin/layerfsroot when an interface is up.
# shellcheck disable=SC2034,SC2154  # root, netroot and rootok are dracut's

# shellcheck source=/dev/null
. /lib/layerfs/cmdline.sh
lf_parse "$(getcmdline)"
if [ "$lf_root" = layerfs ]; then
    [ -z "$lf_error" ] || die "layerfs: $lf_error"
    netroot=layerfs:${lf_url:-auto}
    root=layerfs
    rootok=1
    # Without an ip= there is DHCP on every interface.
    [ -n "$lf_ip" ] || echo "ip=dhcp" > /etc/cmdline.d/90-layerfs.conf
    # shellcheck disable=SC2016  # dracut expands it, at every round of its queue
    echo '[ -e "$NEWROOT/proc" ]' > "$hookdir/initqueue/finished/layerfsroot.sh"
fi
