#!/usr/bin/env python3
"""run.py: speed and peak memory of `bakery import` of a large squashfs, two builds in turn (A B A B).

  run.py --tree DIR --base BAKERY --new BAKERY [--rounds 2] [--size-mib 1700] [--level N] [--image FILE]

The image is made as a stream, without a copy of the tree on disk: the files of DIR as they are, then as often as
needed with another number in each page (so that nothing deduplicates), half of what is missing; the rest is one part
text of random words and two parts random bytes, in files of 1 MiB. Each run imports into an empty store. One JSON line
a run: seconds, processor seconds of the import and its helper programs, the largest resident size of one process, and
the largest sum of anonymous memory of all its processes (sampled). Needs tar2sqfs and sqfs2tar (squashfs-tools-ng)."""
import argparse
import io
import json
import os
import random
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "trees"))
from files import regular_files  # noqa: E402

MIB = 1 << 20
PAGE = 4096


def varied(data, number):
    """The same bytes with a number at the start of each page."""
    out = bytearray(data)
    for at in range(0, len(out) - 8, PAGE):
        out[at:at + 8] = (number * 1_000_003 + at).to_bytes(8, "little")
    return bytes(out)


def text(words, dice):
    return (" ".join(dice.choices(words, k=MIB // 6)).encode() + b"\n" * MIB)[:MIB]


def put(archive, name, data, mode=0o644):
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode, entry.mtime = len(data), mode, 1_700_000_000
    archive.addfile(entry, io.BytesIO(data))


def fill(archive, tree, size):
    """Writes files of `size` bytes in all; the first copy of the tree with its links and directories."""
    archive.add(tree, arcname=".", filter=lambda entry: entry if not (entry.ischr() or entry.isblk()) else None)
    files = sorted(regular_files(tree))
    done = sum(os.path.getsize(path) for path in files)
    dice = random.Random(20261129)
    limit, number = done + max(0, size - done) // 2, 0
    while done < limit:
        number += 1
        for path in files:
            if done >= limit:
                break
            with open(path, "rb") as file:
                data = varied(file.read(), number)
            put(archive, f"varied/{number}/{os.path.relpath(path, tree)}", data)
            done += len(data)
    words = ["".join(dice.choices("etaoinshrdlu", k=dice.randint(2, 9))) for _ in range(20_000)]
    while done < size:
        number += 1
        kind = "text" if number % 3 == 0 else "random"
        put(archive, f"{kind}/{number}", text(words, dice) if kind == "text" else dice.randbytes(MIB))
        done += MIB


def make_image(tree, image, size):
    packer = subprocess.Popen(["tar2sqfs", "-q", "-f", "-c", "gzip", image], stdin=subprocess.PIPE)
    with tarfile.open(fileobj=packer.stdin, mode="w|", format=tarfile.PAX_FORMAT) as archive:
        fill(archive, tree, size)
    packer.stdin.close()
    if packer.wait() != 0:
        sys.exit("tar2sqfs failed")


def anonymous(pid):
    """Anonymous memory of a process and its descendants, KiB."""
    total = 0
    try:
        with open(f"/proc/{pid}/status") as status:
            for line in status:
                if line.startswith("RssAnon:"):
                    total = int(line.split()[1])
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children") as children:
                total += sum(anonymous(int(child)) for child in children.read().split())
    except (FileNotFoundError, ProcessLookupError):
        pass
    return total


def run(bakery, image, level, place):
    store = os.path.join(place, "store")
    subprocess.run([bakery, "-q", "--store", store, "init"], check=True, stdout=subprocess.DEVNULL)
    command = [bakery, "-q", "--store", store, "import", "bench", image]
    command += ["--level", str(level)] if level else []
    begin = time.monotonic()
    pid = os.posix_spawn(bakery, command, os.environ)
    peak = 0
    while True:
        ended, status, usage = os.wait4(pid, os.WNOHANG)
        if ended:
            break
        peak = max(peak, anonymous(pid))
        time.sleep(0.05)
    seconds = time.monotonic() - begin
    layers = os.path.join(store, "layers")
    stored = sum(os.path.getsize(os.path.join(layers, name)) for name in os.listdir(layers))
    shutil.rmtree(store)
    shutil.rmtree(store + ".keys", ignore_errors=True)
    if status != 0:
        sys.exit(f"{bakery}: import failed")
    return {
        "seconds": round(seconds, 1),
        "cpu": round(usage.ru_utime + usage.ru_stime, 1),
        "rss_mib": usage.ru_maxrss // 1024,
        "anon_mib": peak // 1024,
        "stored_mib": stored // MIB,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tree", required=True)
    parser.add_argument("--base", required=True)
    parser.add_argument("--new", required=True)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--size-mib", type=int, default=1700)
    parser.add_argument("--level", type=int)
    parser.add_argument("--image", help="keep the image here, and use it if it is there")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="layerfs-import-", dir=os.environ.get("TMPDIR", "/var/tmp")) as place:
        image = args.image or os.path.join(place, "image.squashfs")
        if not os.path.exists(image):
            make_image(args.tree, image, args.size_mib * MIB)
        print(json.dumps({"image_mib": os.path.getsize(image) // MIB}), flush=True)
        for number in range(args.rounds):
            for build in ("base", "new"):
                line = {"round": number, "build": build, "load": round(os.getloadavg()[0], 1)}
                line |= run(os.path.abspath(getattr(args, build)), image, args.level, place)
                print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
