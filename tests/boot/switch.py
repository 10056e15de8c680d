#!/usr/bin/env python3
"""A live update of real machines: machine A installs packages and pushes; machine B takes each revision while it runs, under
the load of a desktop (tests/boot/pair/load.py).

    switch.py [--tree DIR] [--site DIR] [--acts NAME,…]

auto      B follows: the push of an apt upgrade arrives without a reboot; B then equals a new boot of the revision (A's), object
          for object, and `dpkg --verify` says the same; its bytes are a tenth of those of the boot
notify    B announces; a dry run names the service with old files, --restart-units restarts it and no other
back      the older revision, live, and the newest again
reboot    another initramfs and other kernel parameters: /run/reboot-required, which did not exist before
lost      the server is lost in the middle of a switch: B keeps the revision and works; the next attempt succeeds
killed    the command is killed in the middle: no harm, and the next command succeeds
equal     after all these B equals a new boot once more; nothing that was held has changed, no service failed
"""

import argparse
import concurrent.futures
import http.server
import json
import os
import random
import shutil
import subprocess
import threading
import time
from hashlib import sha256

from gate import Gate
from loop import Loop, write
from machine import BootError, free_port, run_script
from office import CONSOLE, TOP, call, opened, report

PAIR = os.path.join(os.path.dirname(os.path.abspath(__file__)), "pair")
LIBRARIES = "usr/lib/x86_64-linux-gnu"
AIM = 0.1       # of the bytes of a boot
FOLLOW = "layerfs-follow.service"
MOTD = "Printers are on the second floor."
# What a switch changes in a running system, besides the files.
UNIT = """[Unit]
Description=Service of the switch test, version {version}

[Service]
ExecStart=/usr/sbin/{program}
{more}
[Install]
WantedBy=multi-user.target
"""
# As debhelper's: a package restarts its service, and starts a new one.
POSTINST = """#!/bin/sh
set -e
systemctl enable -q {services}
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload
    systemctl restart {services}
fi
"""


def content(seed, length):
    return random.Random(seed).randbytes(length)


def package(place, version):
    """Version 1, 2 or 3 of the package `probe`; its file."""
    root = os.path.join(place, f"probe-{version}")
    source = os.path.join(place, f"source-{version}")
    shutil.copytree(PAIR, source)
    with open(f"{source}/table", "wb") as file:
        file.write(content(f"table {version}", 1 << 18))
    for directory in ("DEBIAN", "etc", LIBRARIES, "usr/bin", "usr/sbin", "usr/lib/systemd/system", "usr/share/probe/tree"):
        os.makedirs(f"{root}/{directory}")
    compiler = ["gcc", "-O1", "-Wall", "-Werror", f'-DPROBE_VERSION="{version}"', f"-I{source}"]
    library = f"{root}/{LIBRARIES}/libprobe.so.1"
    call("sh", "-c", 'cd "$1"; shift; exec "$@"', "sh", source, *compiler, "-fPIC", "-shared", "-Wl,-soname,libprobe.so.1", "libprobe.c", "-o", library)
    for name, directory in (("probe", "usr/bin"), ("probed", "usr/sbin")):
        call(*compiler, f"{source}/{name}.c", library, "-o", f"{root}/{directory}/{name}")
    rest = content(f"data {version}", 1 << 18)
    with open(f"{root}/usr/share/probe/data", "wb") as file:
        file.write(f"{version}\n{sha256(rest).hexdigest()}\n".encode() + rest)
    # A file that stays, one that changes, one for each version; a directory for each version.
    for name, text in (("same", "the same"), ("other", f"of version {version}"), (f"only-{version}", "alone")):
        write(f"{root}/usr/share/probe/tree/{name}", f"{text}\n")
    os.makedirs(f"{root}/usr/share/probe/place-{version}")
    write(f"{root}/usr/share/probe/place-{version}/file", f"{version}\n")
    write(f"{root}/etc/probe.conf", f"version = {version}\n")
    write(f"{root}/DEBIAN/conffiles", "/etc/probe.conf\n")
    services = ["probed"] + (["probe-second"] if version > 1 else [])
    write(f"{root}/usr/lib/systemd/system/probed.service",
          UNIT.format(version=version, program="probed", more=f"Environment=PROBE_UNIT={version}\n"))
    if version > 1:
        write(f"{root}/usr/lib/systemd/system/probe-second.service", UNIT.format(version=version, program="probe-second", more=""))
        write(f"{root}/usr/sbin/probe-second", "#!/bin/sh\nexec sleep infinity\n")
        os.chmod(f"{root}/usr/sbin/probe-second", 0o755)
    write(f"{root}/DEBIAN/control", f"Package: probe\nVersion: {version}\nArchitecture: amd64\n"
          "Maintainer: layerfs tests <nobody@example.org>\nDescription: a service to update\n")
    write(f"{root}/DEBIAN/postinst", POSTINST.format(services=" ".join(services)))
    os.chmod(f"{root}/DEBIAN/postinst", 0o755)
    file = os.path.join(place, f"probe_{version}_amd64.deb")
    call("dpkg-deb", "--root-owner-group", "--build", root, file)
    return file


class Pair(Loop):
    """A site with two machines, each behind a gate of its own."""

    def __init__(self, directory):
        super().__init__(directory)
        self.gates = {}
        self.told = os.path.join(self.directory, "told")
        os.makedirs(self.told, exist_ok=True)
        self.tell_port = self.serve_tells()

    def serve_tells(self):
        """Takes what a machine sends (PUT); the port."""
        told = self.told

        class Tells(http.server.BaseHTTPRequestHandler):
            def do_PUT(self):
                with open(os.path.join(told, os.path.basename(self.path)), "wb") as file:
                    file.write(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(201)
                self.end_headers()

            def log_message(self, *_):
                pass

        web = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Tells)
        threading.Thread(target=web.serve_forever, daemon=True).start()
        return web.server_address[1]

    def make_repository(self):
        """Three versions of the package; the first is in the tree."""
        os.makedirs(self.repository)
        entries = []
        for version in (1, 2, 3):
            file = package(self.repository, version)
            control = call("dpkg-deb", "--field", file).rstrip("\n")
            with open(file, "rb") as opened_file:
                digest = sha256(opened_file.read()).hexdigest()
            entries.append(f"{control}\nFilename: ./{os.path.basename(file)}\nSize: {os.path.getsize(file)}\nSHA256: {digest}\n\n")
        write(f"{self.repository}/Packages", "".join(entries))
        shutil.copy(f"{self.repository}/probe_1_amd64.deb", f"{self.tree}/root/probe.deb")
        call("chroot", self.tree, "dpkg", "--install", "/root/probe.deb")
        os.remove(f"{self.tree}/root/probe.deb")

    def prepare(self, source):
        super().prepare(source)
        units = f"{self.tree}/etc/systemd/system"
        shutil.copy(os.path.join(TOP, "dist", "systemd", FOLLOW), units)
        os.symlink(f"../{FOLLOW}", f"{units}/multi-user.target.wants/{FOLLOW}")
        for name in ("load.py", "listing.py"):
            shutil.copy(os.path.join(PAIR, name), f"{self.tree}/usr/local/sbin/{name}")
        hooks = f"{self.tree}/etc/layerfs/switch.d"
        os.makedirs(hooks)
        write(f"{hooks}/10-note", "#!/bin/sh\necho \"$*\" >> /run/hooks\n")
        os.chmod(f"{hooks}/10-note", 0o755)

    def start_all(self):
        super().start_all()
        self.gates = {name: Gate(self.port) for name in "ab"}

    def close(self):
        for gate in self.gates.values():
            gate.close()
        super().close()

    def boot_machine(self, name, follow, **options):
        url = f"{self.gates[name].url}/office"
        return self.machine(name, root=None, extra=f"root=layerfs:{url} layerfs.follow={follow}", **options)

    def name(self, revision):
        return f"office/main@{revision}"


class Guest:
    """One of the machines, with the questions of this test."""

    def __init__(self, site, name, machine):
        self.site, self.name, self.machine = site, name, machine
        self.gate = site.gates[name]

    def run(self, script, timeout=600, check=True):
        return self.machine.run(script, timeout, check)[1].strip()

    def fails(self, message):
        self.machine.fail(f"machine {self.name}: {message}")

    def require(self, what, found, wanted):
        if found != wanted:
            self.fails(f"{what}: {found!r}, not {wanted!r}")

    def wait(self, what, is_so, seconds=600):
        """Waits for something in the machine; returns the seconds."""
        begun = time.monotonic()
        while not is_so():
            if time.monotonic() > begun + seconds:
                self.fails(f"never: {what}")
            self.machine.poll(0.5)
        return time.monotonic() - begun

    def up(self):
        """Boots to the end; seconds and bytes."""
        before = self.gate.received
        when = self.site.check_running(self.machine)
        # Later messages of the kernel must not fill the console while nobody reads it.
        self.run("dmesg -n 1; chmod 600 /root/.ssh/id_ed25519")
        return when, self.gate.received - before

    def revision(self):
        status = json.loads(self.run("layerfs status --json /"))
        self.require("requests that met a fault", status["panics"], 0)
        return status["source"]["revision"]

    def boot_id(self):
        return self.run("cat /proc/sys/kernel/random/boot_id")

    def load(self):
        return json.loads(self.run("cat /run/load.json"))

    def services(self):
        """The invocation of each service that runs."""
        text = self.run("systemctl show --type=service --state=running -p Id -p InvocationID '*'")
        blocks = (dict(line.split("=", 1) for line in block.splitlines()) for block in text.split("\n\n") if block)
        return {block["Id"]: block["InvocationID"] for block in blocks}

    def verify(self):
        """The output of dpkg --verify."""
        return documents_apart(self.run("dpkg --verify", 1800, check=False))

    def switch(self, arguments, timeout=900):
        """`layerfs switch`: exit code and report."""
        code, text = self.machine.run(f"layerfs switch {arguments}", timeout, check=False)
        return code, text.strip()

    def listing(self):
        """Each object of the root, by path."""
        name = f"listing-{self.name}"
        self.run(f"nice -n 5 python3 /usr/local/sbin/listing.py http://10.0.2.2:{self.site.tell_port}/{name}", 1800)
        with open(os.path.join(self.site.told, name), encoding="utf-8") as file:
            return {line["path"]: line for line in map(json.loads, file)}

    def push(self, message):
        """Pushes; the revision."""
        before = self.site.newest()
        self.run(f"layerfs push -q --wait -m '{message}' --to root@10.0.2.2:office "
                 f"--ssh 'ssh -p {self.site.ssh_port} -o BatchMode=yes'", 900)
        self.require("the revision after the push", self.site.newest(), before + 1)
        return before + 1

    def upgrade(self, version):
        self.run(f"apt-get -q update && DEBIAN_FRONTEND=noninteractive apt-get -q -y -o Dpkg::Options::=--force-confnew install probe={version}", 900)


def documents_apart(text):
    """Lines of dpkg --verify; the tree was made without documents."""
    return sorted(line for line in text.splitlines() if "/usr/share/doc/" not in line)


def compare(one, other, what):
    """Fails if two machines differ in an object that neither of them has in its upper."""
    differing = []
    for path in sorted(one.keys() | other.keys()):
        found = [listing.get(path) for listing in (one, other)]
        if any(line and line["upper"] for line in found) or found[0] == found[1]:
            continue
        differing.append(f"{path}: {found[0]} and {found[1]}")
    if differing:
        raise BootError(f"{what}: {len(differing)} objects differ\n" + "\n".join(differing[:20]))
    ours = sum(line["upper"] for listing in (one, other) for line in listing.values())
    report(f"{what}: equal: {len(one)} objects ({ours} in one of the uppers)")


def all_services_but(before, after, restarted):
    """The services whose invocation differs are exactly `restarted`."""
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    return changed ^ set(restarted)


class Play:
    """The acts, in order."""

    def __init__(self, site, a, b):
        self.site, self.a, self.b = site, a, b
        self.figures, self.missed = {}, []
        self.version = self.before = 1      # of the package on B, and in the revision before

    def begin(self):
        """The load of B; the state from which everything is compared."""
        a, b = self.a, self.b
        # As a session of a desktop: not a service.
        b.run("systemd-run -q --scope --unit=load setsid /usr/bin/python3 /usr/local/sbin/load.py > /run/load.log 2>&1 &")
        b.wait("the load runs", lambda: b.run("test -s /run/load.json && echo yes", check=False) == "yes")
        b.wait("its first round", lambda: b.load()["held"] > 2 and b.load()["programs"] > 2 and b.load()["answer"] != "")
        self.boot_id, self.first = b.boot_id(), self.site.newest()
        self.connections = 1
        b.require("answer", b.load()["answer"].split()[1::2][:2], ["1", "1"])
        self.old_verify = documents_apart(call("chroot", self.site.tree, "sh", "-c", "dpkg --verify || :", timeout=1800))

    def circumstances(self):
        """What a reader of a failure wants to see of B."""
        try:
            return self.b.run(f"cat /run/hooks /run/load.json; journalctl -b -o short-monotonic --no-pager -u {FOLLOW} | tail -n 20; "
                              "dmesg | grep layerfs | tail -n 20; timeout 120 layerfs switch --dry-run; layerfs status / | tail -n 3; systemctl --failed --no-legend --plain")
        except (BootError, OSError) as error:
            return str(error)

    def still_runs(self, moment):
        """Nothing that runs on B has noticed anything."""
        b, load = self.b, self.b.load()
        b.require(f"faults {moment}", load["faults"], [])
        b.require(f"boot {moment}", b.boot_id(), self.boot_id)
        b.require(f"connections {moment}", load["connections"], self.connections)
        b.require(f"state {moment}", b.run("systemctl is-system-running", check=False), "running")
        return load

    def shows(self, version, answer):
        """B has version `version` on disk, and the service answers as `answer` says."""
        b = self.b
        before = b.load()
        b.wait("a round of the load", lambda: b.load()["held"] > before["held"] + 1 and b.load()["programs"] > before["programs"] + 1
               and b.load()["answers"] > before["answers"] + 1)
        said = b.load()
        b.require("the program", said["program"].split()[1:4:2], [str(version)] * 2)
        b.require("the service", said["answer"].split()[1::2], answer)
        b.require("the directory of a process", said["resident"], f"only-{version} other same")
        b.require("the package", b.run("dpkg-query -W -f '${Version}' probe; head -n 1 /usr/share/probe/data; cat /etc/probe.conf; ls -1 /usr/share/probe"),
                  f"{version}{version}\nversion = {version}\ndata\nplace-{version}\ntree")
        return said

    def auto(self):
        site, a, b = self.site, self.a, self.b
        # What the load reads for the first time would count as bytes of the switch.
        b.wait("a round of its readers", lambda: b.load()["rounds"] > 0, 900)
        services = b.services()
        a.upgrade(2)
        a.run(f"echo '{MOTD}' >> /etc/motd && rm /etc/issue.net")
        verified_before = a.verify()
        before, begun = b.gate.received, time.monotonic()
        revision = a.push("probe 2, printers")
        pushed = time.monotonic() - begun
        b.wait("the switch", lambda: b.revision() == site.name(revision), 120)
        self.figures["from the push to the switch, s"] = round(time.monotonic() - begun, 1)
        self.figures["of which the push, s"] = round(pushed, 1)
        load = self.still_runs("after the switch")
        b.require("the edit", b.run(f"grep -c '{MOTD}' /etc/motd; test ! -e /etc/issue.net && echo gone"), "1\ngone")
        old = load["answer"].split()[5]
        self.shows(2, ["1", "1", old, "1", "1"])
        # Everything that the revision changed is read now.
        b.run("cat $(dpkg -L probe | while read f; do test -f $f && echo $f; done) /var/lib/dpkg/status > /dev/null")
        switched = b.gate.received - before
        b.require("services that restarted", all_services_but(services, b.services(), []), set())
        b.require("reboot-required", b.run("test ! -e /run/reboot-required && echo none"), "none")
        b.require("hooks", b.run("cat /run/hooks"), f"before {site.name(self.first)} {site.name(revision)}\nafter {site.name(self.first)} {site.name(revision)}")
        journal = b.run(f"journalctl -b -o cat --no-pager -u {FOLLOW}; journalctl -b -k -o cat --no-pager -g 'another revision'", check=False)
        if f"{site.name(self.first)} to {site.name(revision)}: " not in journal or "the mount shows another revision" not in journal:
            b.fails(f"the journal does not tell of the switch:\n{journal}")
        b.require("old files", "probed" in journal and "probed.service" in journal, True)
        if "newest revision" in b.run("layerfs status / | grep 'newest revision'", check=False):
            b.fails("the status still offers the revision")
        report(f"auto: {journal.splitlines()[0]}")
        # The new service is there, and can be started.
        b.run("systemctl start probe-second && systemctl is-active -q probe-second && systemctl stop probe-second")
        # A, after its push, boots the revision.
        a.machine.send("systemctl --no-block reboot")
        a.machine.expect(r"layerfs: root released, reboot", 600)
        a.machine.rebooted()
        a.gate.received = 0
        seconds, booted = a.up()
        a.require("the revision of A", a.revision(), site.name(revision))
        self.figures |= {"bytes of the switch and all changed files": switched, "bytes of a boot": booted, "ratio": round(switched / booted, 4)}
        if switched > AIM * booted:
            self.missed.append(f"the switch needed {switched} bytes, a boot {booted}")
        one, two = a.verify(), b.verify()
        a.require("dpkg --verify of the boot and the switch", one, two)
        a.require("dpkg --verify of the machine that pushed", one, verified_before)
        news = [line.split()[-1] for line in one if line not in self.old_verify]
        a.require("dpkg --verify, what is new", news, ["/etc/issue.net"])
        compare(a.listing(), b.listing(), "the switched machine and a boot")
        a.run("systemctl is-active probe-second")
        self.still_runs("after act auto")
        self.version = 2

    def notify(self):
        site, a, b = self.site, self.a, self.b
        b.run(f"mkdir -p /run/systemd/system/{FOLLOW}.d && printf '[Service]\\nExecStart=\\nExecStart=/usr/bin/layerfs follow --mode notify /\\n' "
              f"> /run/systemd/system/{FOLLOW}.d/mode.conf && systemctl daemon-reload && systemctl restart {FOLLOW}")
        older, self.before, self.version = site.newest(), self.version, 3
        a.upgrade(3)
        revision = a.push("probe 3")
        b.wait("the announcement", lambda: b.run("test -s /run/layerfs/new-revision && echo yes", check=False) == "yes", 300)
        b.require("the revision", b.revision(), site.name(older))
        told = b.run(f"journalctl -b -o cat --no-pager -u {FOLLOW} | grep 'is out'")
        report(f"notify: {told}")
        b.require("status --check", site.name(revision) + " is out; " in b.run("layerfs status --check /"), True)
        hooks = b.run("cat /run/hooks", check=False)
        code, text = b.switch("--dry-run --json")
        planned = json.loads(text)
        b.require("the dry run", (code, planned["outcome"], planned["conflict_count"]), (0, "planned", 0))
        units = {program["unit"] for program in planned["programs"]}
        b.require("units that would use old files", units, {"probed.service", "load.scope"})
        b.require("hooks after a dry run", b.run("cat /run/hooks", check=False), hooks)
        b.require("the revision after a dry run", b.revision(), site.name(older))
        services = b.services()
        begun = time.monotonic()
        code, text = b.switch("--restart-units --json")
        report(f"notify: the command took {time.monotonic() - begun:.1f} s")
        done = json.loads(text)
        self.figures["the switch with its restarts, ms of the mount"] = done["took_ms"]
        b.require("the switch", (code, done["outcome"]), (0, "done"))
        b.require("restarted", done["restarted"], ["probed.service"])
        b.require("services that restarted", all_services_but(services, b.services(), {"probed.service"}), set())
        b.require("units with old files", {program["unit"] for program in done["programs"]}, {"load.scope"})
        b.wait("the load has a connection again", lambda: b.load()["connections"] == 2)
        self.connections = 2
        self.still_runs("after the restarts")
        answer = b.load()["answer"].split()
        self.shows(3, ["3", "3", answer[5], "3", "3"])
        b.require("the announcement", b.run("test ! -e /run/layerfs/new-revision && echo gone"), "gone")
        b.require("reboot-required", b.run("test ! -e /run/reboot-required && echo none"), "none")
        # The machine that pushed has the same in its upper.
        code, text = a.switch("--dry-run")
        report(f"notify: the machine that pushed, code {code}: {' / '.join(text.splitlines()[:4])}")
        a.require("its switch", a.switch("--force")[0], 0)
        a.require("its revision", a.revision(), site.name(revision))

    def back(self):
        site, b = self.site, self.b
        newest = site.newest()
        for revision, version in ((newest - 1, self.before), (newest, 3)):
            code, text = b.switch(f"@{revision}")
            b.require("the switch", code, 0)
            report(f"back: {text.splitlines()[0]}")
            answer = b.load()["answer"].split()
            self.shows(version, ["3", "3", answer[5], "3", "3"])
            self.still_runs(f"on {revision}")
        # The service still has the files that it started with, under names that it knows.
        code, text = b.switch("--json")
        b.require("the same revision", (code, json.loads(text)["outcome"]), (0, "same"))

    def reboot(self):
        site, b = self.site, self.b
        # This act and the next are about commands: nothing else may ask for a revision.
        b.run(f"systemctl stop {FOLLOW}")
        site.bakery("set", "office", "--cmdline", f"{CONSOLE} further=parameter")
        site.bakery("initrd", "office", "--drivers", "common", "--initrd-level", "2")
        code, text = b.switch("")
        b.require("the switch", code, 0)
        b.require("what the next start brings", "other with the next start: initramfs, kernel parameters" in text, True)
        b.require("reboot-required", b.run("cat /run/reboot-required"), "*** System restart required ***")
        report(f"reboot: {' / '.join(text.splitlines()[:2])}")
        self.still_runs("after act reboot")

    def in_the_middle(self):
        """A new revision, and a switch to it that has got a part of its index."""
        site, b = self.site, self.b
        self.older = site.newest()
        self.a.run(f"echo {self.older} > /etc/step-{self.older}")
        self.a.push("a step")
        # Nothing else may ask the server.
        b.run("systemctl kill -s STOP load.scope")
        b.gate.hold_after(16 * 1024)
        b.run("systemd-run -q --unit=middle /usr/bin/layerfs switch --json")
        begun = time.monotonic()
        while not b.gate.held.wait(0.5):
            b.machine.poll(0.2)
            if time.monotonic() > begun + 120:
                b.fails("the switch asks for nothing")
        b.require("the revision in the middle", b.revision(), site.name(self.older))

    def goes_on(self):
        """The load after the middle of a switch."""
        self.b.run("systemctl reset-failed middle; systemctl kill -s CONT load.scope")
        before = self.b.load()["held"]
        self.b.wait("a round of the load", lambda: self.b.load()["held"] > before + 1)

    def lost(self):
        site, b = self.site, self.b
        self.in_the_middle()
        site.stop()
        b.gate.release()
        begun = time.monotonic()
        b.run("head -n 1 /usr/share/probe/data && probe && echo written > /etc/meanwhile && rm /etc/meanwhile")
        b.wait("the end of the command", lambda: b.run("systemctl is-active middle", check=False) in ("failed", "inactive"), 900)
        said = b.run("journalctl -b -o cat --no-pager -u middle | tail -n 30")
        report(f"lost: the command gave up after {time.monotonic() - begun:.0f} s: {' '.join(said.split())[-300:]}")
        b.require("the revision", b.revision(), site.name(self.older))
        b.require("hooks", b.run("tail -n 1 /run/hooks"), f"failed {site.name(self.older)} {site.name(self.older + 1)}")
        self.goes_on()
        self.still_runs("without a server")
        site.start()
        code, text = b.switch("")
        b.require("the switch with the server", (code, b.revision()), (0, site.name(self.older + 1)))
        report(f"lost: then {text.splitlines()[0]}")

    def killed(self):
        site, b = self.site, self.b
        self.in_the_middle()
        b.run("kill -9 $(systemctl show -P MainPID middle)")
        b.require("the revision", b.revision(), site.name(self.older))
        code, text = b.switch("")
        b.require("another command", (code, "a switch is running" in text), (2, True))
        b.gate.release()
        b.wait("the end of the switch", lambda: b.switch("")[0] == 0, 120)
        b.require("the revision at the end", b.revision(), site.name(self.older + 1))
        self.goes_on()
        self.still_runs("after a killed command")

    def equal(self):
        a, b = self.a, self.b
        a.machine.send("systemctl --no-block reboot")
        a.machine.expect(r"layerfs: root released, reboot", 600)
        a.machine.rebooted()
        a.up()
        a.require("the revision of A", a.revision(), b.revision())
        a.require("dpkg --verify", a.verify(), b.verify())
        compare(a.listing(), b.listing(), "the machine of many switches and a boot")
        load = self.still_runs("at the end")
        errors = b.run("journalctl -b -p err -o cat --no-pager", check=False)
        report(f"equal: load: {({name: load[name] for name in load if isinstance(load[name], (int, float))})}; errors in the journal: {errors or 'none'}")


ACTS = ("auto", "notify", "back", "reboot", "lost", "killed", "equal")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tree", required=True)
    parser.add_argument("--site")
    parser.add_argument("--acts", default=",".join(ACTS))
    given = parser.parse_args()
    begun = time.monotonic()
    with opened(Pair, given.site) as site:
        if not os.path.exists(site.ssh):
            site.prepare(given.tree)
        site.make_store()
        site.start_all()
        with site.boot_machine("a", "no", reboots=True) as machine_a, site.boot_machine("b", "auto") as machine_b:
            play = Play(site, Guest(site, "a", machine_a), Guest(site, "b", machine_b))
            with concurrent.futures.ThreadPoolExecutor() as pool:
                for seconds, count in pool.map(Guest.up, (play.a, play.b)):
                    report(f"up after {seconds:.0f} s, {count} bytes")
            play.begin()
            for act in given.acts.split(","):
                try:
                    getattr(play, act)()
                except BootError as error:
                    raise BootError(f"{act}: {error}\n{play.circumstances()}") from error
                report(f"{act}: passed {json.dumps(play.figures)}")
            for guest in (play.a, play.b):
                site.power_off(guest.machine)
    report(json.dumps(play.figures))
    if play.missed:
        raise BootError("; ".join(play.missed))
    report(f"all passed in {time.monotonic() - begun:.0f} s")


if __name__ == "__main__":
    run_script(main)
