#!/usr/bin/env python3
"""boot.py: seconds and bytes from kernel start to multi-user.target under QEMU, layerfs and the
rivals in turn (A B A B), each behind the same shaped, byte-counting link.

  boot.py --rivals DIR [--modes ram,nbd,nbd+30,layerfs] [--links 0:0,100:20,20:20] [--rounds 3] [--site SITE]

  ram[+N]    the whole squashfs over HTTP into memory, overlayfs, N small layers more
  nbd[+N]    squashfs over NBD, overlayfs, N small layers more
  layerfs[+N]  `bakery serve` of SITE, made by store.py; with N, the profile with N layers more
  bare       the same without a boot pack
  predicted  the same with the predicted pack: the first boot after an import
  rehearsed  the same with the pack of a rehearsal: the first boot after `bakery rehearse`
  link       Mbit/s : round trip in ms; 0:0 is unshaped

DIR is made by rivals.sh, SITE by store.py. Kernel and initrd are handed over directly: their bytes are not in
"bytes", but printed beside. Raw lines go to RESULTS/boot.jsonl. Boots under software emulation are
bound by the CPU: read the guest's CPU seconds beside the wall time, and run it alone. "In kernel starts" is the
time in units of what this very boot needed from the kernel's start to /init, which is the same work for all: it
varies less with what else the machine's processors do. With --paired two modes boot at the same time: a few per cent
show in ten rounds.
Needs qemu-system-x86, nbd-server, busybox, python3, the builds of bakery and of shaper."""
import argparse
import concurrent.futures
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(TOP, "tests", "boot"))
from machine import BootError, Machine, free_port, wait_port  # noqa: E402

# The timer is emulated, so the kernel must not measure it.
COMMON = ("console=ttyS0 no_timer_check quiet loglevel=3 mitigations=off panic=-1 "
          "systemd.mask=serial-getty@ttyS0.service bench.marker ")


# Boots of our own system: with the pack of a client's boot, and the revisions of revisions.json.
OURS = ("layerfs", "bare", "predicted", "rehearsed")


class Servers:
    """The server of one boot, behind the shaper. Leaving the context ends both."""

    def __init__(self, options, mode, layers, link):
        self.options, self.mode, self.layers, self.link = options, mode, layers, link
        self.processes, self.work = [], tempfile.TemporaryDirectory()
        self.port, self.shaper, self.daemon = free_port(), None, None

    def __enter__(self):
        try:
            behind = getattr(self, self.mode)()
            wait_port(behind)
            rate, rtt = self.link
            program = os.path.join(self.options.programs, "shaper")
            self.shaper = self.spawn([program, str(rate), str(rtt), f"{self.port}:{behind}"],
                                     stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            if self.shaper.stdout.readline().strip() != "ready":
                raise BootError("the shaper did not start")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for process in reversed(self.processes):
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
        if self.daemon and os.path.exists(self.daemon):
            with open(self.daemon, encoding="ascii") as file:
                os.kill(int(file.read()), signal.SIGTERM)
        self.work.cleanup()

    def spawn(self, command, **more):
        more.setdefault("stdout", subprocess.DEVNULL)
        self.processes.append(subprocess.Popen(command, stderr=subprocess.DEVNULL, **more))
        return self.processes[-1]

    def counts(self):
        """Bytes and connections that have crossed the link so far."""
        self.shaper.stdin.write("\n")
        self.shaper.stdin.flush()
        return json.loads(self.shaper.stdout.readline())[0]

    def ram(self):
        port = free_port()
        self.spawn(["busybox", "httpd", "-f", "-p", f"127.0.0.1:{port}", "-h", self.options.rivals])
        return port

    def nbd(self):
        port, config = free_port(), os.path.join(self.work.name, "nbd.conf")
        with open(config, "w", encoding="utf-8") as file:
            file.write(f"[generic]\nport={port}\nlistenaddr=127.0.0.1\nallowlist=true\n")
            for name in ["base"] + [f"l{number}" for number in range(1, self.layers + 1)]:
                image = os.path.abspath(os.path.join(self.options.rivals, f"{name}.squashfs"))
                file.write(f"[{name}.squashfs]\nexportname={image}\nreadonly=true\n")
        # It becomes a daemon (in the foreground it serves one client only): ended by its pid file.
        self.daemon = os.path.join(self.work.name, "nbd.pid")
        subprocess.run(["nbd-server", "-C", config, "-p", self.daemon], check=True, capture_output=True)
        return port

    def layerfs(self):
        port = free_port()
        store = os.path.join(self.options.site, "store")
        self.spawn([os.path.join(self.options.programs, "bakery"), "--store", store, "serve",
                    "--listen", f"127.0.0.1:{port}"])
        return port

    bare = predicted = rehearsed = layerfs


def command_line(options, mode, layers, port):
    idle = ("bench.idle " if options.idle else "") + ("bench.detail " if options.detail else "")
    if mode in OURS:
        made = options.made
        name = made["system"] + (f"/layers-{layers}" if layers else "") + (f"@{made[mode]}" if mode in made else "")
        return (made["kernel"], made["initrd"],
                COMMON + idle + f"root=layerfs:http://10.0.2.2:{port}/{name} {options.append}")
    rivals = options.rivals
    return (f"{rivals}/vmlinuz", f"{rivals}/initrd",
            COMMON + idle + f"bench.mode={mode} bench.http={port} bench.nbd={port} bench.layers={layers}")


def boot(options, mode, layers, link):
    with Servers(options, mode, layers, link) as servers:
        kernel, initrd, append = command_line(options, mode, layers, servers.port)
        log = os.path.join(options.results, f"last-boot-{mode}.log")
        with Machine(kernel=kernel, initrd=initrd, append=append, memory=options.memory, log=log) as machine:
            mark, at = machine.expect(r"BENCH-MARK multi-user uptime=(\S+)", options.timeout)
            cpu, counts = machine.cpu_seconds(), servers.counts()
            info = {"seconds": at, "from_kernel": float(mark[1]), "cpu": cpu, "bytes": counts["down"],
                    "sent": counts["up"], "connections": counts["connections"],
                    "kernel_bytes": os.path.getsize(kernel), "initrd_bytes": os.path.getsize(initrd)}
            state, _ = machine.expect(r"BENCH-INFO state=(\S+)", 300)
            info["state"] = state[1]
            began, _ = machine.expect(r"BENCH-INFO init=(\S+)", 300)
            info["to_init"] = float(began[1])
            memory, _ = machine.expect(r"BENCH-INFO mem MemAvailable:(\d+)", 300)
            said = {key: [int(text.split(key + ":")[1].split("kB")[0]) for _, text in machine.lines if f"mem {key}:" in text]
                    for key in ("MemTotal", "ListsFree")}
            if all(said.values()):
                info["memory_used"] = said["MemTotal"][0] - said["ListsFree"][0] - int(memory[1])
            machine.expect("BENCH-MARK report-done", 300)
            info["bytes_at_end"] = servers.counts()["down"]
            return info


def median(rows, key):
    values = [row[key] for row in rows if row.get(key) is not None]
    return statistics.median(values) if values else float("nan")


def report(rows, out):
    out.write("\n| link | mode | boots | s from kernel start: median (spread) | QEMU CPU s | MB over the link | "
              "kernel + initrd MB | memory used MiB | in kernel starts | state |\n|---|---|---|---|---|---|---|---|---|---|\n")
    for link in dict.fromkeys(row["link"] for row in rows):
        for mode in dict.fromkeys(row["mode"] for row in rows):
            here = [row for row in rows if (row["link"], row["mode"]) == (link, mode)]
            good = [row for row in here if "error" not in row]
            if not good:
                out.write(f"| {link} | {mode} | 0 of {len(here)} | failed | | | | | | |\n")
                continue
            times = sorted(row["from_kernel"] for row in good)
            parts = (median(good, "kernel_bytes") + median(good, "initrd_bytes")) / 1e6
            starts = statistics.median(row["from_kernel"] / row["to_init"] for row in good)
            states = ", ".join(sorted({row["state"] for row in good}))
            out.write(f"| {link} | {mode} | {len(good)} of {len(here)} | {statistics.median(times):.1f} "
                      f"({times[0]:.1f}–{times[-1]:.1f}) | {median(good, 'cpu'):.1f} | "
                      f"{median(good, 'bytes') / 1e6:.2f} | {parts:.1f} | "
                      f"{median(good, 'memory_used') / 1024:.0f} | {starts:.2f} | {states} |\n")


def arguments(words=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rivals", required=True)
    parser.add_argument("--modes", default="ram,nbd,layerfs")
    parser.add_argument("--links", default="0:0,100:20,20:20")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--site")
    parser.add_argument("--append", default="layerfs.upper=tmpfs")
    parser.add_argument("--memory", type=int, default=1536)
    parser.add_argument("--idle", action="store_true", help="memory is looked at 20 s after the boot")
    parser.add_argument("--detail", action="store_true", help="what memory and time went to, in RESULTS/last-boot-MODE.log")
    parser.add_argument("--paired", action="store_true", help="the two modes at once, one on each of two processors, then swapped")
    parser.add_argument("--timeout", type=float, default=600)
    parser.add_argument("--programs", default=os.path.join(TOP, "target", "release"))
    parser.add_argument("--results", default=os.path.join(TOP, "benches", "results", time.strftime("%Y-%m-%d")))
    options = parser.parse_args(words)
    if options.paired and (len(options.modes.split(",")) != 2 or len(os.sched_getaffinity(0)) < 2):
        parser.error("--paired needs two modes and two processors")
    if any(mode.partition("+")[0] in OURS for mode in options.modes.split(",")):
        if not options.site:
            parser.error(f"the modes {', '.join(OURS)} need --site")
        with open(os.path.join(options.site, "revisions.json"), encoding="utf-8") as file:
            options.made = json.load(file)
    return options


def measure(options, name, link, number, cpu=None):
    """One boot as a row; with `cpu`, it and its server are on that processor alone."""
    if cpu is not None:
        os.sched_setaffinity(0, {cpu})  # of this thread, and of what it starts
    mode, _, layers = name.partition("+")
    row = {"mode": name, "link": link, "round": number, "load": os.getloadavg()[0], "paired": cpu is not None,
           "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
    try:
        row |= boot(options, mode, int(layers or 0), tuple(map(float, link.split(":"))))
    except BootError as error:
        row["error"] = str(error)
    print(f"{link} {name} round {number}: " + (row.get("error", "").splitlines() or [
        f"{row['from_kernel']:.1f} s, {row['bytes'] / 1e6:.2f} MB, {row['state']}"])[0], file=sys.stderr, flush=True)
    return row


def pair(options, link, number):
    """Both modes at once, twice, so that disturbances affect both, and each runs on each processor."""
    modes, cpus = options.modes.split(","), sorted(os.sched_getaffinity(0))[:2]
    rows = []
    for order in (cpus, cpus[::-1]):
        with concurrent.futures.ThreadPoolExecutor(2) as threads:
            rows += threads.map(lambda mode, cpu: measure(options, mode, link, number, cpu), modes, order)
    return rows


def report_pairs(rows, out):
    for link in dict.fromkeys(row["link"] for row in rows):
        here = [row for row in rows if row["link"] == link]
        pairs = [(a["from_kernel"], b["from_kernel"]) for a, b in zip(here[::2], here[1::2])
                 if "error" not in a and "error" not in b]
        if pairs:
            first, second = zip(*pairs)
            ratios = sorted(b / a for a, b in pairs)
            out.write(f"\n{link}, {here[1]['mode']} / {here[0]['mode']}, {len(pairs)} pairs: median "
                      f"{statistics.median(ratios):.3f} ({ratios[0]:.2f}–{ratios[-1]:.2f}), sums {sum(second) / sum(first):.3f}\n")


def main():
    options = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that servers and QEMU end with it
    os.makedirs(options.results, exist_ok=True)
    rows = []
    with open(os.path.join(options.results, "boot.jsonl"), "a", encoding="utf-8") as raw:
        for number in range(options.rounds):
            for link in options.links.split(","):
                made = pair(options, link, number) if options.paired else (
                    measure(options, name, link, number) for name in options.modes.split(","))
                for row in made:
                    rows.append(row)
                    raw.write(json.dumps(row) + "\n")
                    raw.flush()
    report(rows, sys.stdout)
    if options.paired:
        report_pairs(rows, sys.stdout)
    return 1 if any("error" in row for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
