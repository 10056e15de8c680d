#!/usr/bin/env python3
"""switch.py: a running mount takes another revision.

  switch.py [--inodes 45000] [--changed 5] [--switches 1000] [--programs DIR]

Publishes a tree of so many inodes and a revision in which so many percent of the files differ, serves both
from this machine, mounts the first with an empty upper, and reads all of it. Then, with readers running:
the seconds of `layerfs switch` to the second revision, the delays of the readers' calls without and during
switches (p50, p99.9, longest), the bytes that the switch and reading the changed files fetched against those of a
new mount, and the requests that readers of unchanged files cause after it. Then so many switches back and
forth with the readers and a writer: failed calls, and the daemon's memory before and after. Bars (exit code 1
when one is missed): 1 s; 50 ms (p99.9); for unchanged files no request, or before Linux 6.18 one for each directory
with a changed name (the kernel then asks for its attributes again); no failed call; 2 MiB. --root-duty mounts as an initramfs does.
Raw lines go to RESULTS/switch.jsonl. Needs root and the release builds of layerfs and bakery."""
import argparse
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
BAR_S, BAR_DELAY_MS, BAR_MEMORY_MIB = 1.0, 50.0, 2.0
PER_DIRECTORY = 99


def run(command, **more):
    return subprocess.run(command, check=True, capture_output=True, **more).stdout


def content(path, seed):
    choose = random.Random(f"{path} {seed}")
    return choose.randbytes(choose.randrange(200, 3000)) * 2

# Requests of a program that reads files.
REQUESTS = ("read", "lookup", "getattr", "open")


def grow(tree, inodes):
    names = []
    for number in range(inodes // (PER_DIRECTORY + 1)):
        inside = os.path.join("usr", f"d{number // 30}", f"d{number}")
        os.makedirs(os.path.join(tree, inside), exist_ok=True)
        for name in range(PER_DIRECTORY):
            path = os.path.join(inside, f"file-{name}.conf")
            with open(os.path.join(tree, path), "wb") as file:
                file.write(content(path, 1))
            names.append(path)
    return names


def change(tree, work, names, percent):
    """Changes the files in a copy of only them, and returns them."""
    changed = random.Random(9).sample(names, len(names) * percent // 100)
    for path in changed:
        os.makedirs(os.path.join(work, os.path.dirname(path)), exist_ok=True)
        with open(os.path.join(work, path), "wb") as file:
            file.write(content(path, 2))
    return changed


def publish(programs, work, tree, changes):
    store, spool = os.path.join(work, "store"), os.path.join(work, "spool")
    bakery = [os.path.join(programs, "bakery"), "--store", store]
    run(bakery + ["init"])
    run(bakery + ["import", "sys", tree + "/", "--no-check"])
    incoming = os.path.join(spool, "incoming", "sys")
    os.makedirs(incoming)
    # The changes alone, as a push would send them: the directories keep their attributes.
    whole = os.path.join(work, "whole")
    subprocess.run(["cp", "-a", tree, whole], check=True)
    subprocess.run(["cp", "-rT", changes, whole], check=True)
    archive = os.path.join(work, "new.tar.zst")
    subprocess.run(["tar", "--format=posix", "--numeric-owner", "-I", "zstd -1", "-cf", archive, "-C", whole, "."], check=True)
    os.rename(archive, os.path.join(incoming, "new.tar.zst"))
    run(bakery + ["watch", "--once", "--updates", "0", "--settle", "100", "--spool", spool])
    shutil.rmtree(whole)
    return store


class Server:
    def __init__(self, programs, store, spool=None):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.place = "%s:%d" % free.getsockname()
        self.keys = store + ".keys/allowed_signers"
        more = ["--spool", spool] if spool else []
        self.process = subprocess.Popen([os.path.join(programs, "bakery"), "--store", store, "serve", "--quiet",
                                         "--listen", self.place, *more])
        host, port = self.place.split(":")
        for _ in range(200):
            try:
                socket.create_connection((host, int(port)), timeout=1).close()
                return
            except OSError:
                time.sleep(0.05)
        raise SystemExit("switch.py: bakery serve does not listen")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()


class Mount:
    """A revision of the server, or the newest, with an empty upper on a tmpfs."""

    def __init__(self, programs, server, revision, work, mode="", duty=(), system="sys"):
        self.layerfs = os.path.join(programs, "layerfs")
        self.root, self.upper = (os.path.join(work, name) for name in ("root", "upper"))
        for path in (self.root, self.upper):
            os.makedirs(path, exist_ok=True)
        run(["mount", "-t", "tmpfs", "tmpfs", self.upper])
        for name in ("upper", "work"):
            os.mkdir(os.path.join(self.upper, name))
        run([self.layerfs, "mount", *duty, "--keys", server.keys, "--prefetch", "none", "-o",
             ",".join(filter(None, [f"upperdir={self.upper}/upper,workdir={self.upper}/work", mode])),
             f"http://{server.place}/{system}" + (f"@{revision}" if revision else ""), self.root])
        self.pid = self.status()["pid"]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        subprocess.run([self.layerfs, "umount", self.root], check=False)
        subprocess.run(["umount", self.upper], check=False)

    def status(self):
        return json.loads(run([self.layerfs, "status", "--json", self.root]))

    def requests(self):
        return {kind["name"]: kind["count"] for kind in self.status()["requests"]}

    def fetched(self):
        return self.status()["source"]["bytes"]

    def switch(self, revision):
        began = time.monotonic()
        said = run([self.layerfs, "switch", "--mount", self.root, f"@{revision}", "--json"])
        report = json.loads(said)
        if report["outcome"] != "done":
            raise SystemExit(f"switch.py: {report}")
        return time.monotonic() - began, report

    def memory(self):
        with open(f"/proc/{self.pid}/status", encoding="ascii") as file:
            found = dict(line.split(":", 1) for line in file if line.startswith("VmRSS"))
        return int(found["VmRSS"].split()[0]) / 1024


def read_all(root, names):
    for name in names:
        with open(os.path.join(root, name), "rb", buffering=0) as file:
            file.read()


def requests_of(mount, names):
    """The requests of a program that reads these files."""
    before = mount.requests()
    read_all(mount.root, names)
    after = mount.requests()
    return sum(after.get(kind, 0) - before.get(kind, 0) for kind in REQUESTS)


class Readers:
    """Threads that stat and read random files, and one that writes; the delay of each call."""

    def __init__(self, root, names, count=2):
        self.root, self.names = root, names
        self.over, self.delays, self.failures = False, [], []
        self.threads = [threading.Thread(target=self.read, args=(seed,)) for seed in range(count)]
        self.threads.append(threading.Thread(target=self.write))

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.over = True
        for thread in self.threads:
            thread.join()

    def timed(self, call):
        began = time.monotonic()
        try:
            call()
        except OSError as error:
            self.failures.append(str(error))
        self.delays.append((began, time.monotonic() - began))

    def read(self, seed):
        choose = random.Random(seed)
        while not self.over:
            path = os.path.join(self.root, choose.choice(self.names))
            self.timed(lambda: os.stat(path))
            self.timed(lambda: read_all("", [path]))
            time.sleep(0.0005)

    def write(self):
        path = os.path.join(self.root, "written")

        def write():
            with open(path, "ab", buffering=0) as file:
                file.write(b"x" * 512)

        number = 0
        while not self.over:
            number += 1
            self.timed(write)
            if number % 500 == 0:
                self.timed(lambda: os.unlink(path))
            time.sleep(0.001)

    def between(self, spans):
        """The delays of calls that began within one of the spans, milliseconds, in order."""
        inside = [delay for began, delay in self.delays if any(start <= began <= end for start, end in spans)]
        return sorted(1000 * delay for delay in inside)


def at(ordered, share):
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0


def delays(ordered):
    return {"calls": len(ordered), "p50_ms": at(ordered, 0.5), "p99_9_ms": at(ordered, 0.999),
            "longest_ms": ordered[-1] if ordered else 0.0}


def figures(mount, names, changed, options):
    unchanged = sorted(set(names) - set(changed))
    read_all(mount.root, names)
    found = {}
    took, spans = [], []
    with Readers(mount.root, unchanged) as readers:
        began = time.monotonic()
        time.sleep(5)
        found["delay_before"] = delays(readers.between([(began, time.monotonic())]))
        before = mount.fetched()
        for number in range(20):
            start = time.monotonic()
            seconds, report = mount.switch(2 - number % 2)
            spans.append((start, time.monotonic()))
            took.append(seconds)
            if number == 0:
                found["names_changed"] = report["changes"]
                found["switch_bytes"] = mount.fetched() - before
            time.sleep(0.3)
        found["delay_during"] = delays(readers.between(spans))
        found["failures"] = readers.failures
    found["seconds"] = sorted(took)
    mount.switch(2)
    before = mount.fetched()
    read_all(mount.root, changed)
    found["changed_bytes"] = mount.fetched() - before
    mount.switch(1)
    found["directories_changed"] = len({os.path.dirname(name) for name in changed})
    # The kernel takes pages back, and asks for the time of access after each page that it reads again.
    read_all(mount.root, unchanged)
    found["requests_without_switch"] = requests_of(mount, unchanged)
    before = mount.requests()
    mount.switch(2)
    middle = mount.requests()
    found["requests_for_unchanged"] = requests_of(mount, unchanged)
    found["requests_of_the_switch"] = sum(middle.get(kind, 0) - before.get(kind, 0) for kind in REQUESTS)
    mount.switch(1)
    time.sleep(12)
    memory = mount.memory()
    began = time.monotonic()
    with Readers(mount.root, names) as readers:
        for number in range(options.switches):
            mount.switch(2 - number % 2)
        found["failures"] += readers.failures
    found["many"] = {"switches": options.switches, "seconds": time.monotonic() - began}
    time.sleep(12)
    found["memory_mib"] = [memory, mount.memory()]
    status = mount.status()
    found["panics"], found["failed_chunks"] = status["panics"], status["chunks"]["failed"]
    return found


def prunes():
    """True if this kernel forgets a name without the attributes of its directory."""
    major, minor = os.uname().release.split(".")[:2]
    return (int(major), int(minor)) >= (6, 18)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--programs", default=os.path.join(TOP, "target/release"))
    parser.add_argument("--inodes", type=int, default=45000)
    parser.add_argument("--changed", type=int, default=5)
    parser.add_argument("--switches", type=int, default=1000)
    parser.add_argument("--root-duty", action="store_const", dest="duty", const=["--root-duty"], default=[])
    parser.add_argument("--results", default=os.environ.get("RESULTS"))
    options = parser.parse_args()
    work = tempfile.mkdtemp(prefix="switch-", dir=os.environ.get("WORK"))
    try:
        tree, changes = os.path.join(work, "tree"), os.path.join(work, "changes")
        os.mkdir(tree)
        names = grow(tree, options.inodes)
        changed = change(tree, changes, names, options.changed)
        store = publish(options.programs, work, tree, changes)
        with Server(options.programs, store) as server:
            with Mount(options.programs, server, 2, work) as mount:
                found = {"mount_bytes": mount.fetched()}
                read_all(mount.root, names)
                found["new_mount_bytes"] = mount.fetched()
            with Mount(options.programs, server, 1, work, duty=options.duty) as mount:
                found |= figures(mount, names, changed, options)
    finally:
        shutil.rmtree(work)
    print(json.dumps(found, indent=1))
    if options.results:
        os.makedirs(options.results, exist_ok=True)
        with open(os.path.join(options.results, "switch.jsonl"), "a", encoding="ascii") as file:
            file.write(json.dumps(found) + "\n")
    asked = found["requests_without_switch"] + (0 if prunes() else found["directories_changed"])
    bars = {
        "command to done <= 1 s": found["seconds"][len(found["seconds"]) // 2] <= BAR_S,
        "p99.9 of a reader's calls <= 50 ms": found["delay_during"]["p99_9_ms"] <= BAR_DELAY_MS,
        f"no more than {asked} requests of readers of unchanged files": found["requests_for_unchanged"] <= asked,
        "no failed call": not found["failures"],
        "memory <= +2 MiB": found["memory_mib"][1] - found["memory_mib"][0] <= BAR_MEMORY_MIB,
    }
    for bar, met in bars.items():
        print("met   " if met else "MISSED", bar)
    return 0 if all(bars.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
