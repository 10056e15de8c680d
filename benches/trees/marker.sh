#!/bin/sh
# Prints on the serial console that multi-user.target is reached, then the
# details. Type=simple, so that the boot job itself ends at once; the serial
# getty must be masked (agetty hangs the line up and later lines are lost).
read -r up _ < /proc/uptime
exec > /dev/ttyS0 2>&1
printf '\r\nBENCH-MARK multi-user uptime=%s\r\n' "$up"
grep -q bench.quick /proc/cmdline && exit 0
# The boot ends here: the report below is not part of it.
if grep -q bench.trace /proc/cmdline; then layerfs push-trace / && echo BENCH-MARK trace-sent; fi
for f in /run/bench/*.sh; do [ ! -f "$f" ] || sh "$f"; done
i=0
while [ $i -lt 60 ] && [ "$(systemctl is-system-running)" = starting ]; do sleep 0.5; i=$((i + 1)); done
echo "BENCH-INFO state=$(systemctl is-system-running)"
systemd-analyze time --no-pager | sed 's/^/BENCH-INFO /'
# Every rival does the same work until then, so this measures the speed of the machine.
dmesg | sed -n 's,^\[ *\([0-9.]*\)\] Run /init as init process.*,BENCH-INFO init=\1,p'
systemctl --failed --no-legend --plain | sed 's/^/BENCH-FAILED /'
memory() {
    # Free pages in the lists of each CPU (kernels since 6.7 keep many megabytes there), which meminfo counts nowhere.
    awk '$1 == "count:" {pages += $2} END {print "BENCH-INFO mem ListsFree:" pages * 4}' /proc/zoneinfo
    awk '{print "BENCH-INFO mem " $1 $2}' /proc/meminfo
}
# After the boot: temporary memory of daemons is freed, and the measuring programs were read before.
if grep -q bench.idle /proc/cmdline; then memory > /dev/null; sleep 20; fi
memory
awk '$2 == "/" {print "BENCH-INFO root " substr($0, 1, 300)}' /proc/mounts
for p in /proc/[0-9]*; do
    read -r name < "$p/comm" 2>/dev/null || continue
    case $name in *layerfs*) sed -n "s/^VmRSS:[ \t]*/BENCH-INFO rss $name /p" "$p/status";; esac
done
# Details of time and memory (boot.py --detail).
if grep -q bench.detail /proc/cmdline; then
    layerfs status / 2> /dev/null | sed 's/^/BENCH-DETAIL status /'
    awk '$2 + $3 > 0 {printf "BENCH-DETAIL slab %s %d kB\n", $1, $3 * $4 / 1024}' /proc/slabinfo | sort -k4 -n -r | head -n 20
    sed 's/^/BENCH-DETAIL module /' /proc/modules
    for p in /proc/[0-9]*; do
        [ -r "$p/smaps_rollup" ] && grep -q Pss "$p/smaps_rollup" 2>/dev/null || continue
        echo "BENCH-DETAIL process $(cat "$p/comm") $(awk '$1 ~ /^(Rss|Pss|Pss_Anon|Pss_File|Pss_Shmem):/ {printf "%s%s ", $1, $2}' "$p/smaps_rollup") ticks and faults: $(sed 's/.*) //' "$p/stat" | awk '{print $12, $13, $8, $10}')"
    done
    for p in /proc/[0-9]*; do
        case $(cat "$p/comm" 2>/dev/null) in *layerfs*) awk '
            /^[0-9a-f]+-/ {name = $2 " " ($6 == "" ? "anonymous" : $6)}
            {value[$1] = $2}
            /^VmFlags:/ && value["Rss:"] >= 32 {print "BENCH-DETAIL mapping", name, value["Size:"], value["Rss:"], "anonymous", value["Anonymous:"], "lent", value["LazyFree:"]}
            ' "$p/smaps" | sort | uniq -c | sed 's/^ *\([0-9]*\) \(BENCH-DETAIL mapping\)/\2 \1 x/';; esac
    done
    sed -n 's/^\(pgfault\|pgmajfault\|thp_fault_alloc\) /BENCH-DETAIL vmstat &/p' /proc/vmstat
    dmesg | sed -n 's/^/BENCH-DETAIL dmesg /p' | tail -n 60
    df -k | sed 's/^/BENCH-DETAIL df /'
fi
echo "BENCH-MARK report-done uptime=$(cut -d' ' -f1 /proc/uptime)"
! grep -q bench.poweroff /proc/cmdline || systemctl poweroff
