#!/bin/bash
# fio writes blocks that carry their own checksum and reads them back, by each way of I/O, in both modes; and once
# more after the mount was made again.
#   fio.sh [MIB]               root; MIB per job (16)
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=room.sh
. "$(dirname "$0")/room.sh"
own_room "$0" "$@"
mib=${1:-16}
bake_lower

jobs='
sequential --ioengine=psync --rw=write --bs=64k
random     --ioengine=psync --rw=randwrite --bs=4k
mapped     --ioengine=mmap --rw=randwrite --bs=4k
queued     --ioengine=libaio --iodepth=16 --rw=randwrite --bs=8k
direct     --ioengine=libaio --iodepth=16 --direct=1 --rw=randwrite --bs=4k
synced     --ioengine=pvsync2 --rw=randwrite --bs=16k --fsync=64
four       --ioengine=psync --numjobs=4 --rw=randwrite --bs=4k
reserved   --ioengine=psync --fallocate=posix --rw=randwrite --bs=4k
'
failed=0 ran=0
all_jobs() {
	while read -r name rest; do
		[ -n "$name" ] || continue
		ran=$((ran + 1))
		# shellcheck disable=SC2086 # options are words
		if ! (cd "$room" && timeout 600 fio --name="$name" --directory="$suite" --size="${mib}m" --randseed=42 --allrandrepeat=1 \
			--verify=crc32c --verify_fatal=1 --verify_state_save=0 $rest "$@") >"$room/out" 2>&1; then
			echo "fio: $name $*, $mode mode:"; tail -n 15 "$room/out"
			failed=$((failed + 1))
		fi
	done <<<"$jobs"
}

for mode in default passthrough; do
	enter $mode
	all_jobs
	"$bin/layerfs" umount "$room/mnt"
	attach
	all_jobs --verify_only=1
	leave
done
echo "fio: $ran jobs run, $failed failed"
[ $failed = 0 ]
