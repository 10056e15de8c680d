#!/usr/bin/env python3
"""large.py SOURCE TREE: a tree of seven files of 64 MiB (448 MiB), what the files of SOURCE have, one after the other,
in the order of their names: more than a processor's caches hold, as when the reads of large files were first
measured. The same for the same SOURCE."""
import os
import sys

from files import regular_files

FILES, LEN = 7, 64 << 20


def contents(source):
    for path in regular_files(source):
        with open(path, "rb") as file:
            yield file.read()


def main():
    if len(sys.argv) != 3 or os.path.exists(sys.argv[2]):
        sys.exit(__doc__)
    source, tree = sys.argv[1:]
    folder = os.path.join(tree, "usr", "share")
    os.makedirs(folder)
    parts, left = contents(os.path.join(source, "usr")), b""
    for number in range(FILES):
        with open(os.path.join(folder, f"large{number}"), "wb") as out:
            while out.tell() < LEN:
                left = left or next(parts, b"")
                if not left:
                    sys.exit(f"large.py: {source} has too little")
                taken, left = left[:LEN - out.tell()], left[LEN - out.tell():]
                out.write(taken)


if __name__ == "__main__":
    main()
