#!/usr/bin/env python3
"""A live ISO in ALT's layout, from `bakery import` to a running system: the packed system is the file
`live`, which has the modules but no kernel; kernel and initrd lie beside it in boot/. It boots by the
command lines that ALT's menus have, with nothing in them changed but the method.

    alt.py --tree DIR [--site DIR]
"""

import argparse
import os

from machine import run_script
from office import Site, call, opened, report

# The lines of ALT's netboot menus (p11, and before bootchain), with the server and the directory filled in.
P11 = ("fastboot root=bootchain bootchain=fg,altboot stagename=live ramdisk_size=490013 showopts vga=normal "
       "automatic=method:http,server:{server},directory:/srv/public/netinst/workstation ip=dhcp tz=Europe/Moscow lang=ru_RU")
OLD = ("fastboot live changedisk stagename=live ramdisk_size=490013 showopts lowmem vga=normal quiet "
       "automatic=method:http,network:dhcp,server:{server},directory:/srv/public/netinst/workstation tz=Europe/Moscow lang=ru_RU")


def make_iso(site, tree):
    """The tree as an ISO of ALT's layout."""
    image = os.path.join(site.directory, "iso")
    for name in ("ALTLinux/RPMS.main", "Metadata", "boot/grub", "syslinux", "EFI/BOOT", ".disk"):
        os.makedirs(os.path.join(image, name))
    kernel = [name for name in os.listdir(os.path.join(tree, "boot")) if name.startswith("vmlinuz-")][0]
    call("cp", os.path.join(tree, "boot", kernel), os.path.join(image, "boot", "vmlinuz"))
    # ALT's own initrd, which a layerfs boot does not use: any archive is sufficient.
    with open(os.path.join(image, "boot", "initrd.img"), "wb") as file:
        file.write(b"070701" + b"0" * 104)
    call("mksquashfs", tree, os.path.join(image, "live"), "-comp", "zstd", "-Xcompression-level", "3", "-noappend", "-quiet", "-no-progress",
         "-p", ".rw d 755 0 0", "-wildcards", "-e", "boot/vmlinuz*", "boot/initrd*", "vmlinuz*", "initrd*", timeout=900)
    for name, text in ((".disk/info", "ALT Workstation test\n"), ("index.html", "<html></html>\n"), ("2026-01-02-03-04-05-06", "")):
        with open(os.path.join(image, name), "w", encoding="utf-8") as file:
            file.write(text)
    iso = os.path.join(site.directory, "workstation.iso")
    call("xorriso", "-as", "mkisofs", "-quiet", "-R", "-J", "-V", "ALT Workstation", "-o", iso, image, timeout=600)
    return iso


def run(site, tree):
    iso = make_iso(site, tree)
    report(f"{iso}: {os.path.getsize(iso)} bytes")
    site.bakery("init")
    site.bakery("import", "workstation", iso, "--level", "3", "-m", "a live ISO")
    said = site.bakery("initrd", "workstation", "--drivers", "common", "--initrd-level", "3")
    report(said.strip().replace("\n", "; "))
    site.start()
    server = site.url.removeprefix("http://")
    for name, line in (("p11", P11), ("old", OLD)):
        with site.machine(f"alt-{name}", system="workstation", root=None, extra=line.format(server=server)) as machine:
            when = site.check_running(machine)
            machine.run("test -d /.rw/rw && echo written > /etc/written && test \"$(cat /.rw/rw/etc/written)\" = written")
            site.power_off(machine)
        report(f"alt, {name}: multi-user after {when:.1f} s, running, off after {machine.seconds():.1f} s")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tree", required=True)
    parser.add_argument("--site")
    given = parser.parse_args()
    with opened(Site, given.site) as site:
        run(site, given.tree)


if __name__ == "__main__":
    run_script(main)
