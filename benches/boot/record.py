#!/usr/bin/env python3
"""record.py RIVALS OUT: which file pages a boot to multi-user.target touches first, in order.

Boots RIVALS (made by rivals.sh) under QEMU from its uncompressed erofs image with read-ahead
off, so that every first touch of a page is one read request of the virtual disk, logged by QEMU
itself; the image's extents (FIEMAP) say which file the block belongs to. OUT is a text file:
comments; "+ SIZE PATH" names the next file (numbered from 0) before its first touch;
"NUMBER FIRST COUNT" is a touch of COUNT pages of 4096 bytes from page FIRST on, in order.

Needs root, qemu-system-x86, erofs in this kernel. The tests' machine.py drives QEMU."""
import fcntl
import os
import re
import stat
import struct
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "..", "tests", "boot"))
from machine import Machine  # noqa: E402

PAGE = 4096
FS_IOC_FIEMAP = 0xC020660B
EXTENTS = 512


def fiemap(descriptor, size):
    """(logical, physical, length) of every extent of an open file."""
    found, start = [], 0
    while start < size:
        head = struct.pack("=QQLLLL", start, size - start, 0, 0, EXTENTS, 0)
        answer = bytearray(head + bytes(56 * EXTENTS))
        fcntl.ioctl(descriptor, FS_IOC_FIEMAP, answer)
        count = struct.unpack_from("=QQLLLL", answer)[3]
        if count == 0:
            break
        for i in range(count):
            logical, physical, length = struct.unpack_from("=QQQ", answer, 32 + 56 * i)
            found.append((logical, physical, length))
            start = logical + length
    return found


def block_owners(image):
    """Block of the image -> (path, size, page of the file)."""
    owners = {}
    with tempfile.TemporaryDirectory() as mountpoint:
        subprocess.run(["mount", "-t", "erofs", "-o", "ro,loop", image, mountpoint], check=True)
        try:
            for folder, folders, files in os.walk(mountpoint):
                folders.sort()
                for name in sorted(files):
                    path = os.path.join(folder, name)
                    st = os.lstat(path)
                    if not stat.S_ISREG(st.st_mode) or st.st_size == 0:
                        continue
                    descriptor = os.open(path, os.O_RDONLY)
                    try:
                        extents = fiemap(descriptor, st.st_size)
                    finally:
                        os.close(descriptor)
                    for logical, physical, length in extents:
                        if physical % PAGE:  # a tail inside the metadata: no page of its own
                            continue
                        for offset in range(0, length, PAGE):
                            place = (path[len(mountpoint) + 1:], st.st_size, (logical + offset) // PAGE)
                            owners.setdefault((physical + offset) // PAGE, place)
        finally:
            subprocess.run(["umount", mountpoint], check=True)
    return owners


def boot(rivals, log):
    append = ("console=ttyS0 quiet loglevel=3 mitigations=off panic=-1 systemd.mask=serial-getty@ttyS0.service "
              "bench.marker bench.mode=disk bench.fs=erofs bench.ra=0")
    machine = Machine(kernel=f"{rivals}/vmlinuz", initrd=f"{rivals}/initrd", append=append, memory=1536,
                      disks=[(f"{rivals}/plain.erofs", "base")])
    machine.command += ["-trace", "virtio_blk_handle_read", "-D", log]
    with machine:
        machine.expect("BENCH-MARK root-mounted", 300)
        machine.expect("BENCH-MARK multi-user", 600)
        end = os.path.getsize(log)
        state, _ = machine.expect(r"BENCH-INFO state=(\S+)", 300)
    return state[1], end


def main():
    rivals, out = sys.argv[1], sys.argv[2]
    with tempfile.TemporaryDirectory() as work:
        log = os.path.join(work, "reads")
        state, end = boot(rivals, log)
        with open(log, encoding="ascii", errors="replace") as file:
            text = file.read(end)
    owners, seen, runs = block_owners(f"{rivals}/plain.erofs"), set(), []
    for sector, count in re.findall(r"virtio_blk_handle_read .*sector (\d+) nsectors (\d+)", text):
        for block in range(int(sector) // 8, (int(sector) + int(count) + 7) // 8):
            if block in seen or block not in owners:
                continue
            seen.add(block)
            path, size, page = owners[block]
            if runs and runs[-1][3] == path and runs[-1][0] + runs[-1][1] == page:
                runs[-1][1] += 1
            else:
                runs.append([page, 1, size, path])
    pages = sum(run[1] for run in runs)
    with open(out, "w", encoding="utf-8") as file:
        file.write(f"# First touches of file pages of a boot to multi-user.target (state {state}):\n"
                   f"# {pages} pages of {PAGE} bytes = {pages * PAGE} bytes of {len({run[3] for run in runs})} files.\n"
                   "# Recorded by benches/boot/record.py, which describes the lines.\n")
        numbers = {}
        for first, count, size, path in runs:
            if path not in numbers:
                numbers[path] = len(numbers)
                file.write(f"+ {size} {path}\n")
            file.write(f"{numbers[path]} {first} {count}\n")
    print(f"{pages} pages, {len(runs)} runs, state {state}: {out}")


main()
