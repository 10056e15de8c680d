#!/bin/sh
# fio.sh FILE MOUNT_A MOUNT_B [ROUNDS]: every job on the two mounted trees in turn (A B A B), caches
# dropped before each; prints "JOB MOUNT ROUND SECONDS READ-IOPS WRITE-IOPS" lines, raw JSON goes to RESULTS (a directory,
# default benches/results/DATE). FILE is a large lower file, as a path below the mounts. Root.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
FILE=${1:?large lower file}; a=${2:?first mount}; b=${3:?second mount}; rounds=${4:-3}
export FILE MOUNT
: "${RESULTS:=$here/../results/$(date +%F)}"
mkdir -p "$RESULTS"
# The job that copies the lower file up is the last one: later reads would not read a lower file.
jobs="seq-read rand-read-4k mmap-rand-read-4k write-1m write-4k create stat unlink rand-write-4k-of-lower"
for job in $jobs; do
    round=1
    while [ "$round" -le "$rounds" ]; do
        for MOUNT in "$a" "$b"; do
            mkdir -p "$MOUNT/tmp"
            sync; echo 3 > /proc/sys/vm/drop_caches
            fio --output-format=json "$here/$job.fio" > "$RESULTS/fio.part"
            python3 - "$RESULTS/fio.part" "$job" "$MOUNT" "$round" "$RESULTS/fio.jsonl" <<'P'
import json, sys
text = open(sys.argv[1], encoding="utf-8").read()
job = json.loads(text[text.index("{"):])["jobs"][0]
seconds = job["job_runtime"] / 1000
with open(sys.argv[5], "a", encoding="utf-8") as raw:
    raw.write(json.dumps({"case": sys.argv[2], "mount": sys.argv[3], "round": int(sys.argv[4]), "job": job}) + "\n")
print(sys.argv[2], sys.argv[3], sys.argv[4], seconds, job["read"]["iops"], job["write"]["iops"])
P
        done
        round=$((round + 1))
    done
done
rm -f "$RESULTS/fio.part"
