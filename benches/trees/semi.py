#!/usr/bin/env python3
"""semi.py: eight files of 64 MiB of half-compressible data, for the read benches.

  semi.py OUT

zstd -9 makes them 2.3 times smaller. Between 20 and 120 new bytes of six bits alternate with copies of 16 to 112 bytes from the
32 KiB before. The same bytes at each call."""
import os
import random
import sys

FILES, LENGTH, NEAR = 8, 64 << 20, 32 << 10
# 64 values of 256, some more often than others.
SIX_BITS = bytes(32 + (value * value >> 10) for value in range(256))


def content(seed):
    source, made = random.Random(seed), bytearray()
    while len(made) < LENGTH:
        made += source.randbytes(source.randrange(20, 120)).translate(SIX_BITS)
        copied = source.randrange(16, 112)
        if copied < len(made):
            back = source.randrange(copied, min(len(made), NEAR) + 1)
            made += made[-back:len(made) - back + copied]
    return bytes(made[:LENGTH])


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    place = os.path.join(sys.argv[1], "usr", "share")
    os.makedirs(place)
    for number in range(FILES):
        with open(os.path.join(place, f"semi{number}"), "wb") as file:
            file.write(content(number))


if __name__ == "__main__":
    main()
