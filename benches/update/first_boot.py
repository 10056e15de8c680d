#!/usr/bin/env python3
"""first_boot.py: bytes of the first boot after an update, with an update pack and without.

  first_boot.py --old TREE --new TREE [--trace FILE] [--rate 20 --rtt 20]

No machine boots here: the recorded boot (benches/traces/minimal.trace) is replayed on the mount, page by
page in its order, so what a boot computes between its reads is missing. The old tree is published and
gets a boot pack from the trace of one replay; the new tree follows, published by `bakery watch`. A client
replays the boot of the old revision with a disk cache and default options until its prefetch is complete.
Then it mounts the new revision, once before the update pack exists and once after, each time from a copy
of that cache, behind the shaper; a client without a cache mounts it too. A row has the bytes that crossed the link from the start of the mount to
the end of the replay, and until the client was at rest. Needs root and the builds of bakery, layerfs and
shaper."""
import argparse
import json
import os
import shutil
import subprocess
import tempfile

from mirror import Origin
from update import HERE, TOP, settled

PAGE = 4096


def read_trace(path):
    """The files of a trace, and its touches: file, page, count."""
    files, touches = [], []
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            words = line.rstrip("\n").split(" ", 2)
            if words[0] == "+":
                files.append(words[2])
            elif words[0] != "#":
                touches.append(tuple(int(word) for word in words))
    return files, touches


def place_of(root, path):
    """A file of the trace below `root`, which may have /lib and /bin beside /usr; None if it lacks the file."""
    for name in (path, path.removeprefix("usr/")):
        if os.path.isfile(os.path.join(root, name)):
            return os.path.join(root, name)
    return None


def replay(trace, root):
    """Reads the pages of the trace below `root`; files that `root` lacks are passed over."""
    files, touches = trace
    opened, read = {}, 0
    for file, page, count in touches:
        if file not in opened:
            path = place_of(root, files[file])
            opened[file] = os.open(path, os.O_RDONLY) if path else None
        if opened[file] is not None:
            read += len(os.pread(opened[file], count * PAGE, page * PAGE))
    missing = sum(one is None for one in opened.values())
    for one in opened.values():
        if one is not None:
            os.close(one)
    if missing * 2 > len(files):
        raise SystemExit(f"first_boot.py: {root} lacks {missing} of the {len(files)} files of the trace")
    return read, missing


class Boots(Origin):
    """A store, and boots of a client with a disk cache."""

    def __init__(self, options, work):
        super().__init__(options, work)
        self.layerfs = os.path.join(options.programs, "layerfs")
        self.cache = os.path.join(work, "cache")
        self.at = os.path.join(work, "mnt")
        os.mkdir(self.at)

    def boot(self, name, trace, fields, before_end=None, cache=None):
        """One boot of revision `name`; returns the bytes until the end of the replay and until rest."""
        server, shaper, url = self.serve()
        mount = [self.layerfs, "mount", "-f", "--keys", self.store + ".keys/allowed_signers", f"{url}/{name}", self.at]
        if cache:
            mount[3:3] = ["--cache", cache]
        daemon = subprocess.Popen(mount)

        def down():
            shaper.stdin.write("\n")
            shaper.stdin.flush()
            return json.loads(shaper.stdout.readline())[0]["down"]

        try:
            settled(self.layerfs, self.at, "prefetch", daemon, is_there=True)
            read, missing = replay(trace, self.at)
            until_end = down()
            requests = settled(self.layerfs, self.at, "prefetch", daemon, is_there=True)["requests"]
            if before_end:
                before_end()
            for field in fields:
                settled(self.layerfs, self.at, field, daemon)
            print(f"# {name}: {read:,} bytes read, {missing} files missing, {requests} requests to the end of the replay", flush=True)
            return until_end, down()
        finally:
            subprocess.run(["umount", self.at], check=False)
            daemon.wait(timeout=600)
            shaper.stdin.close()
            shaper.wait(timeout=60)
            server.terminate()
            server.wait(timeout=60)

    def learn(self, trace):
        """A boot pack of one replay."""
        def push():
            subprocess.run([self.layerfs, "push-trace", self.at], check=True, stdout=subprocess.DEVNULL)
        self.boot("sys", trace, [], push)
        self.bakery("pack", "sys", "--spool", self.spool)

    def whole(self, tree):
        """The tree as an archive in the spool, published."""
        incoming = os.path.join(self.spool, "incoming", "sys")
        os.makedirs(incoming, exist_ok=True)
        archive = os.path.join(self.work, "new.tar.zst")
        subprocess.run(["tar", "--xattrs", "--numeric-owner", "-I", "zstd -1", "-cf", archive, "-C", tree, "."], check=True)
        os.rename(archive, os.path.join(incoming, "new.tar.zst"))
        self.bakery("watch", "--once", "--updates", "0", "--settle", "100", "--spool", self.spool)


def measure(options, work):
    trace = read_trace(options.trace)
    boots = Boots(options, work)
    boots.bakery("import", "sys", options.old + "/", "--no-check", "--no-pack")
    boots.learn(trace)
    boots.boot("sys", trace, ["prefetch"], cache=boots.cache)
    saved = boots.cache + ".saved"
    os.rename(boots.cache, saved)
    boots.whole(options.new)
    rows = []
    for form, fields in (("without an update pack", ["prefetch"]), ("with the update pack", ["update"])):
        if fields == ["update"]:
            (made,) = json.loads(boots.bakery("update-pack", "sys", "--last", "1", "--json"))
            print(f"# update pack: {made['bytes']:,} bytes, of it index {made['index_bytes']:,}, hot {made['hot_bytes']:,}")
        shutil.rmtree(boots.cache, ignore_errors=True)
        subprocess.run(["cp", "-a", saved, boots.cache], check=True)
        rows.append((form, *boots.boot("sys", trace, fields, cache=boots.cache)))
    rows.append(("without a cache", *boots.boot("sys", trace, [])))
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--old", required=True)
    parser.add_argument("--new", required=True)
    parser.add_argument("--trace", default=os.path.join(HERE, "../traces/minimal.trace"))
    parser.add_argument("--rate", type=float, default=20)
    parser.add_argument("--rtt", type=float, default=20)
    parser.add_argument("--programs", default=os.path.join(TOP, "target/release"))
    parser.add_argument("--results", default=os.environ.get("RESULTS", os.path.join(TOP, "lab")))
    parser.add_argument("--work", default=os.path.join(TOP, "lab"), help="directory for the store")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.work) as work:
        rows = measure(options, work)
    today = rows[0]
    print("| first boot of the new revision | bytes to the end of the replay | share | bytes to rest | share |\n|---|---|---|---|---|")
    for form, until_end, until_rest in rows:
        print(f"| {form} | {until_end:,} | {until_end / today[1]:.3f} | {until_rest:,} | {until_rest / today[2]:.3f} |")
        line = {"bench": "first boot", "form": form, "bytes": until_end, "bytes_to_rest": until_rest}
        with open(os.path.join(options.results, "first-boot.jsonl"), "a", encoding="utf-8") as lines:
            lines.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
