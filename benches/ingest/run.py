#!/usr/bin/env python3
"""run.py: the duration of a push, and the time until its publication.

  run.py --tree DIR [--rounds 5] [--upper-mib 50] [--base-mib 1024] [--threads 2]

1. `layerfs push`, from its start to the prompt, against the upload alone: tar | zstd -3 | ssh 'cat > FILE'
   of the same upper through the same sshd on loopback, in turn; once without and once with a sync
   of the file, which is what a server must do before it may say "I have it".
2. From a file dropped into incoming/ (by rename) to the head of the new revision, against
   `zstd -15 -T<threads>` of the same tar. `bakery watch` runs with its defaults, so the two seconds for which
   a dropped file must lie still are in it.

The base is the first --base-mib of DIR; the uppers are files from all over DIR with some bytes put in front,
so that nothing in them is in the base, in the order and with the names they have there. One upper a round:
none finds its content published before. Prints one JSON line a measurement and a summary of ratios (median,
spread). Needs root, sshd, ssh, tar, zstd and the release builds of bakery and layerfs."""
import argparse
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(TOP, "benches", "trees"))
from files import regular_files  # noqa: E402

WAIT_MAX = 600


def files_of(tree):
    """Every regular file below tree with its length, in a fixed order."""
    return ((path, os.path.getsize(path)) for path in regular_files(tree))


def make_base(tree, out, most):
    total = 0
    for path, size in files_of(tree):
        if total + size > most:
            continue
        target = os.path.join(out, os.path.relpath(path, tree))
        os.makedirs(os.path.dirname(target), exist_ok=True)
        shutil.copy2(path, target)
        total += size
    return total


def make_upper(tree, out, number, count, most):
    """Every n-th file of the tree until there are enough bytes, without large ones."""
    files = [(path, size) for path, size in files_of(tree) if 0 < size <= most // 10]
    step = max(1, sum(size for _, size in files) // most)
    total = 0
    for path, size in files[number % step::step]:
        if total + size > most:
            continue
        target = os.path.join(out, os.path.relpath(path, tree))
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(path, "rb") as source, open(target, "wb") as to:
            to.write(b"%d of %d\n" % (number, count))
            shutil.copyfileobj(source, to)
        total += size
    return total


class Server:
    """A store with a system, a spool, and an sshd on loopback whose one key may push."""

    def __init__(self, work, options):
        self.work, self.options = work, options
        self.bakery = os.path.join(options.programs, "bakery")
        self.layerfs = os.path.join(options.programs, "layerfs")
        self.store, self.spool = os.path.join(work, "store"), os.path.join(work, "spool")
        self.ssh_dir = os.path.join(work, "ssh")
        os.mkdir(self.ssh_dir)

    def run(self, *arguments, **more):
        return subprocess.run([self.bakery, "--store", self.store, *arguments], check=True,
                              stdout=subprocess.PIPE, text=True, **more).stdout

    def fill(self, base):
        self.run("init")
        self.run("import", "bench", base, "--no-check", stdin=subprocess.DEVNULL)

    def start_sshd(self):
        os.makedirs("/run/sshd", exist_ok=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        for key in ("host", "user", "plain"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", f"{self.ssh_dir}/{key}"], check=True)
        public = {key: open(f"{self.ssh_dir}/{key}.pub").read() for key in ("host", "user", "plain")}
        with open(f"{self.ssh_dir}/known_hosts", "w") as out:
            out.write(f"[127.0.0.1]:{self.port} {public['host']}")
        command = f"{self.bakery} --store {self.store} receive --spool {self.spool} --key bench --systems bench"
        with open(f"{self.ssh_dir}/authorized_keys", "w") as out:
            out.write(f'restrict,command="{command}" {public["user"]}{public["plain"]}')
        with open(f"{self.ssh_dir}/config", "w") as out:
            out.write(f"ListenAddress 127.0.0.1:{self.port}\nHostKey {self.ssh_dir}/host\n"
                      f"AuthorizedKeysFile {self.ssh_dir}/authorized_keys\nStrictModes no\nUsePAM no\n"
                      "PasswordAuthentication no\nPermitRootLogin prohibit-password\nPidFile none\nLogLevel QUIET\n")
        self.sshd = subprocess.Popen(["/usr/sbin/sshd", "-D", "-f", f"{self.ssh_dir}/config"])
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.1)
        raise SystemExit("run.py: sshd does not come up")

    def ssh(self, key):
        return (f"ssh -F /dev/null -p {self.port} -i {self.ssh_dir}/{key} -o IdentitiesOnly=yes -o BatchMode=yes "
                f"-o UserKnownHostsFile={self.ssh_dir}/known_hosts -o Compression=no")

    def push(self, upper):
        start = time.monotonic()
        told = subprocess.run([self.layerfs, "push", "--json", "-q", "--to", "root@127.0.0.1:bench", "--ssh",
                               self.ssh("user"), "--upper", upper, "-m", "bench"], check=True,
                              stdout=subprocess.PIPE).stdout
        return time.monotonic() - start, json.loads(told)["sent"]

    def upload(self, upper, sync):
        target = os.path.join(self.spool, "plain.tar.zst")
        far = f"cat > {target}" + (f" && sync {target}" if sync else "")
        start = time.monotonic()
        subprocess.run(["sh", "-c", f"tar -C {upper} --xattrs -cf - . | zstd -q -3 | {self.ssh('plain')} root@127.0.0.1 '{far}'"],
                       check=True)
        took = time.monotonic() - start
        sent = os.path.getsize(target)
        os.unlink(target)
        return took, sent

    def heads(self):
        return len(os.listdir(os.path.join(self.store, "refs", "bench", "main")))

    def published(self, archive, number):
        inbox = os.path.join(self.spool, "incoming", "bench")
        os.makedirs(inbox, exist_ok=True)
        before = self.heads()
        part = os.path.join(self.spool, f"{number}.part")
        shutil.copyfile(archive, part)
        start = time.monotonic()
        os.rename(part, os.path.join(inbox, f"{number}.tar.zst"))
        while self.heads() == before:
            if time.monotonic() - start > WAIT_MAX:
                raise SystemExit("run.py: nothing was published; see bakery jobs")
            time.sleep(0.01)
        return time.monotonic() - start


def last_report(spool, count):
    """The baker's record of the newest job, once this many are done."""
    done = os.path.join(spool, "done")
    for _ in range(200):
        jobs = sorted(os.listdir(done))
        if len(jobs) >= count and os.path.exists(os.path.join(done, jobs[-1], "result.json")):
            ending = json.load(open(os.path.join(done, jobs[-1], "result.json")))
            return {"seconds": ending.get("seconds"), "phases": ending.get("report", {}).get("seconds"),
                    "layer": ending.get("report", {}).get("file_len")}
        time.sleep(0.05)
    return {}


def pushes(server, uppers, say):
    for number, upper in enumerate(uppers):
        # Everybody reads the upper from memory.
        subprocess.run(["tar", "-C", upper, "-cf", "/dev/null", "."], check=True)
        for what in ("push", "upload", "upload+sync"):
            if what == "push":
                took, sent = server.push(upper)
            else:
                took, sent = server.upload(upper, what != "upload")
            say({"what": what, "round": number, "seconds": round(took, 3), "sent": sent})
    # Pushed jobs are not baked: the watcher starts later, on an empty queue.
    shutil.rmtree(os.path.join(server.spool, "queued"))


def drops(server, uppers, work, options, say):
    log = open(os.path.join(work, "watch.log"), "w")
    watch = subprocess.Popen([server.bakery, "--store", server.store, "watch", "--spool", server.spool],
                             stderr=log, stdout=log)
    try:
        time.sleep(2)
        for number, upper in enumerate(uppers):
            archive = os.path.join(work, "upper.tar")
            subprocess.run(["tar", "-C", upper, "--xattrs", "-cf", archive, "."], check=True)
            subprocess.run(["zstd", "-q", "-3", "-f", archive], check=True)
            start = time.monotonic()
            subprocess.run(["zstd", "-q", "-15", f"-T{options.threads}", "-f", archive, "-o", archive + ".15"], check=True)
            took = time.monotonic() - start
            say({"what": "zstd", "round": number, "seconds": round(took, 3), "bytes": os.path.getsize(archive + ".15"),
                 "tar": os.path.getsize(archive)})
            took = server.published(archive + ".zst", number)
            say({"what": "published", "round": number, "seconds": round(took, 3), **{"baker": last_report(server.spool, number + 1)}})
            subprocess.run(["sync"], check=False)
    finally:
        watch.send_signal(signal.SIGTERM)
        watch.wait(timeout=30)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tree", required=True, help="a system's tree: base and uppers are made of its files")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--upper-mib", type=int, default=50)
    parser.add_argument("--base-mib", type=int, default=1024)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--programs", default=os.path.join(TOP, "target", "release"))
    parser.add_argument("--work", help="where to put base, uppers, store and spool (default: a new directory)")
    options = parser.parse_args()
    work = tempfile.mkdtemp(prefix="layerfs-bench-push-", dir=options.work)
    lines = {}

    def say(line):
        line["load"] = os.getloadavg()[0]
        lines.setdefault(line["what"], []).append(line["seconds"])
        print(json.dumps(line), flush=True)

    server = None
    try:
        base = os.path.join(work, "base")
        os.mkdir(base)
        base_len = make_base(options.tree, base, options.base_mib << 20)
        uppers = []
        for number in range(options.rounds):
            upper = os.path.join(work, f"upper-{number}")
            os.mkdir(upper)
            upper_len = make_upper(options.tree, upper, number, options.rounds, options.upper_mib << 20)
            uppers.append(upper)
        print(json.dumps({"what": "setting", "base": base_len, "upper": upper_len, "threads": options.threads}), flush=True)
        server = Server(work, options)
        server.fill(base)
        os.makedirs(server.spool, exist_ok=True)
        server.start_sshd()
        pushes(server, uppers, say)
        drops(server, uppers, work, options, say)
    finally:
        if server is not None and hasattr(server, "sshd"):
            server.sshd.terminate()
            server.sshd.wait(timeout=30)
        shutil.rmtree(work, ignore_errors=True)

    def ratio(ours, theirs, plus=0.0):
        ratios = [(a - plus) / b for a, b in zip(lines[ours], lines[theirs])]
        return f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"

    print(f"push / upload alone: {ratio('push', 'upload')}; with the server's sync: {ratio('push', 'upload+sync')} (aim: 0.9 to 1.1)")
    print(f"(published - 2 s) / zstd -15 -T{options.threads}: {ratio('published', 'zstd', 2.0)} (aim: 1.5)")


if __name__ == "__main__":
    sys.exit(main())
