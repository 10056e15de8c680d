#!/usr/bin/env python3
"""Real boot loaders read `bakery serve`: GRUB 2.06 and 2.12 (BIOS and UEFI), lpxelinux and iPXE, each in QEMU.

    loaders.py --tree DIR --loaders DIR [--only NAME[,NAME]]

Each gets its program by TFTP from QEMU, as from any network, then menu, kernel and initramfs by HTTP from the server, on a
port that is not 80. The boot goes as far as needed: the kernel starts the initramfs, which reads its command line with our own
shell library, says which card booted and powers off. The fleet process then knows the machine by its UUID, and the steps of
its boot (docs/FLEET.md, F5.1; not with lpxelinux). --tree has a kernel; --loaders is what loaders.sh made.
"""

import argparse
import glob
import json
import os
import shutil
import subprocess
import tempfile

from machine import Machine, free_port, run_script, wait_port
from office import BAKERY, HERE, Verdicts, report

INITRD = os.path.join(HERE, "..", "..", "initrd")
MAC = "52:54:00:00:00:01"
GRUB_MODULES = "net http tftp normal linux echo test true configfile sleep serial terminal minicmd smbios"

INIT = """#!/bin/sh
mount -t proc proc /proc
. /cmdline.sh
lf_parse "$(cat /proc/cmdline)"
echo "LOADED $(cat /proc/cmdline)"
echo "CARD $lf_bootif ROOT $lf_url"
poweroff -f
"""


def make_initrd(directory):
    """A busybox, our shell library and a file with the name of the client."""
    tree = os.path.join(directory, "initrd")
    os.makedirs(os.path.join(tree, "bin"))
    os.makedirs(os.path.join(tree, "proc"))
    os.makedirs(os.path.join(tree, "dev"))
    shutil.copy("/bin/busybox", os.path.join(tree, "bin/busybox"))
    for applet in ("sh", "mount", "cat", "poweroff"):
        os.symlink("busybox", os.path.join(tree, "bin", applet))
    shutil.copy(os.path.join(INITRD, "lib/cmdline.sh"), tree)
    for path, text in (("init", INIT), ("bin/layerfs", "#!/bin/sh\n")):
        with open(os.path.join(tree, path), "w", encoding="ascii") as file:
            file.write(text)
        os.chmod(os.path.join(tree, path), 0o755)
    os.mknod(os.path.join(tree, "dev/console"), 0o20600, os.makedev(5, 1))
    image = os.path.join(directory, "initrd.img")
    with open(image, "wb") as file:
        names = subprocess.run(["find", "."], cwd=tree, stdout=subprocess.PIPE, check=True)
        subprocess.run(["cpio", "--quiet", "-o", "-H", "newc"], cwd=tree, input=names.stdout, stdout=file, check=True)
    return image


class Server:
    """A store with one system, served on a free port."""

    def __init__(self, directory, tree):
        self.store = os.path.join(directory, "store")
        self.port = free_port()
        kernel = sorted(glob.glob(os.path.join(tree, "boot/vmlinuz-*")))[-1]
        small = os.path.join(directory, "tree")
        os.makedirs(os.path.join(small, "usr/sbin"))
        for name in ("init",):
            shutil.copy("/bin/busybox", os.path.join(small, "usr/sbin", name))
        os.symlink("usr/sbin", os.path.join(small, "sbin"))
        os.makedirs(os.path.join(small, "etc"))
        self.bakery("init")
        self.bakery("import", "kiosk", small, "--kernel", kernel, "--initrd", make_initrd(directory),
                    "--cmdline", "console=ttyS0,115200 panic=1 quiet", "-m", "it's the first")
        self.spool = os.path.join(directory, "spool")
        os.makedirs(self.spool)
        self.fleet = subprocess.Popen([BAKERY, "--store", self.store, "fleet", "--spool", self.spool])
        self.process = subprocess.Popen(
            [BAKERY, "--store", self.store, "serve", "--listen", f"127.0.0.1:{self.port}", "--menu-timeout", "2",
             "--fleet", "--spool", self.spool])
        wait_port(self.port)

    def machine(self, name):
        """A machine that the fleet process knows."""
        done = subprocess.run([BAKERY, "--json", "--store", self.store, "machine", "--spool", self.spool, "show", name],
                              check=False, capture_output=True, text=True, timeout=60)
        return json.loads(done.stdout) if done.returncode == 0 else {"boot": {}}

    def bakery(self, *words):
        subprocess.run([BAKERY, "-q", "--store", self.store, *words], check=True, stdout=subprocess.DEVNULL)

    def close(self):
        for process in (self.process, self.fleet):
            process.terminate()
            process.wait(30)


def grub_image(loaders, suite, platform, tftp, port):
    """GRUB for the network, its configuration on our server."""
    root = os.path.join(loaders, suite, "tree")
    pxe = platform == "i386-pc-pxe"
    with open(os.path.join(root, "start.cfg"), "w", encoding="ascii") as file:
        file.write("serial --unit=0 --speed=115200\nterminal_output serial\nterminal_input serial\nset pager=0\n")
        if not pxe:
            file.write("net_bootp\n")
        file.write(f"configfile (http,10.0.2.2:{port})/grub.cfg\n")
    modules = GRUB_MODULES.split() + (["pxe"] if pxe else ["efinet"])
    subprocess.run(["chroot", root, "/usr/bin/grub-mkimage", "-O", platform, "-o", "/image", "-p", "/grub",
                    "-c", "/start.cfg", *modules], check=True)
    shutil.move(os.path.join(root, "image"), os.path.join(tftp, "grub"))
    return "grub"


def lpxelinux(loaders, tftp, port):
    """lpxelinux with an embedded path of its configuration, in place of a DHCP option."""
    root = os.path.join(loaders, "bookworm", "tree")
    for path in ["usr/lib/PXELINUX/lpxelinux.0"] + \
            [f"usr/lib/syslinux/modules/bios/{name}.c32" for name in ("ldlinux", "menu", "libutil")]:
        shutil.copy(os.path.join(root, path), tftp)
    subprocess.run([os.path.join(root, "usr/bin/pxelinux-options"),
                    "--after", "config-file", f"http://10.0.2.2:{port}/pxelinux.cfg/default",
                    "--after", "path-prefix", "tftp://10.0.2.2/", os.path.join(tftp, "lpxelinux.0")], check=True)
    return "lpxelinux.0"


def boot(name, server, loaders, directory):
    tftp = os.path.join(directory, name)
    os.makedirs(tftp)
    firmware = []
    if name == "ipxe":
        start = f"http://10.0.2.2:{server.port}/ipxe/kiosk"
    elif name == "lpxelinux":
        start = lpxelinux(loaders, tftp, server.port)
    else:
        _, version, kind = name.split("-")
        suite = {"2.06": "bookworm", "2.12": "trixie"}[version]
        platform = {"bios": "i386-pc-pxe", "uefi": "x86_64-efi"}[kind]
        start = grub_image(loaders, suite, platform, tftp, server.port)
        if kind == "uefi":
            code = os.path.join(loaders, "bookworm/tree/usr/share/OVMF/OVMF_CODE.fd")
            firmware = ["-drive", f"if=pflash,format=raw,readonly=on,file={code}"]
    uuid = f"4c4c4544-0042-3510-8051-b4c04f5644{NAMES.index(name):02x}"
    firmware += ["-uuid", uuid]
    with Machine(netboot=start, tftp=tftp, memory=768, devices=firmware, log=os.path.join(directory, f"{name}.log")) as machine:
        machine.allowed.add("kernel panic")
        line, _ = machine.expect(r"LOADED (.*)", 300)
        card, _ = machine.expect(r"CARD (\S*) ROOT (\S*)", 30)
        wanted = f"root=layerfs:http://10.0.2.2:{server.port}/kiosk/main@1 ip=dhcp console=ttyS0,115200"
        if wanted not in line[1]:
            machine.fail(f"{name}: the command line is {line[1]!r}")
        if card[1].lower() != MAC:
            machine.fail(f"{name}: the card that booted is {card[1]!r}, not {MAC}; {line[1]!r}")
        known = server.machine(uuid)
        found = (known["boot"].get("step"), known["boot"].get("revision"), known.get("uuid"))
        if name not in ("lpxelinux", "ipxe") and found != ("initramfs", "kiosk/main@1", uuid):
            machine.fail(f"{name}: the fleet knows {found}")
        report(f"{name}: loaded after {machine.seconds():.0f} s")


NAMES = ["ipxe", "lpxelinux", "grub-2.06-bios", "grub-2.12-bios", "grub-2.06-uefi", "grub-2.12-uefi"]


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--tree", required=True)
    arguments.add_argument("--loaders", required=True)
    arguments.add_argument("--only", default=",".join(NAMES))
    arguments = arguments.parse_args()
    verdicts = Verdicts()
    with tempfile.TemporaryDirectory(prefix="layerfs-loaders.") as directory:
        server = Server(directory, arguments.tree)
        try:
            for name in arguments.only.split(","):
                verdicts.run(name, boot, name, server, os.path.abspath(arguments.loaders), directory)
        finally:
            server.close()
    verdicts.end()


if __name__ == "__main__":
    run_script(main)
