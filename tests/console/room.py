"""A bakery for the tests of the console: a store with histories, machines and jobs."""

import http.client
import json
import os
import random
import re
import shutil
import socket
import sqlite3
import subprocess
import tempfile
import time
import urllib.parse
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def program(name: str) -> str:
    """The newer one of the optimized and the other program."""
    found = [ROOT / "target" / kind / name for kind in ("release", "debug")]
    found = [path for path in found if path.exists()]
    return str(max(found, key=lambda path: path.stat().st_mtime))


class Room:
    """Directories and processes of one bakery, gone at the end."""

    def __init__(self) -> None:
        self.place = Path(tempfile.mkdtemp(prefix="console-room-"))
        self.store = self.place / "store"
        self.spool = self.place / "spool"
        self.state = self.place / "console"
        self.children: list[subprocess.Popen] = []
        self.pushes = 0
        self.bakery("init")
        self.spool.mkdir()

    def bakery(self, *words: str, data: bytes | None = None) -> str:
        done = subprocess.run(
            [program("bakery"), "--store", str(self.store), *words],
            input=data, capture_output=True, check=False, timeout=300)
        if done.returncode != 0:
            raise AssertionError(f"bakery {' '.join(words)}: {done.stderr.decode(errors='replace')}")
        return done.stdout.decode()

    def tree(self, name: str, files: dict[bytes, bytes]) -> Path:
        """A directory with these files, which passes for a system."""
        place = self.place / "trees" / name
        usual = {b"usr/lib/os-release": b"NAME=test\n", b"sbin/init": b"#!/bin/sh\n", b"usr/bin/env": b"x\n"}
        for path, content in {**usual, **files}.items():
            file = os.path.join(os.fsencode(place), path)
            os.makedirs(os.path.dirname(file), exist_ok=True)
            with open(file, "wb") as out:
                out.write(content)
            os.chmod(file, 0o755)
        return place

    def bake(self, history: str, files: dict[bytes, bytes], message: str, author: str = "ann") -> None:
        """One revision with changed files."""
        upper = self.place / "upper"
        shutil.rmtree(upper, ignore_errors=True)
        for path, content in files.items():
            file = os.path.join(os.fsencode(upper), path)
            os.makedirs(os.path.dirname(file), exist_ok=True)
            with open(file, "wb") as out:
                out.write(content)
        self.bakery("bake", str(upper), "--onto", history, "-m", message, "--author", author)

    def start(self, *words: str, **options) -> subprocess.Popen:
        child = subprocess.Popen(words, **options)
        self.children.append(child)
        return child

    def console(self, *words: str) -> "Console":
        log = open(self.place / "console.log", "ab")
        console = start_console(self.store, self.spool, self.state, *words, stdout=subprocess.PIPE, stderr=log)
        self.children.append(console.child)
        return console

    def fleet(self) -> None:
        """The process that records machines, and a way to send it hellos."""
        self.start(program("bakery"), "--store", str(self.store), "fleet", "--spool", str(self.spool),
                   "--burst", "100000", "--rate", "100000", stderr=open(self.place / "fleet.log", "ab"))
        until(lambda: (self.spool / "fleet/socket").exists(), "the fleet's socket")

    def hello(self, **hello) -> None:
        """One hello of a machine."""
        body = json.dumps({"format": 1, **hello}, ensure_ascii=False).encode()
        connection = http.client.HTTPConnection("fleet")
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(str(self.spool / "fleet/socket"))
        connection.request("POST", "/v1/hello", body, {"X-Forwarded-For": "192.0.2.1"})
        answer = connection.getresponse()
        text = answer.read()
        if answer.status != 204:
            raise AssertionError(f"hello: {answer.status} {text!r}")
        connection.close()

    def machines(self, count: int, histories: list[tuple[str, int]]) -> None:
        """Machines with some boots each."""
        chance = random.Random(7)
        for number in range(count):
            history, newest = histories[number % len(histories)]
            mac = f"52:54:00:00:{number >> 8:02x}:{number & 255:02x}"
            for boot in range(2):
                revision = max(1, newest - chance.choice([0, 0, 0, 1, 2]))
                identity = {"macs": [mac]}
                name = f"{history}@{revision}"
                boot_id = f"{number:08x}-0000-4000-8000-{boot:012x}"
                self.hello(machine=identity, step="mounted", boot=boot_id, revision=name)
                if number % 23 == 0 and boot == 1:
                    continue
                health = {"state": "running"}
                if number % 17 == 0 and boot == 1:
                    health = {"state": "degraded", "units": ["cups.service"]}
                step = "target" if "units" in health else "healthy"
                self.hello(machine=identity, step=step, boot=boot_id, revision=name, health=health,
                           target_ms=chance.randrange(7000, 14000), uptime_s=30)

    def push(self, history: str, files: dict[str, bytes], message: str, author: str = "bob") -> str:
        """A push as `bakery receive` queues it: a job's number."""
        import io
        import tarfile
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as out:
            for path, content in files.items():
                entry = tarfile.TarInfo(path)
                entry.size = len(content)
                entry.mode = 0o644
                out.addfile(entry, io.BytesIO(content))
        body = subprocess.run(["zstd", "-q"], input=packed.getvalue(), capture_output=True, check=True).stdout
        self.pushes += 1
        name = ulid(int(time.time() * 1000) + self.pushes)
        system, _, profile = history.partition("/")
        job = self.spool / "queued" / name
        job.mkdir(parents=True)
        (job / "upper.tar.zst").write_bytes(body)
        (job / "request.json").write_text(json.dumps({
            "system": system, "profile": profile or "main", "author": author, "message": message,
            "origin": {"push": {"key": "room-3", "fingerprint": "SHA256:x"}}, "received": int(time.time())}))
        return name

    def end(self) -> None:
        for child in reversed(self.children):
            if child.poll() is None:
                child.terminate()
        for child in self.children:
            try:
                child.wait(20)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        shutil.rmtree(self.place, ignore_errors=True)


def ulid(milliseconds: int) -> str:
    """The number of a job: time, then chance."""
    digits, value = "0123456789ABCDEFGHJKMNPQRSTVWXYZ", (milliseconds << 80) | random.getrandbits(80)
    return "".join(digits[(value >> (5 * place)) & 31] for place in range(25, -1, -1))


def until(check, what: str, seconds: float = 60):
    """Waits for a result that is true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = check()
        if found:
            return found
        time.sleep(0.1)
    raise AssertionError(f"{what} did not come in {seconds} s")


class Console:
    """A running console, and requests to it without a browser."""

    def __init__(self, child: subprocess.Popen, port: int) -> None:
        self.child, self.port = child, port
        self.url = f"http://127.0.0.1:{port}"

    def wait(self) -> None:
        def listens() -> bool:
            if self.child.poll() is not None:
                raise AssertionError(f"the console ended with {self.child.returncode}")
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", self.port)) == 0
        until(listens, "the console")

    def link(self) -> str:
        """The one-time link that it prints."""
        for _ in range(10):
            line = self.child.stdout.readline().decode()
            found = re.search(r"(/welcome/[0-9a-f]+)", line)
            if found:
                return found.group(1)
        raise AssertionError("no link was printed")

    def guest(self) -> "Client":
        return Client(self)

    def join(self, link: str, name: str, password: str = "correct horse") -> "Client":
        client = self.guest()
        answer = client.post(link, name=name, password=password, again=password)
        assert answer.status == 303, (answer.status, answer.text[:400])
        return client


def start_console(store: Path, spool: Path, state: Path, *words: str, **options) -> Console:
    """A console on a port of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    place = () if "--state" in words else ("--state", str(state))
    child = subprocess.Popen(
        [program("bakery-console"), "--store", str(store), "--spool", str(spool), *place, "--listen", f"127.0.0.1:{port}", *words], **options)
    console = Console(child, port)
    console.wait()
    return console


# The status of an answer that was lost with its connection.
CLOSED = 0


class Answer:
    def __init__(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body
        self.text = body.decode(errors="replace")

    def header(self, name: str) -> str:
        return next((value for key, value in self.headers if key.lower() == name.lower()), "")


class Client:
    """A browser without a screen: cookies and the token of forms."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.cookies: dict[str, str] = {}

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.console.port, timeout=120)
        if self.cookies and "Cookie" not in headers:
            headers["Cookie"] = "; ".join(f"{key}={value}" for key, value in self.cookies.items())
        try:
            connection.request(method, path, body, {key.replace("_", "-"): value for key, value in headers.items()})
        except (BrokenPipeError, ConnectionResetError):
            # The server answered, and closed, before it had read a body that is too long.
            pass
        try:
            answer = connection.getresponse()
            found = Answer(answer.status, answer.getheaders(), answer.read())
        except (BrokenPipeError, ConnectionResetError, http.client.HTTPException):
            found = Answer(CLOSED, [], b"")
        connection.close()
        for key, value in found.headers:
            if key.lower() == "set-cookie":
                name, _, rest = value.partition("=")
                self.cookies[name] = rest.split(";")[0]
        return found

    def get(self, path: str, **headers: str) -> Answer:
        return self.ask("GET", path, **headers)

    def token(self) -> str:
        return re.search(r'<meta name="token" content="([0-9a-f]*)"', self.get("/compare").text).group(1)

    def post(self, path: str, headers: dict[str, str] | None = None, **fields) -> Answer:
        if "token" not in fields and "session" in self.cookies:
            fields["token"] = self.token()
        body = urllib.parse.urlencode(fields, doseq=True).encode()
        return self.ask("POST", path, body, **{"Content_Type": "application/x-www-form-urlencoded", **(headers or {})})
