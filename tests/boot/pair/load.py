#!/usr/bin/python3
"""The load of a desktop: readers of many files, held descriptors and mappings, a connection to a service and one through a
socket of the root, a writer with a database, a process that lives in a directory, programs that start. Each second the
counts and all faults are in /run/load.json; it ends at SIGTERM."""

import hashlib
import json
import mmap
import os
import signal
import socket
import sqlite3
import subprocess
import threading
import time

STATE = "/run/load.json"
SHARE = "/usr/share/probe"
LIBRARY = "/usr/lib/x86_64-linux-gnu/libprobe.so.1"
PLACE = "/var/lib/load"
TREES = ("/usr/share", "/usr/lib/python3.11", "/etc", "/usr/lib/systemd")
RESIDENT = """
import os, sys
os.chdir(sys.argv[1])
for line in sys.stdin:
    print(" ".join(sorted(os.listdir("."))), flush=True)
"""

counts = {"reads": 0, "rounds": 0, "programs": 0, "mixed": 0, "answers": 0, "connections": 0, "echoes": 0, "written": 0, "held": 0}
shown = {"faults": [], "answer": "", "program": "", "resident": "", "longest_ms": 0.0}


def fault(text):
    if len(shown["faults"]) < 50:
        shown["faults"].append(f"{time.time():.1f} {text}")


def forever(function, pause):
    """A thread that calls a function again and again; what it raises is a fault."""
    def run():
        while True:
            try:
                function()
            except Exception as error:
                fault(f"{function.__name__}: {type(error).__name__}: {error}")
            time.sleep(pause)
    threading.Thread(target=run, daemon=True).start()


def read_all():
    for tree in TREES:
        for place, _, names in os.walk(tree, onerror=lambda error: gone(error.filename, error)):
            for name in names:
                read_one(os.path.join(place, name))
                time.sleep(0.01)
    counts["rounds"] += 1


def read_one(path):
    begun = time.monotonic()
    try:
        if os.path.islink(path):
            os.readlink(path)
            return
        with open(path, "rb") as file:
            content = file.read()
        if path == f"{SHARE}/data":
            check_data(content)
        counts["reads"] += 1
    except OSError as error:
        gone(path, error)
    shown["longest_ms"] = max(shown["longest_ms"], (time.monotonic() - begun) * 1000)


def gone(path, error):
    """A name may go away between a listing and its use; nothing else may happen."""
    if not isinstance(error, FileNotFoundError) or os.path.exists(path):
        fault(f"{path}: {error}")


def check_data(content):
    """The second line has the digest of the rest: content of two revisions would be found."""
    _, digest, rest = content.split(b"\n", 2)
    if hashlib.sha256(rest).hexdigest().encode() != digest:
        fault("the data is of no revision")


def start_program():
    done = subprocess.run(["/usr/bin/probe"], capture_output=True, text=True, timeout=120, check=True)
    words = done.stdout.split()
    counts["programs"] += 1
    # A program that starts at the moment of a switch can find the library of the other revision, as in an update by dpkg.
    counts["mixed"] += words[1] != words[3]
    shown["program"] = done.stdout.strip()


class Held:
    """Everything of the package, open and mapped from the beginning."""

    def __init__(self):
        self.files = []
        paths = [LIBRARY, "/usr/sbin/probed", "/usr/bin/probe"]
        paths += [os.path.join(place, name) for place, _, names in os.walk(SHARE) for name in names]
        for path in paths:
            file = open(path, "rb", buffering=0)
            content = file.read()
            mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) if content else b""
            self.files.append((path, file, mapped, hashlib.sha256(content).digest()))

    def check_held(self):
        for path, file, mapped, digest in self.files:
            size = os.fstat(file.fileno()).st_size
            if hashlib.sha256(os.pread(file.fileno(), size, 0)).digest() != digest:
                fault(f"{path}: the open file has other content")
            if hashlib.sha256(mapped).digest() != digest:
                fault(f"{path}: the mapping has other content")
            # The page cache alone does not answer this one.
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        counts["held"] += 1


class Talker:
    """One connection to the service, made anew only when the service ended it."""

    def __init__(self):
        self.connection = None

    def talk(self):
        if self.connection is None:
            try:
                self.connection = socket.create_connection(("127.0.0.1", 7070), 60)
            except ConnectionRefusedError:
                return      # the service is being restarted
            counts["connections"] += 1
        self.connection.sendall(b"?\n")
        said = self.connection.recv(256).decode().strip()
        if not said:
            self.connection = None
            return
        shown["answer"] = said
        counts["answers"] += 1


def echo_through_the_root():
    """A server at a socket of the root, and one connection to it."""
    at = f"{PLACE}/socket"
    if os.path.exists(at):
        os.remove(at)
    door = socket.socket(socket.AF_UNIX)
    door.bind(at)
    door.listen()

    def serve():
        client, _ = door.accept()
        while data := client.recv(64):
            client.sendall(data)
    threading.Thread(target=serve, daemon=True).start()
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(at)

    def echo():
        connection.sendall(b"echo")
        if connection.recv(64) != b"echo":
            fault("the socket of the root")
        counts["echoes"] += 1
    return echo


class Writer:
    """A log that is appended to, and a database in the upper."""

    def __init__(self):
        self.log = open(f"{PLACE}/log", "w", encoding="ascii")
        self.number = 0
        with sqlite3.connect(f"{PLACE}/bank.db") as bank:
            bank.execute("pragma journal_mode=wal")
            bank.execute("create table if not exists moves (number integer)")
        bank.close()

    def write(self):
        self.number += 1
        self.log.write(f"{self.number}\n")
        self.log.flush()
        os.fsync(self.log.fileno())
        bank = sqlite3.connect(f"{PLACE}/bank.db", 60)
        with bank:
            bank.execute("insert into moves values (?)", (self.number,))
        [(count,)] = bank.execute("select count(*) from moves").fetchall()
        bank.close()
        with open(f"{PLACE}/log", encoding="ascii") as log:
            if count != self.number or len(log.readlines()) != self.number:
                fault(f"after {self.number} writes the database has {count}")
        counts["written"] += 1


def resident(directory):
    """A process that works in a directory."""
    process = subprocess.Popen(["/usr/bin/python3", "-c", RESIDENT, directory], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def list_resident():
        process.stdin.write("\n")
        process.stdin.flush()
        shown["resident"] = process.stdout.readline().strip()
    return list_resident


def main():
    os.makedirs(PLACE, exist_ok=True)
    held, talker, writer = Held(), Talker(), Writer()
    for function, pause in ((read_all, 1), (start_program, 1.5), (held.check_held, 2), (talker.talk, 0.5),
                            (echo_through_the_root(), 0.5), (writer.write, 1), (resident(f"{SHARE}/tree"), 1)):
        forever(function, pause)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    while True:
        with open(f"{STATE}.new", "w", encoding="utf-8") as file:
            json.dump({**counts, **shown}, file)
        os.rename(f"{STATE}.new", STATE)
        time.sleep(1)


if __name__ == "__main__":
    main()
