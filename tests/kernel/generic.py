"""Cases of our own after those of the conformance suites of kernel file systems: listings, direct input and output, file
handles and times. `generic.py ROOT` runs each on the objects that `prepare` of generic.rs makes."""
import ctypes
import mmap
import os
import subprocess
import sys
import time

import handles

libc = ctypes.CDLL(None, use_errno=True)
libc.opendir.restype = libc.readdir.restype = ctypes.c_void_p
for call in (libc.readdir, libc.rewinddir, libc.closedir, libc.telldir):
    call.argtypes = [ctypes.c_void_p]
libc.telldir.restype = ctypes.c_long
libc.seekdir.argtypes = [ctypes.c_void_p, ctypes.c_long]
# Lengths of a page, and of the files.
PAGE, LENGTH = 4096, 64 * 4096


class Entry(ctypes.Structure):
    _fields_ = [("ino", ctypes.c_uint64), ("off", ctypes.c_int64), ("length", ctypes.c_uint16), ("kind", ctypes.c_uint8),
                ("name", ctypes.c_char * 256)]


def entries(directory):
    """Names and the places after them."""
    while entry := libc.readdir(directory):
        yield ctypes.cast(entry, ctypes.POINTER(Entry)).contents.name.decode(), libc.telldir(directory)


def times(path):
    seen = os.lstat(path)
    return seen.st_mtime_ns, seen.st_ctime_ns


def changed(path, work):
    """Which of modification and change time differ after `work`."""
    before = times(path)
    time.sleep(0.02)
    work()
    after = times(path)
    # What is not in the kernel's cache is no other.
    handles.forget()
    assert times(path) == after, (path, "cold")
    return before[0] != after[0], before[1] != after[1]


def data_changes_both_times(root, kind):
    path = f"{root}/{kind}/data"

    def mapped():
        with open(path, "r+b") as file, mmap.mmap(file.fileno(), PAGE) as pages:
            pages[5] = 77
            pages.flush()

    def written():
        with open(path, "r+b") as file:
            file.write(b"x")

    def direct():
        fd = os.open(path, os.O_RDWR | os.O_DIRECT)
        os.pwritev(fd, [mmap.mmap(-1, PAGE)], PAGE)
        os.close(fd)

    for work in (mapped, written, direct, lambda: os.truncate(path, LENGTH + 1), lambda: os.truncate(path, LENGTH),
                 lambda: open(path, "wb").close(), lambda: open(path, "wb").close()):
        assert changed(path, work) == (True, True), work


def attributes_change_the_change_time(root, kind):
    path = f"{root}/{kind}/attributes"
    moved = path + ".moved"
    for before, after, work in (
            (path, path, lambda: os.chmod(path, 0o640)), (path, path, lambda: os.chown(path, 5, 6)),
            (path, path, lambda: os.setxattr(path, "trusted.x", b"1")), (path, path, lambda: os.removexattr(path, "trusted.x")),
            (path, path, lambda: os.link(path, path + ".link")), (path, path, lambda: os.unlink(path + ".link")),
            (path, moved, lambda: os.rename(path, moved)),
            (moved, moved, lambda: subprocess.run(["setfacl", "-m", "u:7:r", moved], check=True))):
        known = times(before)
        time.sleep(0.02)
        work()
        handles.forget()
        assert times(after)[0] == known[0] and times(after)[1] > known[1], (before, after, work.__code__.co_firstlineno)


def names_change_their_directories(root, kind):
    one, two = f"{root}/{kind}/one", f"{root}/{kind}/two"

    def renamed():
        os.rename(f"{one}/f", f"{two}/g")

    before = times(two)
    assert changed(one, renamed) == (True, True)
    assert times(two)[0] > before[0] and times(two)[1] > before[1]
    for work in (lambda: open(f"{one}/new", "w").close(), lambda: os.mkdir(f"{one}/sub"), lambda: os.rmdir(f"{one}/sub"),
                 lambda: os.symlink("x", f"{one}/link"), lambda: os.unlink(f"{one}/link"),
                 lambda: os.rename(f"{one}/new", f"{one}/newer"), lambda: os.link(f"{two}/g", f"{one}/linked")):
        assert changed(one, work) == (True, True), work


def times_before_1970_stay(root, kind):
    path = f"{root}/{kind}/attributes.moved"
    os.utime(path, ns=(-315593940 * 10**9, -315593940 * 10**9 + 1))
    handles.forget()
    seen = os.stat(path)
    found = seen.st_atime_ns, seen.st_mtime_ns
    assert found == (-315593940 * 10**9, -315593940 * 10**9 + 1), found


def a_listing_goes_on_at_each_place(root, kind):
    directory = libc.opendir(os.fsencode(f"{root}/{kind}/many"))
    found = list(entries(directory))
    names = [name for name, _ in found]
    assert len(set(names)) == len(names) == 302, len(names)
    for number in (0, 1, 2, 63, 64, 65, 150, 299, 300, 301):
        libc.seekdir(directory, found[number][1])
        assert [name for name, _ in entries(directory)] == names[number + 1:], number
    # What is new is there after rewinddir, what is gone is not.
    open(f"{root}/{kind}/many/new", "w").close()
    os.unlink(f"{root}/{kind}/many/7")
    libc.rewinddir(directory)
    again = [name for name, _ in entries(directory)]
    assert sorted(again) == sorted(set(names) - {"7"} | {"new"})
    libc.closedir(directory)


def a_listing_ends_while_each_name_gets_another(root, kind):
    directory = libc.opendir(os.fsencode(f"{root}/{kind}/many"))
    seen = []
    for name, _ in entries(directory):
        if name not in (".", ".."):
            seen.append(name)
            os.rename(f"{root}/{kind}/many/{name}", f"{root}/{kind}/many/{name}.renamed")
    libc.closedir(directory)
    assert len(seen) == 300 and not any(name.endswith(".renamed") for name in seen), len(seen)


def direct_input_and_output_with_a_mapping_of_the_same_file(root, kind):
    path = f"{root}/{kind}/direct"
    fd = os.open(path, os.O_RDWR | os.O_DIRECT)
    with mmap.mmap(fd, LENGTH) as pages:
        expected = bytearray(pages)
        expected[8 * PAGE:12 * PAGE] = expected[:4 * PAGE]
        assert os.preadv(fd, [memoryview(pages)[8 * PAGE:12 * PAGE]], 0) == 4 * PAGE
        assert bytes(pages[8 * PAGE:12 * PAGE]) == expected[:4 * PAGE], "read into a mapping"
        handles.forget()
        assert os.pwritev(fd, [memoryview(pages)[4 * PAGE:8 * PAGE]], 20 * PAGE) == 4 * PAGE
        expected[20 * PAGE:24 * PAGE] = expected[4 * PAGE:8 * PAGE]
        assert bytes(pages) == expected, "written from a mapping"
        pages.flush()
    os.close(fd)
    handles.forget()
    with open(path, "rb") as file:
        assert file.read() == expected, "cold"


def direct_and_buffered_see_each_other(root, kind):
    path = f"{root}/{kind}/direct"
    direct, buffered = os.open(path, os.O_RDWR | os.O_DIRECT), os.open(path, os.O_RDWR)
    page = mmap.mmap(-1, PAGE)
    for number in range(40):
        text = bytes([number]) * PAGE
        page[:] = text
        at = number % 10 * PAGE
        if number % 2:
            os.pwritev(direct, [page], at)
            assert os.pread(buffered, PAGE, at) == text, number
        else:
            os.pwrite(buffered, text, at)
            page[:] = bytes(PAGE)
            os.preadv(direct, [page], at)
            assert page[:] == text, number
    # Beyond the end, and over it.
    page[:] = b"e" * PAGE
    assert os.pwritev(direct, [page], LENGTH + PAGE) == PAGE
    assert os.fstat(buffered).st_size == LENGTH + 2 * PAGE
    assert os.pread(buffered, PAGE, LENGTH) == bytes(PAGE)
    assert os.preadv(direct, [page], LENGTH + 2 * PAGE) == 0
    os.close(direct)
    os.close(buffered)


def handles_of_open_objects_without_a_name(root, kind):
    path, where = f"{root}/{kind}/unlinked", f"{root}/{kind}/removed"
    taken = handles.take(path), handles.take(where)
    held = os.open(path, os.O_RDWR), os.open(where, os.O_RDONLY | os.O_DIRECTORY)
    os.unlink(path)
    os.rmdir(where)
    handles.forget()
    for handle, fd in zip(taken, held):
        again = handles.opened(root, handle, os.O_PATH)
        assert os.stat(again).st_ino == os.stat(fd).st_ino and os.stat(again).st_nlink == 0
        os.close(again)
        os.close(fd)
    handles.forget()
    for handle in taken:
        assert handles.tell(root, handle) == "errno 116", handles.tell(root, handle)


def handles_after_renames_of_the_directories_above(root, kind):
    os.makedirs(f"{root}/{kind}/one/deep/er", exist_ok=True)
    with open(f"{root}/{kind}/one/deep/er/f", "w") as file:
        file.write("deep")
    taken = handles.take(f"{root}/{kind}/one/deep/er/f")
    os.rename(f"{root}/{kind}/one/deep", f"{root}/{kind}/two/deep")
    os.rename(f"{root}/{kind}/two", f"{root}/{kind}/three")
    handles.forget()
    assert handles.tell(root, taken).endswith(" deep"), handles.tell(root, taken)
    os.rename(f"{root}/{kind}/three", f"{root}/{kind}/two")


CASES = (data_changes_both_times, attributes_change_the_change_time, names_change_their_directories, times_before_1970_stay,
         a_listing_goes_on_at_each_place, a_listing_ends_while_each_name_gets_another,
         direct_input_and_output_with_a_mapping_of_the_same_file, direct_and_buffered_see_each_other,
         handles_of_open_objects_without_a_name, handles_after_renames_of_the_directories_above)

if __name__ == "__main__":
    for place in ("low", "up"):
        for case in CASES:
            try:
                case(sys.argv[1], place)
            except Exception as error:
                sys.exit(f"{case.__name__} in {place}: {error!r}, line {error.__traceback__.tb_next.tb_lineno if error.__traceback__.tb_next else 0}")
