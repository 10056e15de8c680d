#!/usr/bin/env python3
"""By the book: a live ISO that Debian's live-build made becomes the system of a fleet. A teacher logs in on one machine,
edits a file, disables a unit and pushes; another machine has these two changes and no other; a rollback takes them back.

    room.sh book.py --iso FILE [--logs DIR]

Every command is the one that README.md and docs/OPERATIONS.md name, with its defaults: store, spool, account, ports, keys,
excludes. The one thing more is a serial console, since the machines here have no screen. Runs in tests/boot/room.sh, which
is a server of its own: nothing on this machine changes. Needs `make build static docs`, and qemu-system-x86 for the machines."""

import argparse
import configparser
import json
import os
import shlex
import subprocess
import time

from machine import BootError, Machine, run_script, wait_port
from office import FIRST_BOOT, PATIENCE, TOP

SYSTEM = "classroom"
SERVER = "10.0.2.2"                 # as QEMU's network shows the server to a machine
# A machine without a screen. Its timer is emulated, so the kernel must not measure it.
SERIAL = f"console=ttyS0 no_timer_check {PATIENCE}"
LINE = "Printers are on the second floor."
UNIT = "apt-daily.timer"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--iso", required=True)
    parser.add_argument("--logs", default="/var/tmp")
    given = parser.parse_args()
    server = Server(given.logs)
    try:
        install_the_server(server)
        import_the_iso(server, given.iso)
        start_the_services(server)
        imported = server.newest()
        one = change_and_push(server)
        expect("revisions after the push", server.newest(), imported + 1)
        look_at_the_change(server, imported)
        two = find_the_change(server)
        server.run(f"bakery rollback {SYSTEM}@{imported} -m 'not yet'")
        expect("difference after the rollback", server.run(f"bakery diff {SYSTEM}@{imported} {SYSTEM}"), "")
        three = find_no_change(server)
        server.run(f"bakery log {SYSTEM}")
        server.run("bakery verify")
    finally:
        server.close()
    say(f"all done; seconds from power on to a login: {one:.0f}, {two:.0f}, {three:.0f}")


# -- the server ---------------------------------------------------------------------------------


def install_the_server(server):
    """`make install` on a machine that has sshd."""
    server.run("dist/install", directory=TOP)       # what `make install` does once everything is built
    server.run("bakery init")


def import_the_iso(server, iso):
    """Imports with the medium's own parameters, so that a live system logs in as it does from the medium."""
    server.run(f"bakery import {SYSTEM} {shlex.quote(os.path.abspath(iso))} --with-client")
    cmdline = json.loads(server.run(f"bakery show {SYSTEM} --json"))["cmdline"]
    expect("parameters", cmdline, "boot=live components quiet username=visitor hostname=classroom")
    server.run(f"bakery initrd {SYSTEM}")
    server.run(f"bakery set {SYSTEM} --cmdline '{cmdline} {SERIAL}' -m 'a serial console'")


def start_the_services(server):
    """Starts them as systemd does: `systemctl enable --now bakery-serve bakery-watch`, and Debian's sshd."""
    server.start_unit("bakery-serve.service")
    server.start_unit("bakery-watch.service")
    os.makedirs("/run/sshd", exist_ok=True)
    server.spawn("sshd", ["/usr/sbin/sshd", "-D", "-e"])
    wait_port(8080)
    wait_port(22)


# -- the machines -------------------------------------------------------------------------------


def change_and_push(server):
    with server.machine("one") as machine:
        when = log_in(machine)
        check_system(machine)
        expect(UNIT, machine.typed(f"sudo systemctl is-enabled {UNIT}"), "enabled")
        machine.typed(f"echo '{LINE}' | sudo tee -a /etc/motd")
        machine.typed(f"sudo systemctl disable --now {UNIT}")
        say(machine.typed("sudo layerfs push --dry-run", 1200))
        say(machine.typed("sudo layerfs push --wait -m 'printers; no apt timer'", 1200))
        power_off(machine)
    return when


def look_at_the_change(server, imported):
    """Two paths, and the time of the directory from which one of them was removed."""
    changes = json.loads(server.run(f"bakery diff {SYSTEM}@{imported} {SYSTEM} --json", codes=(1,)))
    paths = sorted(change["path"] for change in changes)
    wants = "etc/systemd/system/timers.target.wants"
    expect("what was pushed", [path for path in paths if path != wants], ["etc/motd", f"{wants}/{UNIT}"])


def find_the_change(server):
    with server.machine("two") as machine:
        when = log_in(machine)
        check_system(machine)
        machine.typed(f"grep -qxF '{LINE}' /etc/motd")
        expect(UNIT, machine.typed(f"sudo systemctl is-enabled {UNIT} || :"), "disabled")
        expect(f"{UNIT} now", machine.typed(f"sudo systemctl is-active {UNIT} || :"), "inactive")
        power_off(machine)
    return when


def find_no_change(server):
    with server.machine("three") as machine:
        when = log_in(machine)
        check_system(machine)
        machine.typed(f"! grep -qF '{LINE}' /etc/motd")
        expect(UNIT, machine.typed(f"sudo systemctl is-enabled {UNIT}"), "enabled")
        power_off(machine)
    return when


def log_in(machine):
    """Logs in as the live user, with the medium's name and live-config's password."""
    when = machine.prompt(r"classroom login: $", 3600)
    machine.type("visitor")
    machine.prompt(r"Password: $", 600)
    machine.type("live")
    machine.prompt(r"visitor@classroom:~\$ $", 900)
    expect("who", machine.typed("id -un"), "visitor")
    return when


def check_system(machine):
    """The machine runs on a layerfs, in state running, and not at its first boot."""
    expect("the root", machine.typed("findmnt -n -o FSTYPE /"), "fuse.layerfs")
    expect("the state", machine.typed("sudo systemctl is-system-running --wait || sudo systemctl --failed --no-legend --plain", 1800), "running")
    expect("words of a first boot", machine.typed(f"sudo journalctl -b -o cat --no-pager | grep -E '{FIRST_BOOT}' || :", 300), "")


def power_off(machine):
    machine.type("sudo systemctl poweroff")
    machine.expect(r"layerfs: root released, poweroff", 900)
    machine.wait_exit(300)


# -- implementation -----------------------------------------------------------------------------


class Server:
    """This room: it prints its commands, and its services end with it."""

    def __init__(self, logs):
        self.logs = os.path.abspath(logs)
        self.services = []
        os.makedirs(self.logs, exist_ok=True)

    def run(self, command, directory="/root", codes=(0,)):
        """Runs a command as root; returns its standard output."""
        say(f"# {command}")
        begun = time.monotonic()
        done = subprocess.run(["sh", "-c", command], cwd=directory, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=3600, check=False)
        print(done.stdout + done.stderr, end="", flush=True)
        if done.returncode not in codes:
            raise BootError(f"code {done.returncode} from: {command}")
        say(f"({time.monotonic() - begun:.0f} s)")
        return done.stdout.strip()

    def newest(self):
        return json.loads(self.run(f"bakery log {SYSTEM} --json"))[0]["revision"]

    def start_unit(self, name):
        """Runs a unit of `make install` without systemd."""
        unit = configparser.ConfigParser(strict=False, interpolation=None)
        unit.optionxform = str
        unit.read(f"/etc/systemd/system/{name}")
        service = unit["Service"]
        caps = "".join(f",+{word.removeprefix('CAP_').lower()}" for word in service.get("AmbientCapabilities", "").split())
        command = ["setpriv", f"--reuid={service['User']}", f"--regid={service['User']}", "--init-groups"]
        command += [f"--inh-caps={caps[1:]}", f"--ambient-caps={caps[1:]}"] if caps else []
        self.spawn(name, [*command, "env", *service["Environment"].split(), *service["ExecStart"].split()])

    def spawn(self, name, command):
        say(f"# {shlex.join(command)} &")
        with open(os.path.join(self.logs, f"{name}.log"), "ab") as log:
            self.services.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log))

    def machine(self, name):
        """A machine whose card starts iPXE, which gets only the address of the server's menu from DHCP."""
        return Machine(netboot=f"http://{SERVER}:8080/boot.ipxe", log=os.path.join(self.logs, f"machine-{name}.log"),
                       echo=bool(os.environ.get("ECHO")))

    def close(self):
        for service in self.services:
            service.terminate()
            service.wait(30)


def expect(what, got, wanted):
    if got != wanted:
        raise BootError(f"{what}: {got!r}, not {wanted!r}")


def say(text):
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


if __name__ == "__main__":
    run_script(main)
