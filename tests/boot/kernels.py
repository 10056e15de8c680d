#!/usr/bin/env python3
"""The mount's own tests under the kernels of today's distributions: this machine's file system, read-only by 9p
under an overlay, in a virtual machine that has one of their kernels; there the test programs of cargo run.

    kernels.py [--trees DIR] [--only SUITE,…] [--filter 'semantics:: model::'] [--direct FILTER] [--options MODE]

DIR has the trees of tests/boot/suite.sh; the kernels and modules are theirs. --filter names tests of the suite, --direct those of
the merged file system in the process of the test (fs/tests/direct); --options is LAYERFS_TEST_OPTIONS."""

import argparse
import glob
import json
import os
import subprocess
import tempfile

from machine import BootError, Machine, run_script
from office import TOP, Verdicts, call, report

SUITES = ("bookworm", "trixie", "sid")
MODULES = ("virtio_pci", "virtio_blk", "9p", "9pnet_virtio", "overlay", "ext4", "fuse", "loop", "virtio_rng")
INIT = r"""#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /host /rw /new
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
/bin/busybox mount -t devtmpfs devtmpfs /dev
for module in /modules/*; do /bin/busybox insmod "$module" || echo "insmod $module failed"; done
b=/bin/busybox
end() { echo "KERNELS-RESULT $1"; $b sync; $b poweroff -f; $b sleep 60; }
$b mount -t 9p -o trans=virtio,version=9p2000.L,cache=loose,msize=512000,ro host /host || end "no host"
$b mount -t ext4 /dev/vda /rw || end "no disk"
$b mkdir -p /rw/upper /rw/work /rw/tmp
$b chmod 1777 /rw/tmp
# Without these, the host's own /proc, which 9p shows too, appears where a test takes the machine's away.
for kernels in proc sys dev run; do $b mknod "/rw/upper/$kernels" c 0 0; done
$b mount -t overlay -o lowerdir=/host,upperdir=/rw/upper,workdir=/rw/work overlay /new || end "no overlay"
for kernels in proc sys dev run; do $b mkdir "/new/$kernels"; done
for there in tmp var/tmp; do $b mount --bind /rw/tmp /new/$there; done
$b mount -t proc proc /new/proc
$b mount -t sysfs sysfs /new/sys
$b mount -t devtmpfs devtmpfs /new/dev
$b mkdir -p /new/dev/shm /new/dev/pts
$b mount -t tmpfs tmpfs /new/dev/shm
$b mount -t devpts devpts /new/dev/pts
$b mount -t tmpfs -o mode=755 tmpfs /new/run
$b mount -t cgroup2 cgroup2 /new/sys/fs/cgroup
$b chmod 666 /new/dev/fuse
$b ip link set lo up
echo "KERNELS-KERNEL $($b uname -r)"
$b chroot /new /bin/sh -c '@SCRIPT@'
end $?
"""


def modules_of(tree, kernel):
    """The files of MODULES and their dependencies, in load order."""
    files = []
    for name in MODULES:
        done = subprocess.run(["modprobe", "-d", tree, "-S", kernel, "--show-depends", name], capture_output=True, text=True, check=False)
        for line in done.stdout.splitlines():
            word, _, path = line.strip().partition(" ")
            if word == "insmod" and path.strip().split(" ")[0] not in files:
                files.append(path.strip().split(" ")[0])
    return files


def make_initrd(tree, kernel, script, directory, out):
    root = os.path.join(directory, "initrd")
    for name in ("bin", "modules"):
        os.makedirs(os.path.join(root, name))
    call("cp", "-L", "/bin/busybox", f"{root}/bin/busybox")
    for number, path in enumerate(modules_of(tree, kernel)):
        target = f"{root}/modules/{number:03d}-{os.path.basename(path)}"
        with open(path, "rb") as file:
            content = file.read()
        if path.endswith(".xz"):
            content, target = subprocess.run(["xz", "-dc"], input=content, capture_output=True, check=True).stdout, target[:-3]
        elif path.endswith(".zst"):
            content, target = subprocess.run(["zstd", "-dc"], input=content, capture_output=True, check=True).stdout, target[:-4]
        with open(target, "wb") as file:
            file.write(content)
    with open(f"{root}/init", "w", encoding="utf-8") as file:
        file.write(INIT.replace("@SCRIPT@", script))
    os.chmod(f"{root}/init", 0o755)
    call("sh", "-c", 'cd "$1" && find . | cpio -o -H newc --quiet > "$2"', "sh", root, out)


def test_program(package, name):
    """A test program that cargo built."""
    said = call("cargo", "test", "--no-run", "-p", package, "--test", name, "--message-format", "json", timeout=3600)
    for line in said.splitlines():
        message = json.loads(line)
        if message.get("executable") and message["target"]["name"] == name:
            return message["executable"]
    raise BootError("cargo names no test program")


def runs_of(given):
    """Directory, program and filter of each run."""
    runs = []
    if given.filter:
        runs.append((f"{TOP}/tests", given.program or test_program("layerfs-tests", "suite"), given.filter))
    if given.direct:
        runs.append((f"{TOP}/fs", given.direct_program or test_program("layerfs", "direct"), given.direct))
    return runs


def run(suite, tree, runs, given, directory):
    [kernel] = os.listdir(f"{tree}/usr/lib/modules")
    disk, initrd = os.path.join(directory, "disk"), os.path.join(directory, "image")
    call("truncate", "-s", "8G", disk)
    call("mkfs.ext4", "-q", "-E", "lazy_itable_init=1", disk)
    environment = f"HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin:{os.environ['PATH']} LAYERFS_MODEL_CASES={given.cases}"
    if given.options:
        environment += f" LAYERFS_TEST_OPTIONS={given.options}"
    script = "code=0; " + "; ".join(f"cd {place} && env {environment} {program} {names} --test-threads {given.threads} 2>&1 || code=1"
                                    for place, program, names in runs) + "; exit $code"
    make_initrd(tree, kernel, script, directory, initrd)
    [image] = [path for path in glob.glob(f"{tree}/boot/vmlinuz-{kernel}") + [f"{tree}/usr/lib/modules/{kernel}/vmlinuz"] if os.path.exists(path)][:1]
    devices = ["-virtfs", "local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap"]
    with Machine(kernel=image, initrd=initrd, append="console=ttyS0 no_timer_check mitigations=off panic=5 loglevel=4", memory=2048,
                 disks=[(disk, "tests")], devices=devices, log=given.log and os.path.join(given.log, f"kernel-{suite}.log"),
                 echo=bool(os.environ.get("ECHO"))) as machine:
        # A test of a dead daemon and one of hung tasks print messages that are forbidden in a boot.
        machine.allowed = {"the root's daemon died", "hung task"}
        result, when = machine.expect(r"KERNELS-RESULT (.*)", given.timeout)
        counts = [text for _, text in machine.lines if text.startswith("test result:")]
        if result[1] != "0" or len(counts) != len(runs):
            failed = [text for _, text in machine.lines if "FAILED" in text or "panicked" in text]
            machine.fail(f"Linux {kernel}: {counts or result[1]}\n" + "\n".join(failed))
    report(f"Linux {kernel}: {' '.join(counts)}, after {when:.0f} s")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--trees", default=os.path.join(TOP, "lab", "trees"))
    parser.add_argument("--only", default=",".join(SUITES))
    parser.add_argument("--filter", default="semantics:: model::")
    parser.add_argument("--cases", type=int, default=4, help="random sequences of the model")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--timeout", type=int, default=7200)
    parser.add_argument("--direct", default="")
    parser.add_argument("--program", help="the suite, in a target directory; without it, cargo builds it")
    parser.add_argument("--direct-program", help="the same for --direct")
    parser.add_argument("--options", default="")
    parser.add_argument("--log")
    given = parser.parse_args()
    runs = runs_of(given)
    verdicts = Verdicts()
    for suite in given.only.split(","):
        with tempfile.TemporaryDirectory(prefix="layerfs-kernels.", dir="/var/tmp") as directory:
            verdicts.run(suite, run, suite, os.path.abspath(os.path.join(given.trees, suite)), runs, given, directory)
    verdicts.end()


if __name__ == "__main__":
    run_script(main)
