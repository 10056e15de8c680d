#!/usr/bin/env python3
"""visible.py: seconds and bytes from `layerfs push` on one machine to the new content on another.

  visible.py [--inodes 45000] [--kib 1024] [--rounds 5] [--rate 100 --rtt 20] [--programs DIR]

A store with a tree of so many inodes, `bakery serve`, `bakery watch` and sshd, all with their defaults. Machine A and
machine B mount it, each behind a link of its own (the shaper: RATE Mbit/s, RTT ms), and `layerfs follow --mode auto`
runs for B with its defaults. Each round A mounts the newest revision with an empty upper, writes KIB of new bytes
that do not compress into files of the tree and pushes them; a reader of B, which has read the old ones, looks until
it sees all of them. Seconds since the start of the push: until the push returns, until the new head is in the store,
and until B shows the bytes; the bytes that A sent and B received. One JSON line a round goes to standard output, and
to RESULTS/visible.jsonl. Bar (exit code 1 when it is missed): a median of 5 s until the bytes are visible. Needs
root, sshd, ssh and the release builds of layerfs, bakery and shaper."""
import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, HERE)
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "ingest"))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "update"))
from run import Server as Spool  # noqa: E402
from switch import Mount, Server, grow, run  # noqa: E402
from update import free_port  # noqa: E402

BAR_S = 5.0
FILES = 8
WAIT_MAX = 300


class Link:
    """The link of one machine: ports on loopback that lead to those of the server, and what passes them."""

    def __init__(self, options, *targets):
        self.ports = [free_port() for _ in targets]
        routes = [f"{port}:{target}" for port, target in zip(self.ports, targets)]
        self.process = subprocess.Popen([os.path.join(options.programs, "shaper"), str(options.rate), str(options.rtt), *routes],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if self.process.stdout.readline().strip() != "ready":
            raise SystemExit("visible.py: the shaper did not start")

    def bytes(self):
        """Bytes to the machine and from it."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        counts = json.loads(self.process.stdout.readline())
        return sum(one["down"] for one in counts), sum(one["up"] for one in counts)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait(timeout=60)


class Behind:
    """The server as a mount sees it through a link."""

    def __init__(self, server, port):
        self.keys, self.place = server.keys, f"127.0.0.1:{port}"


def wait(is_so, since, what):
    """Seconds since `since` when `is_so` becomes true."""
    while not is_so():
        if time.monotonic() - since > WAIT_MAX:
            raise SystemExit(f"visible.py: never: {what}")
        time.sleep(0.01)
    return time.monotonic() - since


def shows(root, written):
    for path, content in written.items():
        with open(os.path.join(root, path), "rb", buffering=0) as file:
            if file.read() != content:
                return False
    return True


def one_round(number, options, spool, names, a, b, link_a, link_b):
    choose = random.Random(number)
    paths = names[number * FILES:(number + 1) * FILES]
    written = {path: choose.randbytes(options.kib * 1024 // FILES) for path in paths}
    for path, content in written.items():
        # B has seen the old content.
        with open(os.path.join(b.root, path), "rb") as file:
            file.read()
        with open(os.path.join(a.root, path), "wb") as file:
            file.write(content)
    heads, (_, up), (down, _) = spool.heads(), link_a.bytes(), link_b.bytes()
    since = time.monotonic()
    push = subprocess.Popen([spool.layerfs, "push", "--quiet", "--to", "root@127.0.0.1:bench", "--ssh", spool.ssh("user"),
                             "--upper", os.path.join(a.upper, "upper"), "-m", "visible"])
    found = {"round": number, "kib": options.kib}
    found["published_s"] = None

    def look():
        if "pushed_s" not in found and push.poll() is not None:
            found["pushed_s"] = time.monotonic() - since
        if found["published_s"] is None and spool.heads() > heads:
            found["published_s"] = time.monotonic() - since
        return shows(b.root, written)

    found["visible_s"] = wait(look, since, "the bytes on B")
    if push.wait(timeout=60) != 0:
        raise SystemExit("visible.py: the push failed")
    found.setdefault("pushed_s", found["visible_s"])
    found["a_sent"], found["b_received"] = link_a.bytes()[1] - up, link_b.bytes()[0] - down
    return found


def measure(options, work, say):
    tree = os.path.join(work, "tree")
    os.mkdir(tree)
    names = grow(tree, options.inodes)
    random.Random(3).shuffle(names)
    spool = Spool(work, options)
    spool.fill(tree + "/")
    os.makedirs(spool.spool, exist_ok=True)
    spool.start_sshd()
    log = open(os.path.join(work, "log"), "w", encoding="utf-8")
    watch = subprocess.Popen([spool.bakery, "--store", spool.store, "watch", "--spool", spool.spool], stdout=log, stderr=log)
    follow = None
    try:
        with Server(options.programs, spool.store, spool.spool) as server:
            http = int(server.place.split(":")[1])
            with Link(options, spool.port, http) as link_a, Link(options, http) as link_b:
                near = spool.port
                spool.port = link_a.ports[0]
                # The same host key under the port of the link.
                with open(f"{spool.ssh_dir}/known_hosts", encoding="ascii") as file:
                    known = file.read().replace(f":{near} ", f":{spool.port} ")
                with open(f"{spool.ssh_dir}/known_hosts", "w", encoding="ascii") as file:
                    file.write(known)
                for name in ("a", "b"):
                    os.mkdir(os.path.join(work, name))
                with Mount(options.programs, Behind(server, link_b.ports[0]), None, os.path.join(work, "b"), system="bench") as b:
                    follow = subprocess.Popen([spool.layerfs, "follow", "--mode", "auto", b.root], stdout=log, stderr=log)
                    time.sleep(5)
                    for number in range(options.rounds):
                        with Mount(options.programs, Behind(server, link_a.ports[1]), None, os.path.join(work, "a"), system="bench") as a:
                            say(one_round(number, options, spool, names, a, b, link_a, link_b))
                        time.sleep(options.pause)
                    follow.terminate()
                    follow.wait()
    finally:
        if follow is not None and follow.poll() is None:
            follow.kill()
            follow.wait()
        watch.terminate()
        watch.wait(timeout=60)
        spool.sshd.terminate()
        spool.sshd.wait(timeout=60)
        if options.log:
            shutil.copy(os.path.join(work, "log"), options.log)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--programs", default=os.path.join(TOP, "target/release"))
    parser.add_argument("--inodes", type=int, default=45000)
    parser.add_argument("--kib", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rate", type=float, default=100)
    parser.add_argument("--rtt", type=float, default=20)
    parser.add_argument("--pause", type=float, default=7, help="seconds between two rounds")
    parser.add_argument("--log", help="where to keep the log of watch and follow")
    parser.add_argument("--results", default=os.environ.get("RESULTS"))
    options = parser.parse_args()
    work = tempfile.mkdtemp(prefix="visible-", dir=os.environ.get("WORK"))
    rounds = []

    def say(found):
        rounds.append(found)
        print(json.dumps(found), flush=True)
        if options.results:
            os.makedirs(options.results, exist_ok=True)
            with open(os.path.join(options.results, "visible.jsonl"), "a", encoding="ascii") as file:
                file.write(json.dumps(found) + "\n")

    try:
        measure(options, work, say)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    for key in ("pushed_s", "published_s", "visible_s", "a_sent", "b_received"):
        values = [one[key] for one in rounds if one[key] is not None]
        print(f"{key}: median {statistics.median(values):.6g}, {min(values):.6g} to {max(values):.6g}")
    met = statistics.median(one["visible_s"] for one in rounds) <= BAR_S
    print("met   " if met else "MISSED", f"visible within {BAR_S:.0f} s")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
