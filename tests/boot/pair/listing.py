#!/usr/bin/python3
"""listing.py URL: sends one JSON line for each object of the root's file system, with all that a program can see of it except
inode numbers: type, permissions, owner, links, size, time, extended attributes and a digest of the content. The objects of
the upper are marked: they are this machine's own."""

import hashlib
import json
import os
import stat
import sys
import urllib.request

UPPER = "/run/layerfs/upper/rw"


def digest(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()[:32] if hasattr(hashlib, "file_digest") else hashlib.blake2b(file.read()).hexdigest()[:32]


def describe(path, found):
    line = {"path": path, "mode": oct(found.st_mode), "owner": [found.st_uid, found.st_gid], "time": found.st_mtime_ns}
    line["upper"] = os.path.lexists(UPPER + path)
    if stat.S_ISDIR(found.st_mode):
        line["names"] = len(os.listdir(path))
    else:
        line.update(links=found.st_nlink, size=found.st_size, device=found.st_rdev)
    if stat.S_ISLNK(found.st_mode):
        line["target"] = os.readlink(path)
    if stat.S_ISREG(found.st_mode):
        line["content"] = digest(path)
    names = [name for name in os.listxattr(path, follow_symlinks=False) if not name.startswith("user.layerfs.")]
    line["attributes"] = {name: os.getxattr(path, name, follow_symlinks=False).hex() for name in sorted(names)}
    return line


def main():
    device = os.lstat("/").st_dev
    lines = []
    for place, directories, names in os.walk("/"):
        directories[:] = [name for name in directories if os.lstat(os.path.join(place, name)).st_dev == device]
        for name in ["", *names, *(one for one in directories if os.path.islink(os.path.join(place, one)))]:
            path = os.path.join(place, name) if name else place
            try:
                found = os.lstat(path)
                if found.st_dev == device:
                    lines.append(json.dumps(describe(path, found)))
            except FileNotFoundError:
                pass
    body = "\n".join(lines).encode()
    urllib.request.urlopen(urllib.request.Request(sys.argv[1], data=body, method="PUT"), timeout=600).read()


if __name__ == "__main__":
    main()
