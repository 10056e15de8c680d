#!/usr/bin/env python3
"""switches.py: many switches of a running mount under load, with a database in its upper.

  switches.py [--switches 1000] [--inodes 9000] [--mode '' or passthrough] [--programs DIR]

Publishes two revisions of a tree and serves them from this machine. Over a mount of the first with an upper: four
writers move money between the accounts of an SQLite database (WAL), readers compare every file that they read
with both revisions, stress-ng (if it is installed) keeps the processors and the upper's disk busy, and this
program holds descriptors, a mapping, a working directory and a connection through a socket of the mount. Then so
many switches back and forth; every hundredth time the mount is compared with a new mount of the revision over a
copy of the upper. At the end the money must be all there, the database sound, nothing that was held may have
changed, no call may have failed, and the daemon must have met no fault. Needs root and the release builds."""
import argparse
import importlib.util
import json
import mmap
import os
import random
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
_spec = importlib.util.spec_from_file_location("switch", os.path.join(TOP, "benches/switch/switch.py"))
bench = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(bench)

ACCOUNTS, MONEY, WRITERS, READERS = 200, 1000, 4, 2
COMPARE_EVERY = 100


class Load:
    """What runs on the mount meanwhile."""

    def __init__(self, root, names):
        self.root, self.names = root, names
        self.over, self.failures = threading.Event(), []
        self.transfers, self.reads = 0, 0
        self.database = os.path.join(root, "bank.db")
        with sqlite3.connect(self.database) as bank:
            bank.execute("pragma journal_mode=wal")
            bank.execute("create table accounts (id integer primary key, money integer)")
            bank.executemany("insert into accounts values (?, ?)", [(number, MONEY) for number in range(ACCOUNTS)])
        bank.close()
        self.threads = [threading.Thread(target=self.guard, args=(self.write, seed)) for seed in range(WRITERS)]
        self.threads += [threading.Thread(target=self.guard, args=(self.read, seed)) for seed in range(READERS)]
        self.stress = None

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        if shutil.which("stress-ng"):
            work = os.path.join(self.root, "stress")
            os.mkdir(work)
            self.stress = subprocess.Popen(["stress-ng", "--quiet", "--temp-path", work, "--hdd", "1", "--hdd-bytes", "16m",
                                            "--rename", "1", "--dir", "1", "--vm", "1", "--vm-bytes", "64m", "--timeout", "0"])
        return self

    def __exit__(self, *_):
        self.over.set()
        for thread in self.threads:
            thread.join()
        if self.stress:
            self.stress.terminate()
            self.stress.wait()

    def guard(self, work, seed):
        try:
            work(random.Random(seed))
        except Exception as error:  # pylint: disable=broad-except
            self.failures.append(f"{work.__name__}: {error!r}")

    def write(self, choose):
        bank = sqlite3.connect(self.database, timeout=120)
        while not self.over.is_set():
            one, other = choose.sample(range(ACCOUNTS), 2)
            with bank:
                bank.execute("update accounts set money = money - 7 where id = ?", (one,))
                bank.execute("update accounts set money = money + 7 where id = ?", (other,))
            self.transfers += 1
        bank.close()

    def read(self, choose):
        while not self.over.is_set():
            name = choose.choice(self.names)
            with open(os.path.join(self.root, name), "rb") as file:
                found = file.read()
            if found not in (bench.content(name, 1), bench.content(name, 2)):
                raise AssertionError(f"{name} is of neither revision")
            self.reads += 1
            time.sleep(0.001)

    def check(self):
        bank = sqlite3.connect(self.database)
        total, = bank.execute("select sum(money) from accounts").fetchone()
        sound, = bank.execute("pragma integrity_check").fetchone()
        bank.close()
        if total != ACCOUNTS * MONEY or sound != "ok":
            self.failures.append(f"the database: {total} instead of {ACCOUNTS * MONEY}, {sound}")


class Held:
    """What a program holds across switches: a changed file, open and mapped, a directory, a connection."""

    def __init__(self, root, changed):
        self.path = os.path.join(root, changed)
        self.file = open(self.path, "rb")
        self.before = self.file.read()
        self.mapping = mmap.mmap(self.file.fileno(), 0, prot=mmap.PROT_READ)
        self.directory = os.open(os.path.dirname(self.path), os.O_RDONLY | os.O_DIRECTORY)
        name = os.path.join(root, "socket")
        server = socket.socket(socket.AF_UNIX)
        server.bind(name)
        server.listen()
        self.client = socket.socket(socket.AF_UNIX)
        self.client.connect(name)
        self.server, _ = server.accept()
        server.close()

    def check(self):
        self.file.seek(0)
        assert self.file.read() == self.before, "an open file changed"
        assert self.mapping[:] == self.before, "a mapping changed"
        assert os.path.basename(self.path) in os.listdir(self.directory), "the directory"
        self.client.sendall(b"x")
        assert self.server.recv(1) == b"x", "the connection"

    def close(self):
        self.mapping.close()
        self.file.close()
        os.close(self.directory)
        self.client.close()
        self.server.close()


def look(root):
    """Each path with its type, permissions, owner and content; without what changes by itself."""
    seen = {}
    for at, directories, files in os.walk(root):
        directories[:] = [name for name in directories if os.path.join(at, name) != os.path.join(root, "stress")]
        for name in directories + files:
            path = os.path.join(at, name)
            below = os.path.relpath(path, root)
            if below.startswith("bank.db"):
                continue
            stat = os.lstat(path)
            content = b""
            if not os.path.isdir(path) and not os.path.islink(path) and os.path.isfile(path):
                with open(path, "rb") as file:
                    content = file.read()
            seen[below] = (stat.st_mode, stat.st_uid, stat.st_gid, int(stat.st_mtime), content)
    return seen


def compare(programs, server, mount, revision, work):
    """The mount against a new one of the revision over a copy of its upper."""
    other = tempfile.mkdtemp(dir=work)
    fresh = bench.Mount.__new__(bench.Mount)
    fresh.layerfs = mount.layerfs
    fresh.root, fresh.upper = (os.path.join(other, name) for name in ("root", "upper"))
    os.mkdir(fresh.root)
    subprocess.run(["cp", "-a", mount.upper, fresh.upper], check=False, stderr=subprocess.DEVNULL)
    shutil.rmtree(os.path.join(fresh.upper, "work"))
    os.mkdir(os.path.join(fresh.upper, "work"))
    bench.run([fresh.layerfs, "mount", "--keys", server.keys, "--prefetch", "none", "-o",
               f"upperdir={fresh.upper}/upper,workdir={fresh.upper}/work",
               f"http://{server.place}/sys@{revision}", fresh.root])
    try:
        expected, found = look(fresh.root), look(mount.root)
    finally:
        subprocess.run([fresh.layerfs, "umount", fresh.root], check=True)
        shutil.rmtree(other)
    differ = sorted(path for path in expected.keys() | found.keys() if expected.get(path) != found.get(path))
    return [f"switch to {revision}: {path} differs from a new mount" for path in differ[:10]]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--programs", default=os.path.join(TOP, "target/release"))
    parser.add_argument("--switches", type=int, default=1000)
    parser.add_argument("--inodes", type=int, default=9000)
    parser.add_argument("--mode", default="", choices=["", "passthrough"])
    options = parser.parse_args()
    work = tempfile.mkdtemp(prefix="switches-")
    failures = []
    try:
        tree, changes = os.path.join(work, "tree"), os.path.join(work, "changes")
        os.mkdir(tree)
        names = bench.grow(tree, options.inodes)
        changed = bench.change(tree, changes, names, 5)
        store = bench.publish(options.programs, work, tree, changes)
        with bench.Server(options.programs, store) as server, \
                bench.Mount(options.programs, server, 1, work, options.mode) as mount:
            held = Held(mount.root, changed[0])
            before = mount.status()["uptime_s"]
            with Load(mount.root, names) as load:
                for number in range(1, options.switches + 1):
                    revision = 1 + number % 2
                    mount.switch(revision)
                    if number % COMPARE_EVERY == 0 or number == options.switches:
                        held.check()
                        failures += compare(options.programs, server, mount, revision, work)
                        print(f"{number} switches, {load.transfers} transfers, {load.reads} reads, "
                              f"{mount.memory():.1f} MiB", flush=True)
                    if failures or load.failures:
                        break
            load.check()
            held.check()
            held.close()
            failures += load.failures
            status = mount.status()
            if status["panics"] or status["chunks"]["failed"] or status["uptime_s"] < before:
                failures.append(f"the daemon: {json.dumps(status['chunks'])}, {status['panics']} panics")
            if not load.transfers or not load.reads:
                failures.append("there was no load")
    finally:
        shutil.rmtree(work, ignore_errors=True)
    for failure in failures:
        print("FAILED", failure)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
