#!/bin/bash
# The tests of Python's own library that use files (Debian's libpython3.11-testsuite), in both modes. Tests that fail on a plain
# tmpfs are faults of Python or of this machine.
#   python.sh [MODULE…]        root
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=room.sh
. "$(dirname "$0")/room.sh"
own_room "$0" "$@"
[ $# -gt 0 ] || set -- os posix posixpath shutil pathlib tempfile mmap fileio io file glob stat filecmp fcntl mailbox tarfile \
	zipfile sqlite3 dbm dbm_dumb shelve gzip bz2 lzma compileall import zipimport unicode_file genericpath fileinput runpy \
	largefile bufio
python=/usr/bin/python3
$python -c 'import test.test_os' || { echo "python: no tests: install libpython$($python -c 'import sys; print("%d.%d" % sys.version_info[:2])')-testsuite" >&2; exit 2; }
bake_lower

# The cases of one module that fail with its files in a directory: one name a line.
failures() {
	mkdir "$2"
	if ! (cd "$2" && TMPDIR=$2 timeout 600 $python -B -m test -v --tempdir "$2" -u all,-network,-urlfetch,-gui,-audio,-cpu,-largefile \
		"test_$1") >"$room/out" 2>&1; then
		sed -nE 's/^(FAIL|ERROR): .*\((.*)\)$/\2/p' "$room/out" | sort -u
		grep -qE '^(FAIL|ERROR): ' "$room/out" || echo "test_$1: $(tail -n 1 "$room/out")"
	fi
	passed=$(grep -c '\.\.\. ok$' "$room/out" || true)
	rm -rf "$2"
}

failed=0 total=0
for mode in default passthrough; do
	enter $mode
	for module; do
		failures "$module" "$suite/$module" >"$room/here"
		total=$((total + passed))
		[ -s "$room/here" ] || continue
		failures "$module" "$room/plain/$module" >"$room/there"
		ours=$(comm -23 "$room/here" "$room/there")
		[ -z "$ours" ] || { echo "$mode mode: $ours"; failed=$((failed + 1)); }
	done
	leave
done
echo "python: $# modules in both modes, $total cases passed, $failed modules failed here and not on tmpfs"
[ $failed = 0 ]
