#!/usr/bin/env python3
"""clients.py: many clients at once, `bakery serve` and nginx in turn (A B B A) from the same files.

  clients.py [--bakery PROGRAM] [--clients 200] [--rounds 5] [--link MBIT] [--before PROGRAM]

Each client has one connection and asks for the bundle of a system, an index (538,866 random bytes) and a
pack (6 MiB of random bytes), one after the other; nginx serves the same bundle from a file. The clients are one process that discards what it receives
inside the kernel, so that the server is the limit. With `--link`, the servers are in another network
namespace behind a link of that rate; else everything is on loopback, each client with an address of its
own. Prints, for each round and server, seconds to the last client and to the median client, the server's
processor seconds, and its largest resident memory. Needs root and nginx."""
import argparse
import os
import pathlib
import selectors
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

SIZES = {"index": 538_866, "pack": 6 << 20}
LONGEST = 300


class Client:
    """One connection and its three requests."""

    def __init__(self, address, source, paths):
        self.socket = socket.socket()
        if source:
            self.socket.bind((source, 0))
        self.socket.settimeout(30)
        self.socket.connect(address)
        self.socket.setblocking(False)
        self.waiting, self.head, self.left, self.received = list(paths), b"", 0, 0
        self.ended = None

    def ask(self):
        path = self.waiting.pop(0)
        self.socket.send(f"GET {path} HTTP/1.1\r\nHost: server\r\n\r\n".encode())
        self.head = b""

    def step(self, discarded):
        """Receives what there is; true if all answers are complete."""
        while True:
            try:
                if self.left:
                    flags = socket.MSG_TRUNC
                    count = self.socket.recv_into(discarded, min(self.left, len(discarded)), flags)
                    self.left -= count
                    self.received += count
                else:
                    part = self.socket.recv(8192)
                    count = len(part)
                    self.head += part
                    head, end, rest = self.head.partition(b"\r\n\r\n")
                    if not end:
                        if not count:
                            sys.exit("clients.py: the server closed a connection")
                        continue
                    if b" 200 " not in head.split(b"\r\n")[0]:
                        sys.exit(f"clients.py: {head.decode()}")
                    length = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
                    self.left = int(length.split(b":")[1]) - len(rest)
                    self.received += len(rest)
            except BlockingIOError:
                return False
            if not count:
                sys.exit("clients.py: the server closed a connection")
            if not self.left:
                if not self.waiting:
                    return True
                self.ask()


def crowd(address, count, paths, has_own_addresses):
    """Seconds until each client was done."""
    sources = [f"127.0.{1 + at // 200}.{1 + at % 200}" if has_own_addresses else None for at in range(count)]
    clients = [Client(address, source, paths) for source in sources]
    selector = selectors.DefaultSelector()
    for client in clients:
        selector.register(client.socket, selectors.EVENT_READ, client)
    discarded = bytearray(1 << 20)
    start = time.monotonic()
    for client in clients:
        client.ask()
    left, ended = count, []
    while left:
        if time.monotonic() - start > LONGEST:
            sys.exit(f"clients.py: {left} clients are not done after {LONGEST} s")
        for key, _ in selector.select(1):
            if key.data.step(discarded):
                selector.unregister(key.fileobj)
                key.fileobj.close()
                ended.append(time.monotonic() - start)
                left -= 1
    received = {client.received for client in clients}
    if len(received) != 1 or min(received) <= sum(SIZES.values()):
        sys.exit(f"clients.py: clients received {sorted(received)} bytes")
    return ended


def family(process):
    """A process and its children."""
    children = pathlib.Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return [process, *[one for child in children for one in family(int(child))]]


def spent(process):
    total = 0
    for one in family(process):
        fields = pathlib.Path(f"/proc/{one}/stat").read_text().rsplit(")", 1)[1].split()
        total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


def largest(process):
    """The largest resident memory of the process and its children in MiB: the sum."""
    total = 0
    for one in family(process):
        lines = pathlib.Path(f"/proc/{one}/status").read_text().splitlines()
        total += next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    return total / 1024


def nginx(place, store, port):
    (place / "nginx.conf").write_text(f"""
daemon off; worker_processes auto; user root; pid {place}/nginx.pid; error_log {place}/nginx.log;
events {{ worker_connections 4096; }}
http {{ access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000;
  server {{ listen {port} backlog=4096; root {store}; }} }}
""")
    return ["nginx", "-c", str(place / "nginx.conf")]


def served(command, namespace, address):
    inside = ["ip", "netns", "exec", namespace] if namespace else []
    server = subprocess.Popen([*inside, *command], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL)
    for _ in range(200):
        try:
            socket.create_connection(address, 1).close()
            return server
        except OSError:
            if server.poll() is not None:
                sys.exit(f"clients.py: {command[0]} ended: {server.returncode}")
            time.sleep(0.1)
    server.kill()
    sys.exit(f"clients.py: {command[0]} does not listen")


def fetch(address, path):
    url = f"http://{address[0]}:{address[1]}{path}"
    return subprocess.run(["curl", "-sf", url], check=True, capture_output=True).stdout


def link(rate):
    """A namespace for the servers behind a link of `rate` Mbit/s; its name and its address."""
    name = f"clients-{os.getpid()}"
    near, far = f"n{os.getpid()}", f"f{os.getpid()}"
    shape = f"root tbf rate {rate}mbit burst 256k latency 100ms"
    for command in (
        f"ip netns add {name}",
        f"ip link add {near} type veth peer name {far} netns {name}",
        f"ip addr add 10.213.7.1/24 dev {near}",
        f"ip link set {near} up",
        f"ip -n {name} addr add 10.213.7.2/24 dev {far}",
        f"ip -n {name} link set {far} up",
        f"ip -n {name} link set lo up",
        f"tc -n {name} qdisc add dev {far} {shape}",
    ):
        subprocess.run(command.split(), check=True)
    return name, "10.213.7.2"


def main():
    top = pathlib.Path(__file__).resolve().parent.parent.parent
    parser = argparse.ArgumentParser()
    parser.add_argument("--bakery", default=str(top / "target/release/bakery"))
    parser.add_argument("--before", help="an older bakery, in the same rounds")
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--link", type=int, help="Mbit/s")
    options = parser.parse_args()
    place = pathlib.Path(tempfile.mkdtemp(prefix="layerfs-clients-"))
    place.chmod(0o755)
    namespace, host, running = None, "127.0.0.1", []
    try:
        store = place / "store"
        for command in (["init"], ["import", "kiosk", str(top / "benches/serve"), "--no-check"]):
            subprocess.run([options.bakery, "-q", "--store", str(store), *command], check=True,
                           env={**os.environ, "BAKERY_SPOOL": str(place / "spool")}, stdout=subprocess.DEVNULL)
        paths = {"index": "/indexes/" + "bc" * 32 + ".index", "pack": "/packs/" + "cd" * 32 + ".layer"}
        content = {}
        for name, path in paths.items():
            file = store / path[1:]
            file.parent.mkdir(parents=True, exist_ok=True)
            content[name] = os.urandom(SIZES[name])
            file.write_bytes(content[name])
        if options.link:
            namespace, host = link(options.link)
        programs = {}
        for name, program, port in (("bakery", options.bakery, 8192), ("before", options.before, 8193)):
            if program:
                programs[name] = ([program, "--store", str(store), "serve", "--listen", f"0.0.0.0:{port}",
                                   "--spool", str(place / f"spool{port}")], port)
        programs["nginx"] = (nginx(place, store, 8191), 8191)
        results = {name: [] for name in programs}
        for number in range(options.rounds):
            order = list(programs) if number % 2 == 0 else list(reversed(programs))
            for name in order:
                command, port = programs[name]
                server = served(command, namespace, (host, port))
                running.append(server)
                address, bundle = (host, port), "/v1/bundle/kiosk/main"
                if name != "nginx":
                    (store / "bundle").write_bytes(fetch(address, bundle))
                wanted = ["/bundle" if name == "nginx" else bundle, paths["index"], paths["pack"]]
                for part in paths if number == 0 else ():
                    if fetch(address, paths[part]) != content[part]:
                        sys.exit(f"clients.py: {name} sends other bytes than those of {part}")
                before = spent(server.pid)
                ended = crowd(address, options.clients, wanted, not options.link)
                figures = (max(ended), statistics.median(ended), spent(server.pid) - before, largest(server.pid))
                results[name].append(figures)
                print(f"{name:7} last {figures[0]:.2f} s, median {figures[1]:.2f} s, "
                      f"processor {figures[2]:.2f} s, {figures[3]:.1f} MiB", flush=True)
                server.send_signal(signal.SIGTERM)
                server.wait(30)
                running.remove(server)
        print("\nmedians of the rounds, and ratios to nginx in the same round")
        for name, rows in results.items():
            middle = [statistics.median(column) for column in zip(*rows)]
            ratio = [statistics.median(own / max(other, 0.01) for own, other in zip(column, others))
                     for column, others in zip(zip(*rows), zip(*results["nginx"]))]
            print(f"{name:7} last {middle[0]:.2f} s ({ratio[0]:.2f}), processor {middle[2]:.2f} s ({ratio[2]:.1f}), "
                  f"{middle[3]:.1f} MiB")
        if options.link:
            least = options.clients * sum(SIZES.values()) * 8 / (options.link * 1e6)
            print(f"the link alone: {least:.2f} s")
    finally:
        for server in running:
            server.kill()
            server.wait()
        if namespace:
            subprocess.run(["ip", "netns", "del", namespace], check=False)
        shutil.rmtree(place)


main()
