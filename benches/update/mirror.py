#!/usr/bin/env python3
"""mirror.py: bytes that a mirror of a history receives, against the first revision and the update packs.

  mirror.py --old TREE --new TREE [--revisions 20] [--rate 20 --rtt 20]

Revision 1 is the old tree. The files that differ in the new one become revisions 2 to N, a part each,
in the order of their paths, dropped as archives and published by `bakery watch`; `bakery update-pack`
makes the packs from the last three revisions to each. Behind the shaper, which counts every byte:
one mirror runs a round after each revision, with the packs of the last revision only; a second does so
with default options; a third begins when the history is complete. A table goes to standard output, lines
to RESULTS/mirror.jsonl. Needs root and the builds of bakery and shaper."""
import argparse
import filecmp
import json
import os
import subprocess
import tempfile
import time

from update import TOP, free_port, timed, wait_listening

PACKS = 3


def changed(old, new):
    """Paths of `new` that `old` lacks or has with other contents, in order."""
    found = []
    for place, _, names in os.walk(new):
        for name in names:
            path = os.path.join(place, name)
            below = os.path.relpath(path, new)
            before = os.path.join(old, below)
            if os.path.islink(path):
                is_same = os.path.islink(before) and os.readlink(before) == os.readlink(path)
            else:
                is_same = os.path.isfile(before) and not os.path.islink(before) and filecmp.cmp(before, path, shallow=False)
            if not is_same:
                found.append(below)
    return sorted(found)


def parts(paths, count):
    """`paths` in `count` parts of about the same number."""
    return [paths[len(paths) * at // count:len(paths) * (at + 1) // count] for at in range(count)]


class Origin:
    """A store, its server, and a link to it that counts."""

    def __init__(self, options, work):
        self.options, self.work = options, work
        self.store = os.path.join(work, "store")
        self.spool = os.path.join(work, "spool")
        self.program = os.path.join(options.programs, "bakery")
        self.bakery("init")

    def bakery(self, *words, store=None):
        return timed([self.program, "--store", store or self.store, *words])[0]

    def publish(self, number, tree, paths):
        """The files of one part as the next revision, and its update packs; returns their lengths."""
        incoming = os.path.join(self.spool, "incoming", "sys")
        os.makedirs(incoming, exist_ok=True)
        directories = {os.path.dirname(path) for path in paths}
        directories |= {up for path in list(directories) for up in above(path)}
        names = "\0".join(sorted(directories - {""}) + paths)
        archive = os.path.join(self.work, "part.tar.zst")
        subprocess.run(["tar", "-I", "zstd -1", "-cf", archive, "-C", tree, "--xattrs", "--numeric-owner", "--no-recursion", "--null", "-T", "-"],
                       input=names.encode(), check=True)
        os.rename(archive, os.path.join(incoming, f"{number:03}.tar.zst"))
        self.bakery("watch", "--once", "--updates", "0", "--settle", "100", "--spool", self.spool)
        made = json.loads(self.bakery("update-pack", "sys", "--last", str(PACKS), "--json"))
        return {int(pack["from"].rsplit("@", 1)[1]): pack["bytes"] for pack in made}

    def serve(self):
        """Starts the server and the link; returns both."""
        behind, front = free_port(), free_port()
        server = subprocess.Popen([self.program, "--store", self.store, "serve", "--quiet", "--spool", self.spool,
                                   "--listen", f"127.0.0.1:{behind}"])
        wait_listening(f"127.0.0.1:{behind}")
        shaper = subprocess.Popen([os.path.join(self.options.programs, "shaper"), str(self.options.rate), str(self.options.rtt),
                                   f"{front}:{behind}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if shaper.stdout.readline().strip() != "ready":
            raise SystemExit("mirror.py: the shaper did not start")
        return server, shaper, f"http://127.0.0.1:{front}"

    def mirror(self, name, *more):
        """One round of a mirror; returns the bytes that it received and the seconds it took."""
        server, shaper, url = self.serve()
        try:
            begin = time.monotonic()
            self.bakery("mirror", url, "sys", "--once", "--allowed-signers", self.store + ".keys/allowed_signers", *more,
                        store=os.path.join(self.work, name))
            seconds = time.monotonic() - begin
            shaper.stdin.write("\n")
            shaper.stdin.flush()
            counts = json.loads(shaper.stdout.readline())[0]
        finally:
            shaper.stdin.close()
            shaper.wait(timeout=60)
            server.terminate()
            server.wait(timeout=60)
        return counts["down"], seconds


def above(path):
    """The directories above a path."""
    while os.path.dirname(path):
        path = os.path.dirname(path)
        yield path


def measure(options, work):
    origin = Origin(options, work)
    origin.bakery("import", "sys", options.old + "/", "--no-check", "--no-pack")
    first, seconds = origin.mirror("follower", "--updates", "1")
    every, _ = origin.mirror("default")
    follower, spent, packs, all_packs, last = first, seconds, 0, 0, 0
    for number, paths in enumerate(parts(changed(options.old, options.new), options.revisions - 1), 2):
        lengths = origin.publish(number, options.new, paths)
        packs += lengths[number - 1]
        all_packs += sum(lengths.values())
        last, seconds = origin.mirror("follower", "--updates", "1")
        follower, spent = follower + last, spent + seconds
        every += origin.mirror("default")[0]
    for name in ("follower", "default"):
        origin.bakery("verify", "--all", store=os.path.join(work, name))
    late, late_seconds = origin.mirror("late", "--updates", "1")
    origin.bakery("verify", "--all", store=os.path.join(work, "late"))
    bound = first + packs
    yield "revision 1, and the packs from each revision to the next", bound, bound, 0
    yield "a round after each revision, --updates 1", follower, bound, spent
    yield "the same, default options: packs from three revisions", every, first + all_packs, 0
    yield "one round when the history is complete", late, bound, late_seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--old", required=True)
    parser.add_argument("--new", required=True)
    parser.add_argument("--revisions", type=int, default=20)
    parser.add_argument("--rate", type=float, default=20)
    parser.add_argument("--rtt", type=float, default=20)
    parser.add_argument("--programs", default=os.path.join(TOP, "target/release"))
    parser.add_argument("--results", default=os.environ.get("RESULTS", os.path.join(TOP, "lab")))
    parser.add_argument("--work", default=os.path.join(TOP, "lab"), help="directory for the stores")
    options = parser.parse_args()
    print("| mirror | bytes received | of the first revision and the packs it copies | seconds |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory(dir=options.work) as work:
        for form, length, bound, seconds in measure(options, work):
            print(f"| {form} | {length:,} | {length / bound:.3f} | {seconds:.0f} |", flush=True)
            line = {"bench": "mirror", "form": form, "bytes": length, "share": length / bound, "seconds": seconds}
            with open(os.path.join(options.results, "mirror.jsonl"), "a", encoding="utf-8") as lines:
                lines.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
