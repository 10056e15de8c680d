#!/usr/bin/env python3
"""wide.py TREE SLICES: a tree of 200 directories with 100 files of 1 to 8 KiB each (some 20,200 entries), and
SLICES/l1 to l39, which hold every fortieth of the files again: over 40 layers each directory is merged of all
of them. The shape in which the first prototype's walks were measured; the same every time."""
import os
import random
import sys

LAYERS = 40


def main():
    if len(sys.argv) != 3 or any(map(os.path.exists, sys.argv[1:])):
        sys.exit(__doc__)
    tree, slices = sys.argv[1:]
    chance = random.Random(1)
    words = ["".join(chance.choices("abcdefghijklmnopqrstuvwxyz", k=chance.randint(2, 9))) for _ in range(3000)]
    for number in range(200):
        inside = os.path.join("usr", "share", f"dir{number:03}")
        for folder in [tree] + [os.path.join(slices, f"l{layer}") for layer in range(1, LAYERS)]:
            os.makedirs(os.path.join(folder, inside))
        for file in range(100):
            text = " ".join(chance.choices(words, k=chance.randint(1 << 10, 8 << 10) // 6 + 1))
            layer = (number * 100 + file) % LAYERS
            for folder in [tree] + ([os.path.join(slices, f"l{layer}")] if layer else []):
                with open(os.path.join(folder, inside, f"file{file:03}"), "w", encoding="ascii") as out:
                    out.write(text)


if __name__ == "__main__":
    main()
