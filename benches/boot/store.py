#!/usr/bin/env python3
"""store.py --tree TREE --out OUT [--slices DIR --layers 64]: builds the store for boot.py.

OUT/store gets the system `bench`: the tree as a base, imported with default options, its initramfs (common drivers), and a boot
pack made of the trace of one boot under QEMU, sent by that machine itself. With --slices the profile
`bench/layers-N` has the slices DIR/l1 … lN on top, a layer each, and the pack as well.
OUT/revisions.json names the revisions without a pack (bare), with a predicted one and with that of a rehearsal.

TREE is a `minimal` of ../trees/build.sh, DIR by slices.py TREE DIR N. Needs root, `make build
static`, tar, zstd, qemu-system-x86."""
import argparse
import json
import os
import shutil
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(TOP, "tests", "boot"))
from machine import free_port, run_script  # noqa: E402
from office import STATIC, Site, call  # noqa: E402

SYSTEM = "bench"


class BenchStore(Site):
    """A site without the tests' console options: boot.py appends all of them."""

    def prepare(self, tree):
        """The tree with the client in it, as a system that sends its traces would have it."""
        call("cp", "-a", "--reflink=auto", tree + "/.", self.tree)
        shutil.copy(STATIC, os.path.join(self.tree, "usr/bin/layerfs"))
        shutil.copy(os.path.join(HERE, "..", "trees", "marker.sh"), os.path.join(self.tree, "usr/local/sbin/bench-marker"))

    def publish(self):
        self.bakery("init")
        self.bakery("import", SYSTEM, self.tree, "-m", "the first revision", "--no-pack", timeout=3600)
        self.bakery("initrd", SYSTEM, "--drivers", "common", timeout=1800)

    def predict(self):
        """The same system with a predicted pack, as an import makes it; returns the revision."""
        print(self.bakery("pack", SYSTEM, "--predict").strip())
        return self.manifest(system=SYSTEM)["revision"]

    def rehearse(self):
        """The same system with the pack of a rehearsal; returns the revision."""
        print(self.bakery("rehearse", SYSTEM, timeout=3600).strip())
        return self.manifest(system=SYSTEM)["revision"]

    def learn(self):
        """One boot that sends its trace, and the pack made of it."""
        self.start()
        log = os.path.join(self.directory, "logs", "trace.log")
        extra = "bench.trace layerfs.prefetch=no systemd.mask=serial-getty@ttyS0.service"
        try:
            with self.machine("trace", root=SYSTEM, extra=extra, system=SYSTEM, memory=1536, log=log) as machine:
                machine.expect("BENCH-MARK multi-user", 3600)
                machine.expect("BENCH-MARK trace-sent", 1200)
        finally:
            self.stop()
        return self.bakery("pack", SYSTEM, "--spool", self.spool, "--force")

    @property
    def spool(self):
        return os.path.join(self.directory, "spool")

    def stack(self, slices, count):
        """The slices on top of a profile, one push each, in order."""
        profile = f"{SYSTEM}/layers-{count}"
        self.bakery("profile", "add", profile, "--from", SYSTEM)
        incoming = os.path.join(self.spool, "incoming", profile)
        os.makedirs(incoming, exist_ok=True)
        for number in range(1, count + 1):
            archive = os.path.join(incoming, f"{number:03}.tar.zst")
            subprocess.run(f"tar -C '{slices}/l{number}' -c . | zstd -q -3 -o '{archive}.part'", shell=True, check=True)
            os.rename(f"{archive}.part", archive)
            self.bakery("watch", "--spool", self.spool, "--once", "--settle", "0")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tree", required=True)
    parser.add_argument("--slices")
    parser.add_argument("--out", required=True)
    parser.add_argument("--layers", type=int, default=64)
    options = parser.parse_args()
    if os.path.exists(options.out):
        parser.error(f"{options.out} exists; remove it or name another directory")
    site = BenchStore(options.out)
    site.port = free_port()
    site.prepare(options.tree)
    site.publish()
    bare = site.manifest(system=SYSTEM)["revision"]
    predicted, rehearsed = site.predict(), site.rehearse()
    print(site.learn().strip())
    if options.slices:
        site.stack(options.slices, options.layers)
    kernel, initrd = site.boot_files(SYSTEM)
    with open(os.path.join(options.out, "revisions.json"), "w", encoding="utf-8") as file:
        json.dump({"system": SYSTEM, "bare": bare, "predicted": predicted, "rehearsed": rehearsed,
                   "kernel": kernel, "initrd": initrd}, file, indent=1)
    shutil.rmtree(site.tree)


if __name__ == "__main__":
    run_script(main)
