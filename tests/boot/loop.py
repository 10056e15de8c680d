#!/usr/bin/env python3
"""The closed loop on a real Debian: import, boot through iPXE, `apt install` from a small local
repository, `layerfs push` over a real ssh, a boot pack of what the boot told, boot what came of it, roll
back, cherry-pick, compact, and boot from a disk with the server down. Asserted from inside the guest.

    loop.py [--tree DIR] [--site DIR] [--poweroffs N]

--tree names a tree of tests/boot/tree.sh; --poweroffs adds N boots that only end."""

import argparse
import hashlib
import http.server
import json
import os
import shutil
import subprocess
import threading

from machine import BootError, free_port, run_script, wait_port
from office import BAKERY, STATIC, TOP, Site, call, opened, report

REPORTER = "layerfs-boot-report.service"
PACKAGE = "layerfs-probe"
MOTD = "Printers are on the second floor."


class Loop(Site):
    """A site with an sshd, a watcher and a package repository."""

    def __init__(self, directory):
        super().__init__(directory)
        self.ssh_port, self.apt_port = free_port(), free_port()
        self.processes = []
        self.repository = os.path.join(self.directory, "apt")
        self.ssh = os.path.join(self.directory, "ssh")
        self.spool = os.path.join(self.directory, "spool")

    def prepare(self, source):
        """The tree: a copy with the client, a key, the server's host key and the repository's line."""
        os.makedirs(self.ssh)
        call("cp", "-a", "--reflink=auto", source + "/.", self.tree)
        for key in ("host", "client"):
            call("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", key, "-f", f"{self.ssh}/{key}")
        shutil.copy(STATIC, f"{self.tree}/usr/bin/layerfs")
        units = f"{self.tree}/etc/systemd/system"
        shutil.copy(os.path.join(TOP, "dist", "systemd", REPORTER), units)
        os.symlink(f"../{REPORTER}", f"{units}/multi-user.target.wants/{REPORTER}")
        os.makedirs(f"{self.tree}/root/.ssh", exist_ok=True)
        shutil.copy(f"{self.ssh}/client", f"{self.tree}/root/.ssh/id_ed25519")
        with open(f"{self.ssh}/host.pub", encoding="ascii") as public:
            host = public.read()
        write(f"{self.tree}/root/.ssh/known_hosts", f"[10.0.2.2]:{self.ssh_port} {host}")
        for name in os.listdir(f"{self.tree}/etc/apt/sources.list.d"):
            os.remove(f"{self.tree}/etc/apt/sources.list.d/{name}")
        write(f"{self.tree}/etc/apt/sources.list", f"deb [trusted=yes] http://10.0.2.2:{self.apt_port} ./\n")
        self.make_repository()

    def make_repository(self):
        os.makedirs(self.repository)
        package = f"{self.repository}/{PACKAGE}.deb"
        shutil.move(f"{self.tree}/root/{PACKAGE}.deb", package)
        with open(package, "rb") as file:
            content = file.read()
        control = call("dpkg-deb", "--field", package).rstrip("\n")
        write(f"{self.repository}/Packages", f"{control}\nFilename: ./{PACKAGE}.deb\nSize: {len(content)}\n"
              f"SHA256: {hashlib.sha256(content).hexdigest()}\n\n")

    def start_all(self):
        self.start()
        handler = type("Quiet", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
        web = http.server.ThreadingHTTPServer(
            ("127.0.0.1", self.apt_port), lambda *given: handler(*given, directory=self.repository))
        threading.Thread(target=web.serve_forever, daemon=True).start()
        spool = self.spool
        self.bakery("authorize", f"{self.ssh}/client.pub", "--systems", "office", "--spool", spool,
                    "--file", f"{self.ssh}/authorized_keys")
        write(f"{self.ssh}/config", f"""ListenAddress 127.0.0.1:{self.ssh_port}
HostKey {self.ssh}/host
AuthorizedKeysFile {self.ssh}/authorized_keys
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin prohibit-password
PidFile none
""")
        os.makedirs("/run/sshd", exist_ok=True)
        self.spawn("sshd", "/usr/sbin/sshd", "-D", "-e", "-f", f"{self.ssh}/config")
        self.spawn("watch", BAKERY, "--store", self.store, "watch", "--spool", spool, "--rescan", "1")
        wait_port(self.ssh_port)

    def spawn(self, name, *command):
        with open(f"{self.directory}/logs/{name}.log", "ab") as log:
            self.processes.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log))

    def close(self):
        for process in self.processes:
            process.terminate()
            process.wait(20)
        self.processes = []
        super().close()

    def boot(self, name, check, **options):
        """One boot: up, `check`, a clean end."""
        with self.machine(name, **options) as machine:
            when = self.check_running(machine)
            found = check(machine) if check else ""
            self.power_off(machine)
            report(f"{name}: multi-user after {when:.1f} s, off after {machine.seconds():.1f} s  {found}")
            return found


def write(path, text):
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def changed(machine):
    """The package is installed and the edit exists."""
    machine.run(f"test \"$({PACKAGE})\" = 'probe 1.0' && grep -q '{MOTD}' /etc/motd && test ! -e /etc/issue.net && "
                f"dpkg --verify {PACKAGE} && getent passwd {PACKAGE} && test -s /var/lib/{PACKAGE}.state")
    return "has the change"


def unchanged(machine):
    """Neither package nor edit exists."""
    machine.run(f"! command -v {PACKAGE} && ! grep -q '{MOTD}' /etc/motd && test -e /etc/issue.net && "
                f"! dpkg -s {PACKAGE} && ! getent passwd {PACKAGE}")
    return "is as before"


def run(site):
    def change_and_push(machine):
        unchanged(machine)
        machine.run(f"apt-get -q update && DEBIAN_FRONTEND=noninteractive apt-get -q -y install {PACKAGE} && "
                    f"echo '{MOTD}' >> /etc/motd && rm /etc/issue.net", 300)
        changed(machine)
        _, sent = machine.run(f"for i in $(seq 90); do systemctl is-active -q {REPORTER} || break; sleep 1; done; "
                              f"systemctl show -P Result {REPORTER}; systemctl show -P ExecMainStatus {REPORTER}", 120)
        if sent.split() != ["success", "0"]:
            machine.fail(f"{REPORTER} did not tell the server of this boot: {sent}")
        _, told = machine.run(f"chmod 600 /root/.ssh/id_ed25519; layerfs push -q --wait -m 'probe and printers' "
                              f"--to root@10.0.2.2:office --ssh 'ssh -p {site.ssh_port} -o BatchMode=yes'", 300)
        return told.splitlines()[-1]

    site.boot("A-ipxe", change_and_push, netboot=True)
    pushed = site.newest()
    history = json.loads(site.bakery("--json", "log", "office", "--spool", site.spool))
    if not any(revision["revision"] == pushed - 1 and revision.get("boots") for revision in history):
        raise BootError(f"the server has no times of boot A: {history}")
    site.bakery("pack", "office", "--spool", site.spool)

    def packed(machine):
        machine.run("layerfs status / | grep -q '\"pack\":\"complete'")
        return changed(machine) + ", came in a pack"

    site.boot("B-pushed", packed, netboot=True)
    site.bakery("profile", "add", "office/room", "--from", f"office@{pushed - 1}")
    site.bakery("rollback", f"office@{pushed - 1}", "-m", "not for everybody")
    site.boot("C-rolled-back", unchanged)
    site.boot("D0-room", unchanged, root="office/room")
    site.bakery("cherry-pick", f"office@{pushed}", "--onto", "office/room")

    def push_again(machine):
        changed(machine)
        _, told = machine.run(f"date > /etc/second-layer; chmod 600 /root/.ssh/id_ed25519; layerfs push -q --wait -m second --to "
                              f"root@10.0.2.2:office/room --ssh 'ssh -p {site.ssh_port} -o BatchMode=yes'", 300)
        return told.splitlines()[-1]

    # Compaction needs two layers of the profile's own.
    site.boot("D-picked", push_again, root="office/room")
    before = site.manifest("room")["tree_digest"]
    site.bakery("compact", "office/room")
    if site.manifest("room")["tree_digest"] != before:
        raise BootError("compaction changed the tree")
    disk = os.path.join(site.directory, "disk")
    call("truncate", "-s", "1G", disk)
    call("mkfs.ext4", "-q", "-L", "spare", disk)

    def filled(machine):
        changed(machine)
        machine.run("for i in $(seq 120); do ls /run/layerfs/backup/layerfs-backup/refs/office/room/* && exit 0; sleep 1; done; exit 1", 150)
        return "is compacted, same tree; backup complete"

    backup = {"root": "office/room", "extra": "layerfs.backup=LABEL=spare", "disks": [(disk, "spare")]}
    site.boot("E-compacted", filled, **backup)
    site.stop()
    site.boot("F-no-server", changed, **backup)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tree", required=True)
    parser.add_argument("--site")
    parser.add_argument("--poweroffs", type=int, default=0)
    given = parser.parse_args()
    with opened(Loop, given.site) as site:
        site.prepare(given.tree)
        site.make_store()
        site.start_all()
        run(site)
        site.start()
        for number in range(given.poweroffs):
            site.boot(f"poweroff-{number + 1}", None)


if __name__ == "__main__":
    run_script(main)
