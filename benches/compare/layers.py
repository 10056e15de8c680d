#!/usr/bin/env python3
"""layers.py: the cost of the number of layers: layerfs against itself.

  layers.py --tree TREE --slices DIR [--layers 1,8,64,256] [--rounds 5] [--only CASE,…]

DIR is made by ../boot/slices.py TREE DIR N, N at least the largest count less one. Every count shows the
same tree, that of TREE under all the slices: for n layers the lower ones are compacted into the base and
the n - 1 uppermost stay layers of their own. Every case runs on every count in turn (A B A B), freshly
mounted with an empty tmpfs upper, caches dropped alike; raw lines go to RESULTS/layers.jsonl and a table
to standard output: medians, spreads, and the time as a multiple of that with the first count in the same
round. Needs root and the release builds of layerfs, bakery (make build) and `workload`."""
import argparse
import json
import os
import platform
import signal
import statistics
import sys
import time

import compare
import stacks

CASES = ("cold walk with stat", "warm walk with stat", "cold negative lookups", "warm negative lookups",
         "cold random 4 KiB", "warm random 4 KiB")
# The aim, which the table marks.
BAR = 1.05


class Compacted(stacks.Layerfs):
    """The stack of `total` layers, all but the `layers - 1` uppermost compacted into one."""

    def __init__(self, work, tree, slices, layers, programs, total):
        self.total = total
        super().__init__(work, tree, slices, layers, programs)

    def sources(self):
        yield "base", self.tree
        for number in range(1, self.total):
            yield f"l{number}", os.path.join(self.slices, f"l{number}")

    def stack(self):
        """The layer files, base first."""
        return [self.image(name, source) for name, source in self.sources()]

    def prepare(self):
        lower, upper = self.split()
        self.files = [self.compacted(lower)] + upper

    def split(self):
        files = self.stack()
        at = self.total - self.layers + 1
        return files[:at], files[at:]

    def compacted(self, files):
        if len(files) == 1:
            return files[0]
        path = os.path.join(self.images, f"compacted-{len(files)}.layer")
        if not os.path.exists(path):
            stacks.quiet(self.bakery, "compact", *files, "-o", path + ".part")
            os.rename(path + ".part", path)
        return path

    def assemble(self, upper, work):
        self.attach(self.root, self.layerfs, "mount", ":".join(reversed(self.files)), self.root, "-o",
                    f"upperdir={upper},workdir={work}")


def report(rows, out):
    """Markdown: medians with their spread, and the median of the rounds' ratios to the first count."""
    counts = list(dict.fromkeys(row["layers"] for row in rows))
    plural = lambda count: f"{count} layer{'s' if count > 1 else ''}"
    out.write("\n| case | " + " | ".join(map(plural, counts)) + " |\n|---|" + "---|" * len(counts) + "\n")
    for case in dict.fromkeys(row["case"] for row in rows):
        times = {count: {row["round"]: row["seconds"] for row in rows
                         if (row["case"], row["layers"]) == (case, count)} for count in counts}
        cells = []
        for count in counts:
            here = sorted(times[count].values())
            cell = f"{statistics.median(here) * 1e3:.1f} ms ({here[0] * 1e3:.1f}–{here[-1] * 1e3:.1f})"
            if count != counts[0]:
                ratio = statistics.median(mine / times[counts[0]][number] for number, mine in times[count].items())
                cell += f" **{ratio:.2f}×**" + (" over the bar" if ratio > BAR else "")
            cells.append(cell)
        out.write(f"| {case} | " + " | ".join(cells) + " |\n")
    out.write(f"\n× = the time as a multiple of that with {plural(counts[0])} in the same round, median; "
              f"the bar is {BAR}×.\n")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tree", required=True)
    parser.add_argument("--slices", required=True)
    parser.add_argument("--layers", default="1,8,64,256")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="parts of case names, separated by commas")
    parser.add_argument("--work", default="/var/tmp/layerfs-layers")
    parser.add_argument("--programs", default=os.path.join(compare.TOP, "target", "release"))
    parser.add_argument("--results", default=os.path.join(compare.TOP, "benches", "results", time.strftime("%Y-%m-%d")))
    return parser.parse_args()


def main():
    options = arguments()
    if os.geteuid() != 0:
        sys.exit("layers.py: must be root: it mounts file systems and drops caches")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that mounts end with it
    os.makedirs(options.work, exist_ok=True)
    os.makedirs(options.results, exist_ok=True)
    lists = compare.file_lists(options.tree, options.slices, options.work)
    counts = [int(count) for count in options.layers.split(",")]
    made = []
    for count in counts:
        made.append(Compacted(options.work, options.tree, options.slices, count, options.programs, max(counts)))
        made[-1].prepare()
        print(f"{count} layers: ready", file=sys.stderr, flush=True)
    rows, program = [], os.path.join(options.programs, "workload")
    with open(os.path.join(options.results, "layers.jsonl"), "a", encoding="utf-8") as raw:
        for number in range(options.rounds):
            for case in compare.chosen(CASES, options.only):
                done = set()
                for stack in made:
                    seconds, operations, size = compare.measure(stack, case, lists, program)
                    done.add((operations, size))
                    rows.append({"case": case, "stack": stack.name, "layers": stack.layers, "round": number,
                                 "seconds": seconds, "operations": operations, "bytes": size,
                                 "tree": os.path.basename(os.path.abspath(options.tree)),
                                 "load": os.getloadavg()[0], "cpus": len(os.sched_getaffinity(0)),
                                 "kernel": platform.release(),
                                 "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())})
                    raw.write(json.dumps(rows[-1]) + "\n")
                    raw.flush()
                if len(done) != 1:
                    sys.exit(f"layers.py: {case}: the counts of layers do not show the same tree: {sorted(done)}")
            print(f"round {number + 1} of {options.rounds}: done", file=sys.stderr, flush=True)
    report(rows, sys.stdout)
    stacks.remove(options.work)


if __name__ == "__main__":
    main()
