#!/usr/bin/env python3
"""A real boot beside a crowd: scripted machines that boot within a minute (docs/FLEET.md, F1 and F3).

    crowd.py [--tree DIR] [--site DIR] [--machines 2000] [--within 60] [--rounds 3] [--slower 5] [--only ENGINE]

Boots the same system alone and beside the crowd, in turn, with the fleet's state in SQLite and in PostgreSQL. The crowd asks
for menus and sends hellos over real connections, each machine from its own address. Fails if the fastest boot beside the crowd
is more than `--slower` % slower than the fastest one alone, if the fleet process has more than 64 MiB, or if an acknowledged
hello is lost.
"""

import argparse
import glob
import http.client
import json
import os
import shutil
import subprocess
import tempfile
import threading
import time

from fleet import FleetSite
from machine import BootError, run_script
from office import opened, report

MEMORY_MAX_KIB = 64 << 10
THREADS = 32


class Postgres:
    """A server of Debian's package, as an unprivileged user, on a socket in a temporary directory."""

    def __init__(self):
        self.programs = sorted(glob.glob("/usr/lib/postgresql/*/bin"))[-1]
        self.directory = tempfile.mkdtemp(prefix="layerfs-postgresql.")
        shutil.chown(self.directory, "nobody", "nogroup")
        self.run("initdb", "--no-sync", "-A", "trust", "-U", "fleet", "-E", "UTF8", "--locale=C.UTF-8", "-D", self.directory)
        self.process = subprocess.Popen([f"{self.programs}/postgres", "-D", self.directory, "-k", self.directory, "-c", "listen_addresses="],
                                        user="nobody", group="nogroup", extra_groups=[], cwd="/",
                                        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        end = time.monotonic() + 120
        while subprocess.run([f"{self.programs}/pg_isready", "-q", "-h", self.directory], check=False).returncode:
            if time.monotonic() > end:
                raise BootError("PostgreSQL does not start")
            time.sleep(0.2)
        self.run("createdb", "-h", self.directory, "-U", "fleet", "fleet")
        self.url = f"postgresql:///fleet?host={self.directory}&user=fleet"

    def run(self, program, *arguments):
        subprocess.run([f"{self.programs}/{program}", *arguments], user="nobody", group="nogroup", extra_groups=[], cwd="/",
                       stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True, timeout=300)

    def close(self):
        self.process.terminate()
        self.process.wait(60)
        shutil.rmtree(self.directory)


class Crowd:
    """The scripted machines. `acknowledged` has the last step of each that the server has acknowledged."""

    def __init__(self, port, first, count, within):
        self.port, self.first, self.count, self.within = port, first, count, within
        self.acknowledged = {}
        self.next = 0
        self.lock = threading.Lock()
        self.start = time.monotonic()
        self.threads = [threading.Thread(target=self.work) for _ in range(THREADS)]
        for thread in self.threads:
            thread.start()

    def work(self):
        while True:
            with self.lock:
                number, self.next = self.next, self.next + 1
            if number >= self.count:
                return
            due = self.start + self.within * number / self.count
            time.sleep(max(0, due - time.monotonic()))
            self.boot(self.first + number)

    def boot(self, machine):
        uuid = f"{machine:08x}-1111-4222-8333-444455556666"
        mac = f"52:54:01:00:{machine // 256:02x}:{machine % 256:02x}"
        address = f"127.1.{machine // 250}.{machine % 250 + 1}"
        self.ask(address, "GET", f"/boot.ipxe?uuid={uuid}&mac={mac}&asset=")
        for step in ("mounted", "target"):
            hello = {"format": 1, "machine": {"uuid": uuid, "macs": [mac]}, "step": step, "boot": f"{machine:x}",
                     "revision": "office/main@1", "uptime_s": 20}
            if step == "target":
                hello |= {"target_ms": 19000, "health": {"state": "running"}}
            for _ in range(200):
                if self.ask(address, "POST", "/v1/hello", json.dumps(hello)) == 204:
                    with self.lock:
                        self.acknowledged[uuid] = "healthy" if step == "target" else step
                    break
                time.sleep(0.05)

    def ask(self, address, method, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60, source_address=(address, 0))
        try:
            connection.request(method, path, body)
            answer = connection.getresponse()
            answer.read()
            return answer.status
        except OSError:
            return 0
        finally:
            connection.close()

    def end(self):
        for thread in self.threads:
            thread.join()
        return time.monotonic() - self.start


def memory_kib(process):
    with open(f"/proc/{process.pid}/status", encoding="ascii") as file:
        return int(next(line.split()[1] for line in file if line.startswith("VmHWM:")))


def boot(site, name):
    """Seconds from power-on to the target."""
    with site.machine(name) as machine:
        _, when = machine.expect(r"BENCH-MARK multi-user", 1800)
        return when


def measure(site, engine, arguments):
    alone, beside = [], []
    lost, first = 0, 0
    for number in range(arguments.rounds):
        alone.append(boot(site, f"{engine}-alone-{number}"))
        crowd = Crowd(site.port, first, arguments.machines, arguments.within)
        first += arguments.machines
        beside.append(boot(site, f"{engine}-beside-{number}"))
        took = crowd.end()
        known = {one["id"]: one["boot"]["step"] for one in site.told("machine", "list") if one["boot"]}
        lost += sum(known.get(uuid) != step for uuid, step in crowd.acknowledged.items())
        report(f"{engine}: alone {alone[-1]:.1f} s, beside {beside[-1]:.1f} s; {len(crowd.acknowledged)} of {arguments.machines} "
               f"machines in {took:.1f} s, fleet process {memory_kib(site.fleet)} KiB")
        if len(crowd.acknowledged) != arguments.machines:
            raise BootError(f"{engine}: only {len(crowd.acknowledged)} machines got an acknowledgement")
    ratio = min(beside) / min(alone)
    report(f"{engine}: the fastest boot beside the crowd is {ratio:.3f} of the fastest alone; {lost} acknowledged hellos lost")
    if lost:
        raise BootError(f"{engine}: {lost} acknowledged hellos are lost")
    if memory_kib(site.fleet) > MEMORY_MAX_KIB:
        raise BootError(f"{engine}: the fleet process has {memory_kib(site.fleet)} KiB")
    if ratio > 1 + arguments.slower / 100:
        raise BootError(f"{engine}: {ratio:.3f} is more than {arguments.slower} % slower")


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--tree")
    arguments.add_argument("--site")
    arguments.add_argument("--machines", type=int, default=2000)
    arguments.add_argument("--within", type=float, default=60)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--slower", type=float, default=5)
    arguments.add_argument("--only", choices=("sqlite", "postgresql"))
    arguments = arguments.parse_args()
    with opened(FleetSite, arguments.site) as site:
        site.make_tree(arguments.tree)
        site.make_store()
        if arguments.only != "postgresql":
            site.start()
            measure(site, "sqlite", arguments)
            site.stop()
        if arguments.only != "sqlite":
            server = Postgres()
            try:
                os.environ["BAKERY_FLEET_DATABASE"] = server.url
                site.start()
                measure(site, "postgresql", arguments)
                site.stop()
            finally:
                os.environ.pop("BAKERY_FLEET_DATABASE", None)
                server.close()


if __name__ == "__main__":
    run_script(main)
