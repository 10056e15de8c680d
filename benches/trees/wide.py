#!/usr/bin/env python3
"""wide.py OUT: a tree of 200 directories with 100 files of 1 to 8 KiB each, the shape in which the first
prototype's walks were measured (some 20,200 entries). The same every time."""
import os
import random
import sys


def main():
    if len(sys.argv) != 2 or os.path.exists(sys.argv[1]):
        sys.exit(__doc__)
    chance = random.Random(1)
    words = ["".join(chance.choices("abcdefghijklmnopqrstuvwxyz", k=chance.randint(2, 9))) for _ in range(3000)]
    os.makedirs(os.path.join(sys.argv[1], "opt"))
    top = os.path.join(sys.argv[1], "usr", "share")
    for number in range(200):
        folder = os.path.join(top, f"dir{number:03}")
        os.makedirs(folder)
        for file in range(100):
            size = chance.randint(1 << 10, 8 << 10)
            with open(os.path.join(folder, f"file{file:03}"), "w", encoding="ascii") as out:
                out.write(" ".join(chance.choices(words, k=size // 6 + 1))[:size])


if __name__ == "__main__":
    main()
