#!/usr/bin/env python3
"""turns.py: two builds of layerfs, one after the other in each round (A B B A), by the processor's time of the
daemon and of the program that asks it. That time moves little when other programs run beside it, where the
time on the clock does.

  turns.py --before DIR --after DIR --tree TREE [--slices DIR] [--layers 1,40] [--rounds 20] [--only CASE,…|all]
           [--upper tmpfs|ext4] [--modes layerfs,passthrough]

DIR is a directory with `layerfs`, `bakery` and `workload`; `--slices` is as in compare.py, for more layers than
one. Needs root."""
import argparse
import os
import resource
import statistics
import sys

import compare
import stacks


MODES = {"layerfs": stacks.Layerfs, "passthrough": stacks.LayerfsPassthrough}


def daemon_of(root):
    """The daemon's process: the one that was started to mount `root`."""
    for number in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{number}/cmdline", "rb") as file:
                words = file.read().split(b"\0")
        except OSError:
            continue
        if words[1:2] == [b"mount"] and root.encode() in words and words[0].endswith(b"layerfs"):
            return int(number)
    sys.exit(f"turns.py: no daemon serves {root}")


def spent_by(process):
    """Seconds that the threads of a process have run."""
    total = 0
    for thread in os.listdir(f"/proc/{process}/task"):
        with open(f"/proc/{process}/task/{thread}/schedstat", encoding="ascii") as file:
            total += int(file.read().split()[0])
    return total / 1e9


def spent_by_children():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def measure(stack, case, lists, program):
    """Processor's seconds of the daemon and of the workload, and seconds on the clock."""
    kind, listed, before, cold = compare.CASES[case]
    listed = lists.get(listed)
    stack.mount()
    try:
        daemon = daemon_of(stack.root)
        for earlier in before:
            compare.workload(program, earlier, stack.root, listed)
        if cold:
            os.sync()
            with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as file:
                file.write("3\n")
        began, asked = spent_by(daemon), spent_by_children()
        clock, operations, _ = compare.workload(program, kind, stack.root, listed)
        return spent_by(daemon) - began, spent_by_children() - asked, clock, operations
    finally:
        stack.unmount()


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", required=True)
    parser.add_argument("--after", required=True)
    parser.add_argument("--tree", required=True)
    parser.add_argument("--slices", default="")
    parser.add_argument("--layers", default="1")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--only", default="chmod,create,unlink")
    parser.add_argument("--upper", default="tmpfs", choices=("tmpfs", "ext4"))
    parser.add_argument("--modes", default="layerfs")
    parser.add_argument("--work", default="/var/tmp/layerfs-turns")
    return parser.parse_args()


def prepared(options, mode, layers):
    """Both builds' stacks by name, each with its directory of programs."""
    builds = {}
    for name, programs in (("before", options.before), ("after", options.after)):
        stack = MODES[mode](os.path.join(options.work, name), options.tree, options.slices, layers, programs)
        # Both mount the same layers, of the later build's bakery.
        stack.images, stack.bakery = os.path.join(options.work, "images"), os.path.join(options.after, "bakery")
        os.makedirs(stack.images, exist_ok=True)
        stack.upper = options.upper
        stack.prepare()
        builds[name] = (stack, programs)
    return builds


def compared(case, builds, lists, rounds):
    """A row of the table: medians of both builds and their ratio, by three clocks."""
    found = {"before": [], "after": []}
    for number in range(rounds):
        for name in sorted(found, reverse=number % 2 == 0):
            stack, programs = builds[name]
            daemon, asker, clock, operations = measure(stack, case, lists, os.path.join(programs, "workload"))
            per = 1e6 / max(1, operations)
            found[name].append((daemon * per, (daemon + asker) * per, clock * per))
    cells = [case]
    for column in range(3):
        before, after = (statistics.median(row[column] for row in found[name]) for name in ("before", "after"))
        cells += [f"{before:.1f}", f"{after:.1f}", f"{after / before:.3f}" if before else "–"]
    return "| " + " | ".join(cells) + " |"


def main():
    options = arguments()
    if os.geteuid() != 0:
        sys.exit("turns.py: must be root: it mounts file systems and drops caches")
    os.makedirs(options.work, exist_ok=True)
    lists = compare.file_lists(options.tree, options.slices, options.work)
    for layers in map(int, options.layers.split(",")):
        for mode in options.modes.split(","):
            builds = prepared(options, mode, layers)
            print(f"\n{mode}, layers {layers}, upper {options.upper}, rounds {options.rounds}; "
                  "medians of microseconds per operation\n")
            print("| case | daemon before | after | ratio | both before | after | ratio | clock before | after | ratio |")
            print("|---|---|---|---|---|---|---|---|---|---|", flush=True)
            for case in compare.chosen(compare.CASES, "" if options.only == "all" else options.only):
                print(compared(case, builds, lists, options.rounds), flush=True)
    stacks.remove(options.work)


if __name__ == "__main__":
    main()
