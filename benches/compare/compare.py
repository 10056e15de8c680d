#!/usr/bin/env python3
"""compare.py: the local comparison. Every case runs on every stack in turn (A B A B), freshly
mounted with an empty upper (a tmpfs, or an ext4 in a file of one), caches dropped alike; raw lines
go to RESULTS/compare.jsonl and a table of medians, spreads and ratios to standard output.

  compare.py --tree TREE --slices DIR [--layers 1,40] [--rounds 5] [--only CASE,…] [--stacks NAME,…]
             [--upper tmpfs|ext4]

TREE is a `big` of ../trees/build.sh, DIR is made by ../boot/slices.py TREE DIR 63. Needs root, the
release builds of layerfs and bakery (make build) and of `workload`, squashfs-tools, erofs-utils,
squashfuse, fuse-overlayfs. Restrict the CPUs with taskset to see what one CPU gives."""
import argparse
import json
import os
import platform
import signal
import stat
import statistics
import subprocess
import sys
import time

import stacks

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(TOP, "benches", "trees"))
from files import regular_files  # noqa: E402

# name: (workload, list of files, runs before it that are not timed, caches dropped before it)
CASES = {
    "cold walk with stat": ("walk", None, [], True),
    # The kernel forgets the access time of a FUSE directory it has read: one GETATTR each, once.
    "second walk with stat": ("walk", None, ["walk"], False),
    "warm walk with stat": ("walk", None, ["walk", "walk"], False),
    "cold negative lookups": ("negative", "small", [], True),
    "warm negative lookups": ("negative", "small", ["negative"], False),
    "cold open+read+close, 10,000 small files": ("open", "small", [], True),
    "warm open+read+close, 10,000 small files": ("open", "small", ["open"], False),
    "cold sequential read": ("sequential", "large", [], True),
    "warm sequential read": ("sequential", "large", ["sequential"], False),
    "cold random 4 KiB": ("random", "large", [], True),
    "warm random 4 KiB": ("random", "large", ["random"], False),
    "chmod of lower files": ("chmod", "tiny", [], False),
    "create + write 4 KiB + close": ("create", None, [], False),
    "unlink": ("unlink", None, ["create"], False),
    "write 1 MiB": ("write", None, [], False),
}
REFERENCE = stacks.Squashfs.name


def hidden(slices):
    """Paths that some slice's whiteout removes."""
    found = set()
    for folder, _, files in os.walk(slices) if slices else ():
        for name in files:
            path = os.path.join(folder, name)
            if stat.S_ISCHR(os.lstat(path).st_mode):
                found.add(os.path.relpath(path, slices).partition("/")[2])
    return found


def file_lists(tree, slices, work):
    """Files of the tree by the use a case makes of them; the same on every stack."""
    small, large, gone = [], [], hidden(slices)
    for path in regular_files(tree):
        size = os.path.getsize(path)
        inside = os.path.relpath(path, tree)
        if inside in gone:
            continue
        if 0 < size <= 16 << 10:
            small.append(inside)
        elif 4 << 20 <= size <= 64 << 20:
            large.append((size, inside))
    total, chosen = 0, []
    for size, inside in sorted(large, key=lambda item: item[1]):
        if total < 400 << 20:
            total += size
            chosen.append(inside)
    step = max(1, len(small) // 10_000)
    # Few enough that their copies fit the upper whatever the stack copies.
    lists = {"small": small[::step][:10_000], "tiny": small[::step][:2_000], "large": chosen}
    paths = {}
    for name, files in lists.items():
        paths[name] = os.path.join(work, f"{name}.list")
        with open(paths[name], "w", encoding="utf-8") as file:
            file.write("".join(f"{path}\n" for path in files))
    return paths


def workload(program, case, root, listed):
    command = [program, case, root] + ([listed] if listed else [])
    seconds, operations, size = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return float(seconds), int(operations), int(size)


def measure(stack, case, lists, program):
    kind, listed, before, cold = CASES[case]
    listed = lists.get(listed)
    stack.mount()
    try:
        for earlier in before:
            workload(program, earlier, stack.root, listed)
        if cold:
            os.sync()
            with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as file:
                file.write("3\n")
        return workload(program, kind, stack.root, listed)
    finally:
        stack.unmount()


def report(rows, out):
    """Markdown: medians with their spread, and the median of the rounds' ratios to the reference."""
    names = list(dict.fromkeys(row["stack"] for row in rows))
    layers = sorted({row["layers"] for row in rows})
    for count in layers:
        out.write(f"\n### {count} layer{'s' if count > 1 else ''}\n\n")
        out.write("| case | " + " | ".join(names) + " |\n|---|" + "---|" * len(names) + "\n")
        for case in dict.fromkeys(row["case"] for row in rows):
            cells = []
            here = [row for row in rows if row["case"] == case and row["layers"] == count]
            base = {row["round"]: row["seconds"] for row in here if row["stack"] == REFERENCE}
            for name in names:
                mine = {row["round"]: row["seconds"] for row in here if row["stack"] == name}
                if not mine:
                    cells.append("–")
                    continue
                times = sorted(mine.values())
                cell = f"{statistics.median(times) * 1e3:.1f} ms ({times[0] * 1e3:.1f}–{times[-1] * 1e3:.1f})"
                ratios = [base[number] / mine[number] for number in mine if number in base]
                if ratios and name != REFERENCE:
                    cell += f" **{statistics.median(ratios):.2f}×**"
                cells.append(cell)
            out.write(f"| {case} | " + " | ".join(cells) + " |\n")
    out.write(f"\n× = how many times as fast as {REFERENCE} in the same round (median); above 1 is faster.\n")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tree", required=True)
    parser.add_argument("--slices", default="")
    parser.add_argument("--layers", default="1")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="parts of case names, separated by commas")
    parser.add_argument("--stacks", default="", help="parts of stack names, separated by commas; ^ anchors")
    parser.add_argument("--upper", default="tmpfs", choices=("tmpfs", "ext4"), help="file system of the uppers")
    parser.add_argument("--work", default="/var/tmp/layerfs-compare")
    parser.add_argument("--programs", default=os.path.join(TOP, "target", "release"))
    parser.add_argument("--results", default=os.path.join(TOP, "benches", "results", time.strftime("%Y-%m-%d")))
    return parser.parse_args()


def chosen(names, wanted):
    parts = [part for part in wanted.split(",") if part]
    return [name for name in names if not parts or any(
        name == part[1:] if part.startswith("^") else part in name for part in parts)]


def main():
    options = arguments()
    if os.geteuid() != 0:
        sys.exit("compare.py: must be root: it mounts file systems and drops caches")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that mounts end with it
    os.makedirs(options.work, exist_ok=True)
    os.makedirs(options.results, exist_ok=True)
    lists = file_lists(options.tree, options.slices, options.work)
    kinds = {kind.name: kind for kind in (stacks.Squashfs, stacks.Erofs, stacks.FuseOverlayfs,
                                          stacks.Layerfs, stacks.LayerfsPassthrough, stacks.LayerfsKernel)}
    began, tree = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), os.path.basename(os.path.abspath(options.tree))
    rows, program = [], os.path.join(options.programs, "workload")
    raw = open(os.path.join(options.results, "compare.jsonl"), "a", encoding="utf-8")
    for count in map(int, options.layers.split(",")):
        made = []
        for name in chosen(kinds, options.stacks):
            more = (options.programs,) if issubclass(kinds[name], stacks.Layerfs) else ()
            made.append(kinds[name](options.work, options.tree, options.slices, count, *more))
            made[-1].upper = options.upper
            made[-1].prepare()
        for number in range(options.rounds):
            for case in chosen(CASES, options.only):
                for stack in made:
                    seconds, operations, size = measure(stack, case, lists, program)
                    rows.append(dict(case=case, stack=stack.name, layers=count, upper=options.upper, tree=tree, run=began, round=number, seconds=seconds,
                                     operations=operations, bytes=size, load=os.getloadavg()[0],
                                     cpus=len(os.sched_getaffinity(0)), kernel=platform.release(),
                                     at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())))
                    raw.write(json.dumps(rows[-1]) + "\n")
                    raw.flush()
            print(f"round {number + 1} of {options.rounds}, {count} layers: done", file=sys.stderr, flush=True)
    report(rows, sys.stdout)
    stacks.remove(options.work)


if __name__ == "__main__":
    main()
