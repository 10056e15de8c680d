#!/usr/bin/env python3
"""slices.py TREE OUT N: N small overlay layers over TREE, as directories OUT/l1 … OUT/lN.

Each holds what a small change holds: six configuration files, three rewritten libraries or
programs (one byte appended: ELF bears that), eight scripts, five shared files and a whiteout.
The same N and TREE give the same layers."""
import os
import random
import shutil
import stat
import sys


def classes(tree):
    found = {"etc": [], "elf": [], "py": [], "share": []}
    keep = {"passwd", "shadow", "group", "gshadow", "machine-id"}
    for folder, folders, files in os.walk(tree):
        folders.sort()
        rel = os.path.relpath(folder, tree)
        if rel.split("/")[0] in ("proc", "sys", "boot", "dev"):
            continue
        for name in sorted(files):
            path, here = os.path.join(folder, name), os.path.join(rel, name)
            st = os.lstat(path)
            if not stat.S_ISREG(st.st_mode):
                continue
            if rel.startswith("etc") and st.st_size < 20_000 and name not in keep:
                found["etc"].append(here)
            elif rel.startswith(("usr/lib/x86_64", "usr/bin", "usr/sbin")) and 20_000 < st.st_size < 4_000_000:
                found["elf"].append(here)
            elif name.endswith(".py") and st.st_size > 2_000:
                found["py"].append(here)
            elif rel.startswith("usr/share") and st.st_size < 100_000:
                found["share"].append(here)
    return found


def folders(tree, layer, path):
    """Makes the parents of `path` in `layer`, with the attributes they have in `tree`."""
    here = ""
    for part in os.path.dirname(path).split("/"):
        here = os.path.join(here, part)
        target = os.path.join(layer, here)
        if not os.path.isdir(target):
            os.mkdir(target)
            st = os.stat(os.path.join(tree, here))
            os.chown(target, st.st_uid, st.st_gid)
            os.chmod(target, stat.S_IMODE(st.st_mode))


def put(tree, layer, path, extra):
    folders(tree, layer, path)
    source, target = os.path.join(tree, path), os.path.join(layer, path)
    shutil.copy2(source, target)
    with open(target, "ab") as file:
        file.write(extra)
    st = os.stat(source)
    os.chown(target, st.st_uid, st.st_gid)
    os.chmod(target, stat.S_IMODE(st.st_mode))


def main():
    tree, out, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    found, choose = classes(tree), random.Random(20_000)
    for number in range(1, count + 1):
        layer = os.path.join(out, f"l{number}")
        os.makedirs(layer)
        os.chmod(layer, 0o755)
        for kind, amount, extra in (("etc", 6, b""), ("elf", 3, b"\0"), ("py", 8, b"\n"), ("share", 5, b"")):
            for path in choose.sample(found[kind], min(amount, len(found[kind]))):
                put(tree, layer, path, extra)
        folders(tree, layer, "opt/x")
        with open(os.path.join(layer, "opt", f"layer{number}"), "w", encoding="ascii") as file:
            file.write(f"{number}\n")
        gone = choose.choice(found["share"])
        if not os.path.exists(os.path.join(layer, gone)):
            folders(tree, layer, gone)
            os.mknod(os.path.join(layer, gone), stat.S_IFCHR | 0o600, os.makedev(0, 0))


main()
