#!/usr/bin/env python3
"""A boot with `layerfs.upper=tmpfs,kernel`: the kernel's overlayfs over a read-only mount of layerfs.

    kernel_upper.py --tree DIR [--site DIR]

The system reaches `running`; status, push and hello find the mount below; a switch is refused; the
machine powers off cleanly.
"""

import argparse
import shutil

from machine import run_script
from office import STATIC, Site, call, opened, report


def check(site, machine):
    site.check_running(machine, root="overlay")
    _, below = machine.run("findmnt -n -o FSTYPE,TARGET -t fuse.layerfs")
    if below.split() != ["fuse.layerfs", "/run/initramfs/layerfs/lower"]:
        machine.fail(f"layerfs is mounted elsewhere: {below}")
    _, status = machine.run("layerfs status / | head -n 3; layerfs status /run/layerfs/lower | head -n 3")
    if status.count("upper: none (read-only)") != 2:
        machine.fail(f"no status: {status}")
    machine.run("mkdir /root/many && for n in $(seq 300); do echo $n > /root/many/$n; done && rm -r /root/many")
    machine.run("mv /usr/share/doc /usr/share/papers && chmod 700 /usr/share/papers && rm /etc/motd && echo new > /etc/issue")
    _, changes = machine.run("layerfs push --dry-run --yes 2>&1 || :")
    for path in ("/etc/issue", "/etc/motd", "/usr/share/papers"):
        if path not in changes:
            machine.fail(f"the push does not name {path}:\n{changes}")
    _, said = machine.run("layerfs hello 2>&1 || :")
    if "Read-only" in said:
        machine.fail(f"the daemon receives no hello: {said}")
    code, said = machine.run("layerfs switch 2>&1", check=False)
    if code == 0 or "does not switch" not in said:
        machine.fail(f"a switch below overlayfs was not refused: {said}")


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--tree", required=True)
    arguments.add_argument("--site")
    arguments = arguments.parse_args()
    with opened(Site, arguments.site) as site:
        call("cp", "-a", "--reflink=auto", f"{arguments.tree}/.", site.tree)
        shutil.copy(STATIC, f"{site.tree}/usr/bin/layerfs")
        site.make_store()
        site.start()
        with site.machine("kernel", extra="layerfs.upper=tmpfs,kernel") as machine:
            check(site, machine)
            site.power_off(machine)
            report(f"powered off after {machine.seconds():.1f} s")


if __name__ == "__main__":
    run_script(main)
