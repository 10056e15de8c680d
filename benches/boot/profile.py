#!/usr/bin/env python3
"""profile.py: where the emulated processor is during a boot, by process and by symbol.

  profile.py --rivals DIR --site SITE [--mode layerfs|nbd|…] [--boots 3] [--client PROGRAM] [--initrd FILE]

QEMU is stopped some 200 times a second and asked for its registers: the page table's address tells
processes apart, the instruction's address the symbol. The boot takes about a fifth longer.
Kernel symbols come from one boot of a tiny initramfs that prints /proc/kallsyms.

For the client's own symbols build it with them and at fixed addresses, make an initramfs with it, and
name both:
  RUSTFLAGS="-C target-feature=+crt-static -C relocation-model=static" cargo build --profile initrd \\
    --target x86_64-unknown-linux-gnu -p layerfs --config profile.initrd.strip=false --target-dir OTHER
  bakery --store SITE/store initrd bench --drivers common -o FILE --layerfs PROGRAM

Needs what boot.py needs, cpio, gzip, nm."""
import argparse
import bisect
import collections
import gzip
import os
import re
import shutil
import socket
import subprocess
import tempfile
import threading
import time

import boot
from machine import BootError, Machine, run_script

# With these, addresses are those of the symbols, and the same in every boot.
FIXED = " nokaslr norandmaps"
# Boundary between the kernel's own code and that of its modules.
MODULES = 0xFFFFFFFFA0000000

PRINT_SYMBOLS = """#!/bin/busybox sh
/bin/busybox mkdir -p /proc /dev
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox stty -F /dev/ttyS1 raw
/bin/busybox gzip -c /proc/kallsyms > /dev/ttyS1
/bin/busybox poweroff -f
"""

Sample = collections.namedtuple("Sample", "at address table user halted")


class Monitor:
    """QEMU's monitor, as a person would use it."""

    def __init__(self, path):
        for _ in range(100):  # QEMU makes it when it starts
            self.socket = socket.socket(socket.AF_UNIX)
            if self.socket.connect_ex(path) == 0:
                break
            self.socket.close()
            time.sleep(0.05)
        self.answer()

    def answer(self):
        text = b""
        while not text.endswith(b"(qemu) "):
            data = self.socket.recv(65536)
            if not data:
                raise EOFError
            text += data
        return text.decode("ascii", "replace")

    def ask(self, command):
        self.socket.sendall(command.encode() + b"\n")
        return self.answer()


def sample(machine, samples, over):
    """Samples the registers until `over` is set or the machine has ended."""
    wanted = {name: re.compile(pattern) for name, pattern in
              (("address", r"RIP=(\w+)"), ("table", r"CR3=(\w+)"), ("user", r"CPL=(\d)"), ("halted", r"HLT=(\d)"))}
    try:
        monitor = Monitor(machine.monitor_path)
        while not over.is_set():
            monitor.ask("stop")
            text = monitor.ask("info registers")
            monitor.ask("cont")
            found = {name: pattern.search(text) for name, pattern in wanted.items()}
            if all(found.values()):  # not so in the firmware's 16 and 32 bits
                samples.append(Sample(machine.seconds(), int(found["address"][1], 16), int(found["table"][1], 16) & ~0xFFF,
                                      found["user"][1] == "3", found["halted"][1] == "1"))
            time.sleep(0.004)
    except (EOFError, OSError):
        pass


def one_boot(options, mode, layers):
    with boot.Servers(options, mode, layers, (0, 0)) as servers:
        kernel, initrd, append = boot.command_line(options, mode, layers, servers.port)
        log = os.path.join(options.results, "last-profile.log")
        with Machine(kernel=kernel, initrd=options.initrd or initrd, append=append + FIXED, memory=options.memory,
                     log=log) as machine:
            samples, over = [], threading.Event()
            thread = threading.Thread(target=sample, args=(machine, samples, over))
            thread.start()
            try:
                mark, _ = machine.expect(r"BENCH-MARK multi-user uptime=(\S+)", options.timeout)
            finally:
                over.set()
                thread.join()
    if not samples:
        raise BootError("QEMU's monitor said nothing of the registers")
    return samples, float(mark[1])


def kernel_symbols(kernel):
    """Addresses and names of the kernel's functions, in order."""
    with tempfile.TemporaryDirectory() as work:
        root = os.path.join(work, "root")
        os.makedirs(os.path.join(root, "bin"))
        shutil.copy(shutil.which("busybox"), os.path.join(root, "bin/busybox"))
        with open(os.path.join(root, "init"), "w", encoding="ascii") as file:
            file.write(PRINT_SYMBOLS)
        os.chmod(os.path.join(root, "init"), 0o755)
        initrd, printed = os.path.join(work, "initrd"), os.path.join(work, "printed")
        subprocess.run(f"cd '{root}' && find . | cpio -o -H newc --quiet > '{initrd}'", shell=True, check=True)
        subprocess.run(["qemu-system-x86_64", "-accel", "tcg", "-cpu", "Nehalem", "-m", "512", "-nodefaults", "-display",
                        "none", "-no-reboot", "-kernel", kernel, "-initrd", initrd, "-append", "quiet nokaslr panic=-1",
                        "-serial", "null", "-serial", f"file:{printed}"], check=True, timeout=300)
        with gzip.open(printed, "rt", encoding="ascii") as file:
            lines = (line.split() for line in file if "[" not in line)
            return sorted((int(address, 16), name) for address, kind, name in lines if kind in "tTwW")


def client_symbols(program):
    out = subprocess.run(["nm", "-C", program], capture_output=True, text=True, check=True).stdout
    parts = (line.split(" ", 2) for line in out.splitlines())
    return sorted((int(part[0], 16), re.sub(r"::h[0-9a-f]{16}$", "", part[2]))
                  for part in parts if len(part) == 3 and part[0] and part[1] in "tTwWi")


def name(symbols, address):
    at = bisect.bisect(symbols, (address, "\xff")) - 1
    return symbols[at][1] if at >= 0 else "?"


def client_table(samples, client):
    """The page table of the process that is most often in the client's code: the daemon."""
    low, high = client[0][0], client[-1][0]
    # Other programs are linked to 0x400000 too, but they are smaller.
    there = collections.Counter(s.table for s in samples if s.user and low + (high - low) // 3 <= s.address <= high)
    return there.most_common(1)[0][0] if there else None


def report(profiles, kernel, client, top):
    kinds, in_kernel, daemon = collections.Counter(), collections.Counter(), collections.Counter()
    for samples in profiles:
        weight = (samples[-1].at - samples[0].at) / len(samples) / len(profiles)
        table = client_table(samples, client) if client else None
        for s in samples:
            kind = "halted" if s.halted else "user" if s.user else "kernel"
            kinds[kind] += weight
            symbol = "(a module)" if s.address >= MODULES else name(kernel, s.address)
            if kind == "kernel":
                in_kernel[symbol] += weight
            if s.table == table and not s.halted:
                daemon[name(client, s.address) if s.user else f"[kernel] {symbol}"] += weight
    print("seconds: " + ", ".join(f"{kind} {seconds:.2f}" for kind, seconds in kinds.most_common()))
    for title, counter in (("kernel", in_kernel), ("the daemon", daemon)):
        if counter:
            print(f"\n{title}: {sum(counter.values()):.2f} s")
            for symbol, seconds in counter.most_common(top):
                print(f"  {seconds:.3f}  {symbol[:120]}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rivals", required=True)
    parser.add_argument("--site")
    parser.add_argument("--mode", default="layerfs")
    parser.add_argument("--boots", type=int, default=3)
    parser.add_argument("--client", help="the client with its symbols, as in --initrd")
    parser.add_argument("--initrd", help="an initramfs in place of the site's")
    parser.add_argument("--top", type=int, default=40)
    mine, rest = parser.parse_known_args()
    rest += ["--rivals", mine.rivals, "--modes", mine.mode] + (["--site", mine.site] if mine.site else [])
    options = argparse.Namespace(**{**vars(boot.arguments(rest)), **vars(mine)})
    os.makedirs(options.results, exist_ok=True)
    mode, _, layers = options.mode.partition("+")
    profiles = []
    for number in range(options.boots):
        samples, uptime = one_boot(options, mode, int(layers or 0))
        print(f"boot {number}: {uptime:.1f} s, {len(samples)} samples", flush=True)
        profiles.append(samples)
    kernel = kernel_symbols(boot.command_line(options, mode, int(layers or 0), 0)[0])
    report(profiles, kernel, client_symbols(options.client) if options.client else None, options.top)


if __name__ == "__main__":
    run_script(main)
