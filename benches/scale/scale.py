#!/usr/bin/env python3
"""scale.py: systems of 10,000 to millions of small files.

  scale.py [--sizes 10000,100000,1000000] [--rounds 1] [--only bake,flatten,mount,remote] [--programs DIR]

For each size makes the archive of tree.py (kept in --work between runs), then in turn with each build: bakes it
(zstd level 3), flattens the layer, mounts the layer, and mounts a system with this layer from a server on this
machine. Prints the processor time of bake and flatten, the largest resident memory of each program (after the
mount and its first listing also the present one, and both again after a walk), the bytes of the index, and the
bytes and seconds to the first listing. BENCH_BEFORE=DIR names the programs of an older build, which then goes first in each round; the ratios of
the medians are printed. "growth" is the processor time of a bake for each file against that of the smallest size.
Raw lines go to RESULTS/scale.jsonl. Needs root, and 8 KiB of disk for each file."""
import argparse
import json
import os
import shutil
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
INDEX, SECTIONS_AT, SECTION_LEN = 1, 64, 64
STEPS = ("bake", "flatten", "mount", "remote")


def used(command):
    """Runs a program; its processor time (s), its largest resident memory (MiB), its seconds."""
    began = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"scale.py: {' '.join(command)} ended with {process.returncode}")
    return {"cpu_s": usage.ru_utime + usage.ru_stime, "peak_mib": usage.ru_maxrss / 1024,
            "seconds": time.monotonic() - began}


def index_len(layer):
    """Stored and raw length of the INDEX of a layer."""
    with open(layer, "rb") as file:
        head = file.read(1024)
    for row in range(8):
        number, _, _, stored, raw = struct.unpack_from("<IIQQQ", head, SECTIONS_AT + row * SECTION_LEN)
        if number == INDEX:
            return {"index": stored, "index_raw": raw}
    raise SystemExit(f"scale.py: {layer} has no INDEX")


class Mount:
    """A mount without an upper; its times and memory."""

    def __init__(self, layerfs, source, work, *options):
        self.layerfs, self.root = layerfs, os.path.join(work, "root")
        os.makedirs(self.root, exist_ok=True)
        began = time.monotonic()
        subprocess.run([layerfs, "mount", *options, source, self.root], check=True, stdout=subprocess.DEVNULL)
        self.mounted = time.monotonic() - began
        os.listdir(self.root)
        self.listed = time.monotonic() - began

    def __enter__(self):
        return self

    def __exit__(self, *_):
        subprocess.run([self.layerfs, "umount", self.root], check=True)

    def status(self):
        said = subprocess.run([self.layerfs, "status", "--json", self.root], check=True, capture_output=True)
        return json.loads(said.stdout)

    def memory(self):
        with open(f"/proc/{self.status()['pid']}/status", encoding="ascii") as file:
            found = dict(line.split(":", 1) for line in file if line.startswith(("VmRSS", "VmHWM")))
        size = {name: int(value.split()[0]) / 1024 for name, value in found.items()}
        return {"peak_mib": size["VmHWM"], "rss_mib": size["VmRSS"]}

    def walk(self):
        """Seconds of a walk with stat of everything, and the objects it found."""
        began, count, open_folders = time.monotonic(), 0, [self.root]
        while open_folders:
            with os.scandir(open_folders.pop()) as entries:
                for entry in entries:
                    entry.stat(follow_symlinks=False)
                    count += 1
                    if entry.is_dir(follow_symlinks=False):
                        open_folders.append(entry.path)
        return {"walk_s": time.monotonic() - began, "objects": count}

    def report(self):
        found = {"mount_s": self.mounted, "listing_s": self.listed, **self.memory(), **self.walk()}
        walked = self.memory()
        return {**found, "rss_walked_mib": walked["rss_mib"], "peak_walked_mib": walked["peak_mib"]}


class Server:
    """`bakery serve` of a store."""

    def __init__(self, bakery, store):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.place = "%s:%d" % free.getsockname()
        self.process = subprocess.Popen([bakery, "--store", store, "serve", "--quiet", "--listen", self.place])

    def __enter__(self):
        host, port = self.place.split(":")
        for _ in range(600):
            try:
                socket.create_connection((host, int(port)), timeout=1).close()
                return self
            except OSError:
                time.sleep(0.05)
        self.__exit__()
        raise SystemExit("scale.py: bakery serve does not listen")

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()


def remote(programs, archive, work):
    """A system with this tree, imported, served and mounted."""
    bakery, store = os.path.join(programs, "bakery"), os.path.join(work, "store")
    shutil.rmtree(store, ignore_errors=True)
    shutil.rmtree(store + ".keys", ignore_errors=True)
    subprocess.run([bakery, "--store", store, "init"], check=True, stdout=subprocess.DEVNULL)
    imported = used([bakery, "--store", store, "--quiet", "import", "scale", archive, "--no-check", "--no-pack",
                     "--level", "3"])
    yield {"step": "import", **imported}
    keys = store + ".keys/allowed_signers"
    with Server(bakery, store) as server:
        options = ("--keys", keys, "--prefetch", "none", "-o", "ro")
        source = f"http://{server.place}/scale"
        with Mount(os.path.join(programs, "layerfs"), source, work, *options) as mount:
            fetched = mount.status()["source"]["bytes"]
            found = {"step": "remote", "bytes_to_listing": fetched, **mount.report()}
            yield {**found, "bytes_walked": mount.status()["source"]["bytes"]}
    shutil.rmtree(store)


def measure(programs, archive, work, steps):
    """The figures of one build with one tree."""
    bakery, layerfs = (os.path.join(programs, name) for name in ("bakery", "layerfs"))
    layer, merged = os.path.join(work, "tree.layer"), os.path.join(work, "merged.layer")
    for made in (layer, merged):
        if os.path.exists(made):
            os.unlink(made)
    baked = used([bakery, "--quiet", "bake", "--level", "3", "--output", layer, archive])
    yield {"step": "bake", **baked, **index_len(layer)}
    if "flatten" in steps:
        yield {"step": "flatten", **used([bakery, "--quiet", "flatten", "--output", merged, layer]),
               **index_len(merged)}
    if "mount" in steps:
        with Mount(layerfs, layer, work) as mount:
            yield {"step": "mount", **mount.report()}
    if "remote" in steps:
        yield from remote(programs, archive, work)


def show(found, sizes, builds):
    """One line for each size, step and value: the median of each build, and their ratio."""
    for size in sizes:
        for step in dict.fromkeys(line["step"] for line in found):
            lines = [line for line in found if (line["size"], line["step"]) == (size, step)]
            for value in dict.fromkeys(key for line in lines for key in line):
                if value in ("size", "step", "build", "round"):
                    continue
                medians = [statistics.median(line[value] for line in lines if line["build"] == build)
                           for build in builds]
                ratio = f"  {medians[-1] / medians[0]:.2f} x" if len(medians) > 1 and medians[0] else ""
                print(f"{size:>9,} {step:8} {value:17}", *(f"{median:>14,.2f}" for median in medians), ratio)
    for build in builds:
        cost = {size: statistics.median(line["cpu_s"] for line in found if line["step"] == "bake" and
                                        (line["size"], line["build"]) == (size, build)) / size for size in sizes}
        print(f"growth ({build}):", ", ".join(f"{size:,}: {cost[size] / cost[sizes[0]]:.2f}" for size in sizes))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="10000,100000,1000000")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--only", default=",".join(STEPS))
    parser.add_argument("--programs", default=os.path.join(TOP, "target/release"))
    parser.add_argument("--work", default=os.path.join(tempfile.gettempdir(), "layerfs-scale"))
    parser.add_argument("--results", default=os.path.join(HERE, "..", "results", time.strftime("%Y-%m-%d")))
    options = parser.parse_args()
    steps, sizes = options.only.split(","), [int(size) for size in options.sizes.split(",")]
    if unknown := set(steps) - set(STEPS):
        raise SystemExit(f"scale.py: no step {', '.join(unknown)}; there are {', '.join(STEPS)}")
    before = os.environ.get("BENCH_BEFORE")
    builds = {**({"before": before} if before else {}), "present": options.programs}
    os.makedirs(options.work, exist_ok=True)
    os.makedirs(options.results, exist_ok=True)
    found = []
    for size in sizes:
        archive = os.path.join(options.work, f"{size}.tar")
        if not os.path.exists(archive):
            subprocess.run([os.path.join(HERE, "tree.py"), str(size), archive + ".new"], check=True)
            os.rename(archive + ".new", archive)
        for number in range(options.rounds):
            for build, programs in builds.items():
                for line in measure(programs, archive, options.work, steps):
                    line = {"size": size, "round": number, "build": build, **line}
                    print(json.dumps(line), file=sys.stderr, flush=True)
                    with open(os.path.join(options.results, "scale.jsonl"), "a", encoding="ascii") as file:
                        file.write(json.dumps(line) + "\n")
                    found.append(line)
    show(found, sizes, list(builds))


if __name__ == "__main__":
    main()
