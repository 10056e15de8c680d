#!/usr/bin/env python3
"""sizes.py: bytes, wall time, CPU time and peak memory of the same tree as squashfs and as layers,
and of uppers over it (.tar.zst of ../trees/upper.sh) as squashfs and as layers over the base.

  sizes.py --tree TREE [--upper FILE]… [--only PART,…]

Every form is made by a process of its own with all CPUs it may use; raw lines go to
RESULTS/sizes.jsonl, a table to standard output. Needs root, squashfs-tools, tar, zstd, the release
build of bakery."""
import argparse
import json
import os
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))


def squashfs(source, out, level, block):
    return ["mksquashfs", source, out, "-noappend", "-no-progress", "-quiet", "-comp", "zstd",
            "-Xcompression-level", str(level), "-b", block]


def timed(command):
    """Runs a command; returns wall seconds, CPU seconds, peak MiB."""
    start = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"sizes.py: {' '.join(command)} failed with {process.returncode}")
    return time.monotonic() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def forms(options, work):
    """(tree, form, output, command), the base layer before the layers that need it."""
    bakery, tree = os.path.join(options.programs, "bakery"), options.tree
    base = os.path.join(work, "base.layer")
    yield "base", "squashfs zstd 15, 128 KiB", os.path.join(work, "a"), squashfs(tree, os.path.join(work, "a"), 15, "128K")
    yield "base", "layer, default", base, [bakery, "bake", tree, "-o", base]
    yield "base", "squashfs zstd 22, 1 MiB", os.path.join(work, "b"), squashfs(tree, os.path.join(work, "b"), 22, "1M")
    yield "base", "layer, recompressed", os.path.join(work, "c"), [
        bakery, "compact", base, "--recompress", "-o", os.path.join(work, "c")]
    for upper in options.upper:
        name = os.path.basename(upper).split(".")[0]
        unpacked = os.path.join(work, name)
        os.mkdir(unpacked)
        subprocess.run(["tar", "--xattrs", "--xattrs-include=*", "-I", "zstd", "-xpf", upper, "-C", unpacked], check=True)
        one, two = os.path.join(work, "d"), os.path.join(work, f"{name}.layer")
        yield name, "squashfs zstd 15, 128 KiB", one, squashfs(unpacked, one, 15, "128K")
        yield name, "layer over the base", two, [bakery, "bake", upper, "--base", base, "-o", two]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tree", required=True)
    parser.add_argument("--upper", action="append", default=[])
    parser.add_argument("--only", default="", help="parts of the forms' names; what they need is made too")
    parser.add_argument("--programs", default=os.path.join(TOP, "target", "release"))
    parser.add_argument("--results", default=os.path.join(TOP, "benches", "results", time.strftime("%Y-%m-%d")))
    options = parser.parse_args()
    os.makedirs(options.results, exist_ok=True)
    wanted = [part for part in options.only.split(",") if part]
    print("| tree | form | bytes | wall s | CPU s | peak MiB |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR", "/var/tmp")) as work, \
            open(os.path.join(options.results, "sizes.jsonl"), "a", encoding="utf-8") as raw:
        for tree, what, out, command in forms(options, work):
            needed = what == "layer, default"
            if wanted and not needed and not any(part in what or part in tree for part in wanted):
                continue
            seconds, cpu, peak = timed(command)
            row = dict(tree=tree, what=what, bytes=os.path.getsize(out), seconds=seconds, cpu=cpu, peak=peak,
                       load=os.getloadavg()[0], at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))
            raw.write(json.dumps(row) + "\n")
            raw.flush()
            print(f"| {tree} | {what} | {row['bytes']:,} | {seconds:.1f} | {cpu:.1f} | {peak:.0f} |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
