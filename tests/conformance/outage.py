#!/usr/bin/env python3
"""A server that is stopped for a minute in the middle of pgbench on the upper, and of an apt install: what needs no
byte of the server goes on as before, and afterwards everything is whole.

    outage.py TREE [--seconds 60] [--mode ,passthrough] [--only pgbench,apt] [--programs DIR]

TREE is a Debian with apt. The rate is transactions by the processor's second of PostgreSQL, pgbench and the daemon
together, so that other programs do not count. Needs root and the packages postgresql and dpkg-dev."""

import argparse
import glob
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
# Packages that need nothing but the C library.
PACKAGES = ("hello", "tree", "time")
# Files that somebody waits for while the server is stopped.
WAITERS = 16
LOWEST_RATE = 0.8


def say(text):
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def fail(text):
    sys.exit(f"outage.py: {text}")


def run(*command, **more):
    done = subprocess.run(command, capture_output=True, text=True, check=False, **more)
    if done.returncode != 0:
        fail(f"{' '.join(map(str, command))}: {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


class Site:
    """A store with a Debian and some files of noise, its server, and a mount of it."""

    def __init__(self, place, given):
        self.place, self.given = place, given
        self.bakery, self.layerfs = (os.path.join(given.programs, name) for name in ("bakery", "layerfs"))
        self.store, self.at, self.server = f"{place}/store", f"{place}/mnt", None
        self.noise = {}
        os.mkdir(self.at)

    def publish(self):
        tree = f"{self.place}/tree"
        run("cp", "-a", "--reflink=auto", self.given.tree, tree)
        os.makedirs(f"{tree}/noise")
        for number in range(2 * WAITERS):
            self.noise[f"noise/{number}"] = os.urandom(300_000)
            with open(f"{tree}/noise/{number}", "wb") as file:
                file.write(self.noise[f"noise/{number}"])
        run(self.bakery, "--store", self.store, "init")
        run(self.bakery, "--store", self.store, "import", "office", tree, "-m", "outage")
        shutil.rmtree(tree)

    def serve(self):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        log = open(f"{self.place}/serve.log", "wb")
        self.server = subprocess.Popen([self.bakery, "--store", self.store, "serve", "--listen", f"127.0.0.1:{port}"],
                                       stdout=log, stderr=log)
        self.url = f"http://127.0.0.1:{port}/office"
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return
            except OSError:
                time.sleep(0.1)
        fail("the server does not start")

    def mount(self, name, mode):
        for part in ("upper", "work"):
            os.makedirs(f"{self.place}/{name}/{part}", exist_ok=True)
        options = f"upperdir={self.place}/{name}/upper,workdir={self.place}/{name}/work{mode}"
        subprocess.run([self.layerfs, "mount", "--prefetch", "none", "--keys", f"{self.store}.keys/allowed_signers", "-o",
                        options, self.url, self.at], check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)

    def unmount(self):
        run(self.layerfs, "umount", self.at)

    def status(self):
        import json
        return json.loads(run(self.layerfs, "status", "--json", self.at))

    def stop(self):
        self.server.send_signal(signal.SIGSTOP)
        say("the server is stopped")

    def go_on(self):
        self.server.send_signal(signal.SIGCONT)
        say("the server goes on")

    def end(self):
        subprocess.run(["umount", "-l", self.at], capture_output=True, check=False)
        if self.server:
            self.server.send_signal(signal.SIGCONT)
            self.server.terminate()
            self.server.wait()


def spent_by(process):
    """Seconds that the threads of a process have run."""
    total = 0
    for thread in os.listdir(f"/proc/{process}/task"):
        with open(f"/proc/{process}/task/{thread}/schedstat", encoding="ascii") as file:
            total += int(file.read().split()[0])
    return total / 1e9


class Postgres:
    """A cluster on the mount."""

    def __init__(self, site):
        [self.programs] = sorted(glob.glob("/usr/lib/postgresql/*/bin"))[-1:]
        self.site, self.data = site, f"{site.at}/srv/cluster"
        self.sockets = f"{site.place}/sockets"
        os.makedirs(self.data)
        os.makedirs(self.sockets, exist_ok=True)
        for path in (self.data, self.sockets):
            shutil.chown(path, "postgres", "postgres")
        self.call("initdb", "-k", "-D", self.data)

    def command(self, program, *arguments):
        return [os.path.join(self.programs, program), *arguments]

    def call(self, program, *arguments):
        return run(*self.command(program, *arguments), user="postgres", group="postgres", extra_groups=[], cwd="/",
                   env={"PGHOST": self.sockets, "LC_ALL": "C", "PATH": "/usr/bin:/bin"})

    def load(self, seconds, scale=None):
        """Runs pgbench; transactions, and the processor's seconds of all that took part."""
        daemon = self.site.status()["pid"]
        began, usage = spent_by(daemon), os.times()
        options = ["-c", "listen_addresses=", "-k", self.sockets, "-c", "shared_buffers=32MB", "-c", "checkpoint_timeout=30s"]
        log = open(f"{self.site.place}/postgres.log", "ab")
        server = subprocess.Popen(self.command("postgres", "-D", self.data, *options), user="postgres", group="postgres",
                                  extra_groups=[], cwd="/", stdout=log, stderr=log)
        try:
            for _ in range(600):
                if subprocess.run(self.command("pg_isready", "-q", "-h", self.sockets), check=False).returncode == 0:
                    break
                time.sleep(0.1)
            if scale:
                self.call("pgbench", "-i", "-q", "-s", str(scale), "postgres")
            said = self.call("pgbench", "-n", "-c", "4", "-j", "2", "-T", str(seconds), "postgres")
            self.check_sums()
        finally:
            server.send_signal(signal.SIGINT)
            server.wait()
        now = os.times()
        spent = now.children_user + now.children_system - usage.children_user - usage.children_system
        transactions = int(re.search(r"transactions actually processed: (\d+)", said)[1])
        failed = re.search(r"number of failed transactions: (\d+)", said)
        if failed and int(failed[1]):
            fail(f"pgbench: {failed[1]} transactions failed")
        return transactions, spent + spent_by(daemon) - began

    def check_sums(self):
        """Every transaction adds the same to an account, a teller, a branch and the history."""
        query = "select (select sum(abalance) from pgbench_accounts), (select sum(tbalance) from pgbench_tellers), " \
            "(select sum(bbalance) from pgbench_branches), (select sum(delta) from pgbench_history)"
        sums = self.call("psql", "-At", "-c", query, "postgres").strip().split("|")
        if len(set(sums)) != 1:
            fail(f"the sums of pgbench's tables differ: {sums}")

    def check(self):
        self.call("pg_checksums", "--check", "-D", self.data)


class Waiters:
    """Reads and appends of files that are not here."""

    def __init__(self, site):
        self.site, self.wrong = site, []
        names = list(site.noise)
        self.threads = [threading.Thread(target=self.read, args=(name,)) for name in names[:WAITERS]]
        self.threads += [threading.Thread(target=self.append, args=(name,)) for name in names[WAITERS:]]
        for thread in self.threads:
            thread.start()
        until = time.monotonic() + 30
        while site.status()["waiting_requests"] < WAITERS:
            if time.monotonic() > until:
                fail(f"only {site.status()['waiting_requests']} requests wait")
            time.sleep(0.1)

    def read(self, name):
        with open(f"{self.site.at}/{name}", "rb") as file:
            if file.read() != self.site.noise[name]:
                self.wrong.append(name)

    def append(self, name):
        with open(f"{self.site.at}/{name}", "ab") as file:
            file.write(b"more")
        with open(f"{self.site.at}/{name}", "rb") as file:
            if file.read() != self.site.noise[name] + b"more":
                self.wrong.append(name)

    def end(self):
        for thread in self.threads:
            thread.join(120)
            if thread.is_alive():
                fail("somebody waits still")
        if self.wrong:
            fail(f"other bytes than were published: {self.wrong}")


def pgbench(site, mode, seconds):
    site.mount("pgbench", mode)
    postgres = Postgres(site)
    postgres.load(max(2, seconds // 10), scale=5)
    rates = {}
    for name in ("before", "meanwhile", "afterwards"):
        waiters = None
        if name == "meanwhile":
            site.stop()
            waiters = Waiters(site)
        try:
            transactions, spent = postgres.load(seconds)
        finally:
            if waiters:
                site.go_on()
        if waiters:
            waiters.end()
        rates[name] = transactions / spent
        say(f"pgbench{mode}, {name}: {transactions} transactions, {spent:.1f} s of the processor, {rates[name]:.0f} by second")
    postgres.check()
    site.unmount()
    site.mount("pgbench", mode)
    postgres.check()
    postgres.load(2)
    site.unmount()
    ratio = rates["meanwhile"] / ((rates["before"] + rates["afterwards"]) / 2)
    say(f"pgbench{mode}: {ratio:.2f} of the rate while the server was stopped")
    if ratio < LOWEST_RATE:
        fail(f"pgbench{mode}: the rate fell to {ratio:.2f} while the server was stopped")


def apt(site, mode, seconds):
    site.mount("apt", mode)
    debs = f"{site.at}/var/cache/outage"
    os.makedirs(debs)
    os.chmod(debs, 0o777)
    run("apt-get", "download", *PACKAGES, cwd=debs)
    inside = ["chroot", site.at, "env", "DEBIAN_FRONTEND=noninteractive", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"]
    paths = sorted(f"/var/cache/outage/{name}" for name in os.listdir(debs))
    log = open(f"{site.place}/apt.log", "wb")
    install = subprocess.Popen([*inside, "apt-get", "install", "-y", "--no-install-recommends", *paths], stdin=subprocess.DEVNULL,
                               stdout=log, stderr=log)
    time.sleep(1.5)
    site.stop()
    time.sleep(seconds)
    waits = site.status()["waiting_requests"]
    ended = install.poll() is not None
    site.go_on()
    if ended or not waits:
        fail(f"apt{mode} did not wait for the server (ended: {ended}, {waits} requests waiting): see {log.name}")
    if install.wait(600) != 0:
        with open(log.name, encoding="utf-8", errors="replace") as file:
            fail(f"apt{mode}: {file.read()}")
    for _ in range(2):
        audit = (run(*inside, "dpkg", "--audit") + run(*inside, "dpkg", "--verify", *PACKAGES)).splitlines()
        # The tree may be one whose dpkg leaves documentation out.
        wrong = [line for line in audit if not re.match(r"missing +/usr/share/(doc|man|info|locale)/", line)]
        if wrong:
            fail(f"apt{mode}: {wrong}")
        if "Hello, world!" not in run(*inside, "hello"):
            fail("hello does not say it")
        site.unmount()
        site.mount("apt", mode)
    site.unmount()
    say(f"apt{mode}: {waits} requests waited for {seconds} s, then it installed {', '.join(PACKAGES)}; all whole, after a remount too")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tree")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--mode", action="append", help="options of the mount; more than one may be given")
    parser.add_argument("--only", default="pgbench,apt")
    parser.add_argument("--programs", default=os.path.join(TOP, "target", "release"))
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="layerfs-outage.", dir="/var/tmp") as place:
        os.chmod(place, 0o755)
        site = Site(place, given)
        try:
            site.publish()
            site.serve()
            for mode in given.mode or ["", ",passthrough"]:
                for part in given.only.split(","):
                    folder = f"{place}/{part}"
                    shutil.rmtree(folder, ignore_errors=True)
                    {"pgbench": pgbench, "apt": apt}[part](site, mode, given.seconds)
                    shutil.rmtree(folder)
        finally:
            site.end()


if __name__ == "__main__":
    main()
