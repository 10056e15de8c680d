"""File handles: `take ROOT PATH...` prints those of objects, `open ROOT HANDLE...` what each opens, `crowd` the same at once, `reuse ROOT` makes and
removes files of one name until their numbers are used again."""
import concurrent.futures
import ctypes
import os
import stat
import sys

libc = ctypes.CDLL(None, use_errno=True)


class Handle(ctypes.Structure):
    _fields_ = [("len", ctypes.c_uint), ("kind", ctypes.c_int), ("bytes", ctypes.c_ubyte * 128)]


def take(path):
    handle, mount = Handle(128), ctypes.c_int()
    if libc.name_to_handle_at(-100, os.fsencode(path), ctypes.byref(handle), ctypes.byref(mount), 0):
        raise OSError(ctypes.get_errno(), path)
    return handle


def forget():
    os.sync()
    with open("/proc/sys/vm/drop_caches", "w") as file:
        file.write("2")


def opened(root, handle, flags):
    mount = os.open(root, os.O_RDONLY)
    try:
        fd = libc.open_by_handle_at(mount, ctypes.byref(handle), flags)
        if fd < 0:
            raise OSError(ctypes.get_errno(), "open_by_handle_at")
        return fd
    finally:
        os.close(mount)


def tell(root, handle):
    """Number and content of the object of a handle, or the error's number."""
    try:
        fd = opened(root, handle, os.O_PATH)
        seen = os.stat(fd)
        if stat.S_ISREG(seen.st_mode):
            os.close(fd)
            fd = opened(root, handle, os.O_RDONLY)
            what = os.read(fd, 100).decode()
        elif stat.S_ISDIR(seen.st_mode):
            what = os.readlink(f"/proc/self/fd/{fd}")
        else:
            what = os.readlink("", dir_fd=fd)
        os.close(fd)
        return f"{seen.st_ino} {what}"
    except OSError as error:
        return f"errno {error.errno}"


def reuse(root):
    path, before, again = os.path.join(root, "reused"), None, 0
    for turn in range(100):
        with open(path, "w") as file:
            file.write(f"{turn}")
        now = take(path), os.stat(path).st_ino
        assert tell(root, now[0]) == f"{now[1]} {turn}"
        if before:
            assert tell(root, before[0]) == "errno 116", tell(root, before[0])
            again += before[1] == now[1]
        os.unlink(path)
        before = now
    print(again)


if __name__ == "__main__":
    what, root, *words = sys.argv[1:]
    if what == "take":
        for path in words:
            handle = take(os.path.join(root, path))
            print(handle.kind, bytes(handle.bytes[: handle.len]).hex())
    elif what == "open":
        forget()
        for kind, data in zip(words[::2], words[1::2]):
            data = bytes.fromhex(data)
            handle = Handle(len(data), int(kind), (ctypes.c_ubyte * 128)(*data))
            print(tell(root, handle))
    elif what == "crowd":
        forget()
        handles = [Handle(len(data) // 2, int(kind), (ctypes.c_ubyte * 128)(*bytes.fromhex(data)))
                   for kind, data in zip(words[::2], words[1::2])]
        with concurrent.futures.ThreadPoolExecutor(len(handles)) as pool:
            for told in pool.map(lambda handle: tell(root, handle), handles):
                print(told)
    else:
        reuse(root)
