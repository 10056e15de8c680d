#!/usr/bin/env python3
"""tree.py: a system of many small files, as a tar archive.

  tree.py FILES OUTPUT [DIRECTORY_OF_REAL_FILES]

Writes FILES regular files of 0 to 8 KiB (8192 u^4, 1,640 bytes on average) in directories of 50, which are in
directories of 100. The contents are slices of real files (of this repository, unless a directory is given); those
of more than 8 bytes all differ. Names have 20 bytes with random digits. The same arguments give the same bytes."""
import os
import random
import sys

PER_DIRECTORY, DIRECTORIES_PER_TOP = 50, 100
POOL_LEN = 16 << 20


def pool(directory):
    """The bytes of real files, at most POOL_LEN."""
    got = bytearray()
    for folder, folders, files in sorted(os.walk(directory)):
        folders[:] = [name for name in folders if name not in ("target", ".git", "lab", "results")]
        for name in sorted(files):
            path = os.path.join(folder, name)
            if os.path.isfile(path) and not os.path.islink(path):
                with open(path, "rb") as file:
                    got += file.read(1 << 18)
            if len(got) >= POOL_LEN:
                return bytes(got[:POOL_LEN])
    return bytes(got)


def header(name, mode, size, kind):
    """A ustar header."""
    head = bytearray(b"%b%b%07o\x000000000\x000000000\x00%011o\x0015000000000\x00        %b" %
                     (name, bytes(100 - len(name)), mode, size, kind))
    head += bytes(100) + b"ustar\x0000" + bytes(512 - len(head) - 108)
    head[148:156] = b"%06o\x00 " % sum(head)
    return bytes(head)


def write(files, out, real):
    """The archive of `files` files."""
    choose = random.Random(11)
    out.write(header(b"./", 0o755, 0, b"5"))
    for number in range(files):
        folder, position = divmod(number, PER_DIRECTORY)
        top = folder // DIRECTORIES_PER_TOP
        if position == 0 and folder % DIRECTORIES_PER_TOP == 0:
            out.write(header(b"./top%05d/" % top, 0o755, 0, b"5"))
        if position == 0:
            out.write(header(b"./top%05d/dir%06d/" % (top, folder), 0o755, 0, b"5"))
        size = int(8192 * choose.random() ** 4)
        name = b"./top%05d/dir%06d/file-%010d.conf" % (top, folder, choose.randrange(10 ** 10))
        start = choose.randrange(len(real) - 8192)
        content = (b"%x " % number + real[start:start + size])[:size]
        out.write(header(name, 0o644, size, b"0"))
        out.write(content + bytes(-size % 512))
    out.write(bytes(1024))


def main():
    here = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    real = pool(sys.argv[3] if len(sys.argv) > 3 else here)
    with open(sys.argv[2], "wb", buffering=1 << 20) as out:
        write(int(sys.argv[1]), out, real)


if __name__ == "__main__":
    main()
