#!/bin/bash
# stress-ng's file system class, each stressor by itself with --verify, in both modes; then git, dpkg and tar at the same time,
# over trees of the lower, against the same in a plain directory.
#   stress.sh [SECONDS]        root; SECONDS per stressor (2; 0: none of them)
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=room.sh
. "$(dirname "$0")/room.sh"
own_room "$0" "$@"
seconds=${1:-2}

# Stressors that do not touch the directory they are given, or mount things themselves.
elsewhere=' bind-mount binderfs dev loop procfs ramfs sysfs '
sizes='--hdd-bytes 64M --iomix-bytes 64M --copy-file-bytes 128M --readahead-bytes 64M --fallocate-bytes 64M --sync-file-bytes 16M'

stressors() {
	for stressor in $(stress-ng --class 'filesystem?' 2>&1 | sed 's/.*: //'); do
		[[ $elsewhere != *" $stressor "* ]] || continue
		ran=$((ran + 1)) code=0
		# shellcheck disable=SC2086 # options are words
		timeout -k 5 $((seconds * 5 + 300)) stress-ng "--$stressor" 2 -t "$seconds" --verify --temp-path "$suite" $sizes \
			>"$room/out" 2>&1 || code=$?
		# 3 and 4: not possible here.
		if [[ $code != [034] ]] || grep -q 'fail:' "$room/out"; then
			echo "stress-ng: $stressor, $mode mode: exit code $code"; tail -n 5 "$room/out"
			failed=$((failed + 1))
		fi
		rm -rf "${suite:?}"/* "$suite"/.[!.]*
	done
}

# A package of a tree: a version, files.
package() {
	mkdir -p "$room/deb/DEBIAN" "$room/deb/usr/share/thing"
	printf 'Package: thing\nVersion: %s\nArchitecture: all\nMaintainer: nobody <nobody@localhost>\nDescription: a test\n' "$1" >"$room/deb/DEBIAN/control"
	cp -a "$2" "$room/deb/usr/share/thing/"
	dpkg-deb -Znone --build "$room/deb" "$room/thing-$1.deb" >/dev/null
	rm -rf "$room/deb"
}

prepare() {
	local sources=(/usr/share/perl/5.*)
	mkdir -p "$room/lower/git" "$room/lower/tar" "$room/lower/dpkg/var/lib/dpkg"/{info,updates,triggers}
	touch "$room/lower/dpkg/var/lib/dpkg"/{status,available}
	for part in File IO Test Unicode; do cp -r "${sources[0]}/$part" "$room/lower/git/"; done
	cp -r "${sources[0]}"/{CPAN,Module,Pod} "$room/lower/tar/"
	package 1 "$room/lower/git/Test"
	package 2 "$room/lower/git/File"
	dpkg --root="$room/lower/dpkg" --force-all --log=/dev/null -i "$room/thing-1.deb" >/dev/null 2>&1
	(cd "$room/lower/git" && git init -q . && git config user.name n && git config user.email e && git add -A && git commit -qm 1)
	tar -C "$room/lower" -cf "$room/newer.tar" tar
}

# Git, dpkg and tar in the directory, all at once.
workload() (
	cd "$1"
	export GIT_AUTHOR_DATE=2001-01-01T00:00:00Z GIT_COMMITTER_DATE=2001-01-01T00:00:00Z
	(
		cd git
		for round in 1 2 3; do
			git mv File/Find.pm "Find$round.pm" && echo "$round" >>IO/"$round" && git add -A && git commit -qm "$round" || exit 1
			git mv "Find$round.pm" File/Find.pm && git commit -qm "back $round" || exit 1
		done
		git clone -q . ../clone && git gc -q --prune=now && git fsck --full && git checkout -q HEAD~3 && git checkout -q - || exit 1
		test -z "$(git status --porcelain)" && test -z "$(git -C ../clone status --porcelain)"
	) & git=$!
	(
		for _ in 1 2 3; do
			for version in 2 1; do
				dpkg --root="$PWD/dpkg" --force-all --log=/dev/null -i "$room/thing-$version.deb" || exit 1
			done
		done
		dpkg --root="$PWD/dpkg" --force-all --log=/dev/null --purge thing || exit 1
		dpkg --root="$PWD/dpkg" --force-all --log=/dev/null -i "$room/thing-2.deb"
	) & dpkg=$!
	(
		for round in 1 2 3; do
			tar -cf "round$round.tar" tar && tar -xf "$room/newer.tar" && mv tar "moved$round" && mkdir "un$round" || exit 1
			tar -C "un$round" -xf "round$round.tar" && diff -r "moved$round" "un$round/tar" && mv "moved$round" tar || exit 1
			rm -r "un$round" "round$round.tar"
		done
	) & tar=$!
	wait $git && wait $dpkg && wait $tar
)

# Names, types, permissions, owners, links and contents; of git's own files only that they are whole.
digest() (
	cd "$1"
	find . -name .git -prune -o -path ./suite -prune -o ! -type d -printf '%p %y %m %U %G %s %n %l\n' -o -type d -printf '%p %y %m %U %G\n' | sort
	find . -name .git -prune -o -type f -print0 | sort -z | xargs -0 sha256sum
	git -C git rev-parse HEAD
)

prepare
bake_lower
mkdir "$room/plain/tree"
cp -a "$room/lower/." "$room/plain/tree"
workload "$room/plain/tree" >"$room/out" 2>&1 || { echo "stress: the workload fails in a plain directory"; tail -n 5 "$room/out"; exit 2; }
digest "$room/plain/tree" >"$room/expected"

failed=0 ran=0
for mode in default passthrough; do
	enter $mode
	[ "$seconds" = 0 ] || stressors
	if ! workload "$room/mnt" >"$room/out" 2>&1; then
		echo "workload, $mode mode:"; tail -n 10 "$room/out"
		failed=$((failed + 1))
	fi
	rm -rf "$suite"
	for when in before after; do
		digest "$room/mnt" >"$room/found"
		if ! cmp -s "$room/expected" "$room/found"; then
			echo "workload, $mode mode, $when a remount: the tree differs:"; diff "$room/expected" "$room/found" | head -n 10
			failed=$((failed + 1))
		fi
		[ $when = after ] || { "$bin/layerfs" umount "$room/mnt"; attach; }
	done
	leave
done
echo "stress: $ran stressors and 2 workloads run, $failed failed"
[ $failed = 0 ]
