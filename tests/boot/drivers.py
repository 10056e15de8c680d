#!/usr/bin/env python3
"""The initramfs for one machine, with the modules of a real kernel: for every PCI id of every network driver of
`--drivers all`, the answer of the server holds that driver with all that it needs (docs/BOOT.md).

    drivers.py --tree DIR [--default]

--tree has a kernel with its modules. What a driver needs is asked of kmod: modprobe names dependencies and soft
dependencies, modinfo firmware. Every firmware file that a module names is put into the tree, with its name as
content. With --default the initramfs is compressed as by default, which takes minutes, and its length for virtio and
for e1000e is compared with those of the whole one and of `--drivers common`.
"""

import argparse
import glob
import http.client
import json
import lzma
import os
import re
import shutil
import subprocess
import time

from machine import BootError, run_script
from office import BAKERY, Site, call, opened, report

# What `--drivers all` means.
NETWORK = ("drivers/net/ethernet/", "drivers/net/hyperv/", "drivers/net/vmxnet3/", "drivers/net/virtio_net.ko",
           "drivers/net/xen-netfront.ko")
PHYS = ("drivers/net/phy/", "drivers/net/mdio/", "drivers/net/pcs/")
IN_FLASH = ("phanfw.bin", "cxgb4/t4fw.bin", "cxgb4/t5fw.bin", "cxgb4/t6fw.bin")
# Vendors whose cards are several PCI devices.
SEVERAL = ("177D", "1957", "1131", "19E5")
ID = re.compile(r"pci:v([0-9A-F]{8}|\*)d([0-9A-F]{8}|\*)sv")
# The bus id of a card that has no driver.
UNKNOWN = "01-de-ad-be-ef"


def module_name(path):
    return os.path.basename(path).split(".ko")[0].replace("-", "_")


class Kernel:
    """The modules of a tree, as kmod knows them."""

    def __init__(self, tree):
        self.tree = tree
        self.release = os.path.basename(glob.glob(os.path.join(tree, "lib/modules/*/modules.dep"))[0].rsplit("/", 1)[0])
        self.directory = os.path.join(tree, "lib/modules", self.release)
        self.paths, self.needs, self.aliases, self.soft = {}, {}, {}, {}
        for line in self.lines("modules.dep"):
            path, needs = line.split(":")
            self.paths[module_name(path)] = path
            self.needs[module_name(path)] = [module_name(one) for one in needs.split()]
        for line in self.lines("modules.alias"):
            if line.startswith("alias "):
                pattern, name = line[6:].rsplit(" ", 1)
                self.aliases.setdefault(name, []).append(pattern)
        for line in self.lines("modules.softdep"):
            if line.startswith("softdep "):
                _, name, rest = line.split(" ", 2)
                self.soft.setdefault(name, set()).update(word.replace("-", "_") for word in rest.split())
        self.phys = {name for name, patterns in self.aliases.items()
                     if any(one.startswith("mdio:") for one in patterns) and self.is_in(name, PHYS)}
        self.shown = {}

    def lines(self, name):
        with open(os.path.join(self.directory, name), encoding="utf-8") as file:
            return file.read().splitlines()

    def is_in(self, name, places):
        return self.paths.get(name, "").removeprefix("kernel/").startswith(places)

    def network(self):
        return sorted(name for name in self.paths if self.is_in(name, NETWORK))

    def content(self, name):
        with open(os.path.join(self.directory, self.paths[name]), "rb") as file:
            data = file.read()
        if self.paths[name].endswith(".xz"):
            return lzma.decompress(data)
        return data

    def loaded_with(self, name):
        """The modules that modprobe loads for this one."""
        if name not in self.shown:
            said = call("modprobe", "-d", self.tree, "-S", self.release, "-C", "/dev/null", "-D", name)
            self.shown[name] = {module_name(line.split()[1]) for line in said.splitlines() if line.startswith("insmod ")}
        return self.shown[name]

    def needed(self, name):
        """All modules that the card of a driver may need."""
        needed = set(self.loaded_with(name))
        for other in self.network():
            if name in self.hard(other) or any(one.startswith(f"auxiliary:{name}.") for one in self.aliases.get(other, ())):
                needed |= self.loaded_with(other)
        uses_phys = any(b"\0phy_connect\0" in data or b"\0phy_connect_direct\0" in data or b"\0phylink_create\0" in data
                        for data in (self.content(one) for one in needed))
        if uses_phys and not self.soft.get(name, set()) & self.phys:
            for phy in self.phys:
                needed |= self.loaded_with(phy)
        return needed

    def hard(self, name):
        found, todo = set(), [name]
        while todo:
            one = todo.pop()
            if one not in found:
                found.add(one)
                todo += self.needs.get(one, ())
        return found

    def firmware(self, name):
        said = call("modinfo", "-b", self.tree, "-k", self.release, "-F", "firmware", name)
        return {line for line in said.split("\n") if line and line not in IN_FLASH and ".." not in line}


def small_tree(source, directory):
    """Only what an initramfs is made of; with every firmware that a network driver asks for."""
    tree = os.path.join(directory, "drivers")
    modules = glob.glob(os.path.join(source, "lib/modules/*/modules.dep"))[0].rsplit("/", 1)[0]
    release = os.path.basename(modules)
    target = os.path.join(tree, "lib/modules", release)
    os.makedirs(os.path.join(tree, "boot"))
    os.makedirs(os.path.join(tree, "etc"))
    for path in glob.glob(os.path.join(modules, "modules.*")):
        os.makedirs(target, exist_ok=True)
        shutil.copy(path, target)
    for path in glob.glob(os.path.join(modules, "kernel", "**", "*.ko*"), recursive=True):
        place = os.path.join(target, os.path.relpath(path, modules))
        os.makedirs(os.path.dirname(place), exist_ok=True)
        shutil.copyfile(path, place)
    for name in (f"vmlinuz-{release}", f"config-{release}"):
        shutil.copy(os.path.join(source, "boot", name), os.path.join(tree, "boot"))
    kernel = Kernel(tree)
    for name in kernel.network() + sorted(kernel.phys):
        for file in kernel.firmware(name):
            place = os.path.join(tree, "lib/firmware", file)
            os.makedirs(os.path.dirname(place), exist_ok=True)
            with open(place, "w", encoding="utf-8") as out:
                out.write(file)
    return kernel


def unpacked(data):
    """Names of the files of an initramfs: archives one after the other, each plain or compressed."""
    names = set()
    while data:
        if data[:1] == b"\0":
            data = data.lstrip(b"\0")
        elif data.startswith(b"070701"):
            data = data[read_archive(data, names):]
        elif data.startswith(b"\xfd7zXZ"):
            decoder = lzma.LZMADecompressor(lzma.FORMAT_XZ)
            read_all(decoder.decompress(data), names)
            data = decoder.unused_data
        elif data.startswith(b"\x28\xb5\x2f\xfd"):
            # All frames that follow.
            read_all(subprocess.run(["zstd", "-dcq"], input=data, capture_output=True, check=True).stdout, names)
            data = b""
        else:
            raise BootError(f"no archive begins with {data[:8]!r}")
    return names


def read_all(data, names):
    while data := data.lstrip(b"\0"):
        data = data[read_archive(data, names):]


def read_archive(data, names):
    at = 0
    while True:
        if data[at:at + 6] != b"070701":
            raise BootError("not a cpio archive")
        length, name_length = int(data[at + 54:at + 62], 16), int(data[at + 94:at + 102], 16)
        name = data[at + 110:at + 110 + name_length - 1].decode()
        start = (at + 110 + name_length + 3) & ~3
        at = (start + length + 3) & ~3
        if at > len(data):
            raise BootError("the archive is cut")
        if name == "TRAILER!!!":
            return at
        names.add(name)


class Answers:
    """The server's answers, each read once."""

    def __init__(self, site, path):
        self.port, self.path = site.port, path
        self.files, self.lengths = {}, {}

    def ask(self, query, method="GET", **headers):
        """Status, headers and body, over a connection of its own: the server closes an idle one."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=300)
        try:
            connection.request(method, f"{self.path}{query}", headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def get(self, query, method="HEAD"):
        status, headers, data = self.ask(query, method)
        if status != 200:
            raise BootError(f"{status} for {query}")
        return headers["ETag"], int(headers["Content-Length"]), data

    def of(self, query):
        """The tag of an answer."""
        tag, length, _ = self.get(query)
        if tag not in self.files:
            same, also, data = self.get(query, "GET")
            if (same, also, len(data)) != (tag, length, length):
                raise BootError(f"{query}: HEAD and GET differ")
            self.files[tag], self.lengths[tag] = unpacked(data), length
        return tag


def concrete(pattern):
    """The bus id of a device with this alias, as iPXE writes it; None if it names none."""
    if not (found := ID.match(pattern)):
        return None
    vendor, device = found.groups()
    if "*" in vendor + device:
        return None
    text = f"01{vendor[4:]}{device[4:]}".lower()
    return "-".join(text[at:at + 2] for at in range(0, 10, 2))


def check_drivers(kernel, answers, whole):
    """Every id of every driver: (ids, drivers)."""
    ids = drivers = 0
    for name in kernel.network():
        cards = {card for pattern in kernel.aliases.get(name, ()) if (card := concrete(pattern))}
        if not cards:
            continue
        drivers += 1
        needed = kernel.needed(name)
        vendors = {card[3:8].replace("-", "").upper() for card in cards}
        for other in kernel.network():
            if any(ID.match(one) and ID.match(one)[1][4:] in vendors & set(SEVERAL) for one in kernel.aliases.get(other, ())):
                needed |= kernel.loaded_with(other)
        needed |= {module for one in kernel.network() if any(alias.startswith("xen:") for alias in kernel.aliases.get(one, ()))
                   for module in kernel.loaded_with(one)}
        files = {f"lib/modules/{kernel.release}/{kernel.paths[one].split('.ko')[0]}.ko" for one in needed}
        for one in needed:
            files |= {f"lib/firmware/{file}" for file in kernel.firmware(one)
                      if os.path.exists(os.path.join(kernel.tree, "lib/firmware", file))}
        for card in sorted(cards):
            ids += 1
            tag = answers.of(f"?card={card}")
            if missing := files - answers.files[tag]:
                raise BootError(f"{name}, {card}: the initramfs lacks {sorted(missing)}")
            if tag == whole:
                raise BootError(f"{name}, {card}: the whole initramfs, though its driver is known")
    return ids, drivers


def check_fallbacks(kernel, answers):
    """The tag of the whole initramfs, which every other machine gets."""
    whole = answers.of("")
    for query in (f"?card={UNKNOWN}", "?card=", "?card=07-80-86-10-d3", "?card=0a-0b-da-81-53", "?card=01-80-86", "?disks"):
        if answers.of(query) != whole:
            raise BootError(f"{query} is answered by a part of the initramfs")
    # Its drivers are in the packed file, for the client.
    if "lib/layerfs/packed" not in answers.files[whole]:
        raise BootError("the whole initramfs has no packed drivers")
    disk, card = answers.of("?card=01-1a-f4-10-00&disks"), answers.of("?card=01-1a-f4-10-00")
    more = {module_name(name) for name in answers.files[disk] - answers.files[card]}
    wanted = {one for one in ("ext4", "ahci", "nvme", "virtio_blk", "sd_mod", "usb_storage") if one in kernel.paths}
    if not wanted <= more:
        raise BootError(f"an initramfs for disks lacks {sorted(wanted - more)}")
    return whole


def check_ranges(answers):
    """A range of an answer that is made of places is that of its bytes; a tag that the client has is not sent again."""
    query = "?card=01-14-e4-16-00&disks"
    tag, length, data = answers.get(query, "GET")
    for start, end in ((0, 1), (length // 3, 2 * length // 3), (length - 5, length)):
        status, headers, part = answers.ask(query, Range=f"bytes={start}-{end - 1}")
        if (status, part, headers["ETag"]) != (206, data[start:end], tag):
            raise BootError(f"bytes {start} to {end}: {status}, {len(part)} bytes")
    status, _, _ = answers.ask(query, **{"If-None-Match": tag})
    if status != 304:
        raise BootError(f"{status} for a tag that the client has")


def check_fleet(site, digest, answers):
    """GRUB cannot name its card; the fleet knows that of the machine's last boot (docs/FLEET.md, F5.7)."""
    uuid, mac = "4c4c4544-0042-3510-8051-b4c04f564401", "52:54:00:00:00:01"
    site.stop()
    spool = os.path.join(site.directory, "spool")
    os.makedirs(spool, exist_ok=True)
    site.options = lambda: ["--fleet"]
    fleet = subprocess.Popen([BAKERY, "--store", site.store, "fleet", "--spool", spool])
    try:
        site.start()

        def path():
            """Where GRUB's menu of this machine has the initramfs."""
            menu = Answers(site, "/grub.cfg").get(f"?uuid={uuid}&mac={mac}", "GET")[2].decode()
            return re.search(r"initrd '\(http,[^)]*\)([^']*)'", menu)[1]

        def fleet_answers():
            try:
                return "?initramfs=" in path()
            except BootError:
                return False

        deadline = time.monotonic() + 120
        while not fleet_answers():
            if time.monotonic() > deadline:
                raise BootError("the fleet process does not answer")
            time.sleep(0.2)
        revision = site.manifest(system="drivers")["revision"]
        marked = f"/boot/{digest}?initramfs={uuid}&revision=drivers/main@{revision}"
        if path() != marked:
            raise BootError(f"a machine that never booted gets {path()}")
        hello = {"format": 1, "machine": {"uuid": uuid, "macs": [mac]}, "step": "mounted", "boot": "a1",
                 "card": {"mac": mac, "pci": "8086:10d3"}}
        connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=60)
        connection.request("POST", "/v1/hello", json.dumps(hello))
        status = connection.getresponse().status
        connection.close()
        if status != 204:
            raise BootError(f"{status} for a hello")
        if path() != f"{marked}&card=01-80-86-10-d3":
            raise BootError(f"a machine with a known card gets {path()}")
        if Answers(site, path()).of("") != answers.of("?card=01-80-86-10-d3"):
            raise BootError("a known card has another initramfs than a named one")
    finally:
        fleet.terminate()
        fleet.wait(60)


def check_whole(site, digest, whole):
    """The operator's choice: every machine gets the whole initramfs."""
    site.stop()
    site.options = lambda: ["--whole-initramfs"]
    site.start()
    answers = Answers(site, f"/boot/{digest}")
    if answers.of("?card=01-80-86-10-d3") != whole:
        raise BootError("a part of the initramfs in spite of --whole-initramfs")
    if "card=" in Answers(site, "/boot.ipxe").get("", "GET")[2].decode():
        raise BootError("the menu names the card in spite of --whole-initramfs")


def check_lengths(site, answers, whole):
    """The aims of the default compression."""
    common = os.path.join(site.directory, "common")
    site.bakery("initrd", "drivers", "--drivers", "common", "--output", common, timeout=3600)
    bounds = {"default": 0.25 * answers.lengths[whole], "common": 0.65 * os.path.getsize(common)}
    for name, card in (("virtio", "01-1a-f4-10-00"), ("e1000e", "01-80-86-10-d3")):
        length = answers.lengths[answers.of(f"?card={card}")]
        report(f"{name}: {length} bytes; whole {answers.lengths[whole]}, common {os.path.getsize(common)}")
        for kind, most in bounds.items():
            if length > most:
                raise BootError(f"{name}: {length} bytes are more than the aim of {most:.0f} ({kind})")


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--tree", required=True)
    arguments.add_argument("--default", action="store_true")
    arguments = arguments.parse_args()
    with opened(Site, None) as site:
        kernel = small_tree(arguments.tree, site.directory)
        site.bakery("init")
        site.bakery("import", "drivers", kernel.tree, "--level", "1", "--cmdline", "quiet", "--no-check")
        started = time.monotonic()
        site.bakery("initrd", "drivers", *([] if arguments.default else ["--initrd-level", "1"]), timeout=3600)
        report(f"initramfs made in {time.monotonic() - started:.1f} s")
        site.start()
        digest = site.manifest(system="drivers")["initrd"]["digest"]
        answers = Answers(site, f"/boot/{digest}")
        menu = Answers(site, "/boot.ipxe").get("", "GET")[2].decode()
        if f"/boot/{digest}?card=${{netX/busid:hexhyp}} " not in menu:
            raise BootError(f"the menu does not name the card:\n{menu}")
        whole = check_fallbacks(kernel, answers)
        ids, drivers = check_drivers(kernel, answers, whole)
        if ids < 500 or drivers < 60:
            raise BootError(f"{ids} ids of {drivers} drivers: Debian's kernels have more")
        lengths = sorted(length for tag, length in answers.lengths.items() if tag != whole)
        report(f"{kernel.release}: {ids} ids of {drivers} drivers, {len(lengths)} different answers of {lengths[0]} "
               f"to {lengths[-1]} bytes; the whole initramfs has {answers.lengths[whole]}")
        check_ranges(answers)
        if arguments.default:
            check_lengths(site, answers, whole)
        check_fleet(site, digest, answers)
        check_whole(site, digest, whole)


if __name__ == "__main__":
    run_script(main)
