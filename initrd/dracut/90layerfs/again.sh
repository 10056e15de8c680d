#!/bin/sh
# dracut hook initqueue/settled (sourced, at every round of the queue, which is half a second or more):
# netroot calls /sbin/layerfsroot once for each card. A failed attempt (the server did not have the
# system yet, a name was not known yet) is retried here, until dracut's time has elapsed (rd.retry=).
if [ -s /run/layerfs/again ]; then
    layerfs_rounds=$((${layerfs_rounds:-0} + 1))
    if [ "$((layerfs_rounds % 20))" = 0 ]; then
        read -r layerfs_card < /run/layerfs/again
        rm -f /run/layerfs/again
        # shellcheck disable=SC2154  # NEWROOT is dracut's
        /sbin/layerfsroot "$layerfs_card" layerfs:auto "$NEWROOT"
    fi
fi
