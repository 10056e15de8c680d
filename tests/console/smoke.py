"""Every page of the console against a real bakery, and the attacks that it must refuse.

Run by tests/console.sh. Needs no browser.
"""

import html
import json
import os
import re
import socket
import sys
import time

from room import CLOSED, Room, program, until

EVIL = "<script>alert(1)</script>"


def make(room: Room) -> None:
    """Histories, machines and jobs, some with names that attack."""
    first = {b"etc/motd": b"hello\n", b"etc/cups/cupsd.conf": b"Listen 631\nBrowsing off\n"}
    tree = room.tree("kiosk", first)
    room.bakery("import", "kiosk", str(tree), "-m", "the first image", "--author", "ann", "--cmdline", "quiet")
    room.tree("kiosk", {**first, b"etc/cups/cupsd.conf": b"Listen 631\nBrowsing on\nDefaultAuthType Basic\n",
                        b"srv/" + EVIL.replace("/", "_").encode(): b"x", b"srv/bad\xff\"name": b"y"})
    os.chmod(tree / "etc/motd", 0o600)
    room.bakery("import", "kiosk", str(tree), "-m", f"printers {EVIL}\nsecond line", "--author", f"bob {EVIL}")
    room.bakery("tag", "kiosk@1", "school-year")
    room.bakery("profile", "add", "kiosk/lab", "--from", "kiosk@1", "-m", "for the lab")
    room.bakery("ring", "add", "kiosk", "canary")
    room.fleet()
    room.machines(12, [("kiosk/main", 2), ("kiosk/lab", 1)])
    room.hello(machine={"macs": ["52:54:00:00:77:77"], "asset": EVIL}, step="mounted", boot="b" * 8 + "-0000-4000-8000-000000000000",
               revision="kiosk/main@2", why=f"no {EVIL}")


def pages(admin) -> None:
    """Every page is there, sound, and shows no markup of strangers."""
    queue, seen = ["/"], set()
    while queue:
        path = queue.pop()
        if path in seen or path.startswith(("/assets", "/welcome")):
            continue
        seen.add(path)
        answer = admin.get(path)
        assert answer.status in (200, 303, 404, 409), (path, answer.status, answer.text[:2000])
        if answer.status != 200:
            print("  ", answer.status, path, re.sub(r"\s+", " ", answer.text)[:0])
            continue
        assert "<script>alert" not in answer.text, path
        assert not re.search(r"<[^>]+\son\w+=", answer.text), path
        assert " style=" not in answer.text, path
        for name, value in (("Content-Security-Policy", "default-src 'none'"), ("X-Frame-Options", "DENY"),
                            ("X-Content-Type-Options", "nosniff"), ("Cache-Control", "no-store")):
            assert value in answer.header(name), (path, name)
        policy = answer.header("Content-Security-Policy")
        assert "unsafe" not in policy and "frame-ancestors 'none'" in policy
        for found in re.findall(r'href="(/[^"]*)"', answer.text):
            queue.append(html.unescape(found))
    assert len(seen) > 40, len(seen)
    print(f"pages: {len(seen)}")


def attacks(room: Room, console, admin) -> None:
    """Each attack of docs/SECURITY.md on the console."""
    # Nothing without a session.
    guest = console.guest()
    assert guest.get("/").status == 303 and guest.get("/machines").header("Location").startswith("/login")
    assert guest.post("/do/rollback", to="kiosk@1").status == 401
    # A forged request: without the token, with another one, or from another site.
    newest = room.bakery("log", "kiosk").count("\n")
    assert admin.post("/do/rollback", token="", to="kiosk@1").status == 403
    assert admin.post("/do/rollback", token="00" * 64, to="kiosk@1").status == 403
    for headers in ({"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}):
        assert admin.post("/do/rollback", headers=headers, to="kiosk@1").status == 403, headers
    assert admin.ask("GET", "/do/rollback?to=kiosk@1").status == 200
    assert room.bakery("log", "kiosk").count("\n") == newest, "a forged request published"
    # Cookies: not for scripts, not for other sites.
    login = console.guest().post("/login", name="ann", password="correct horse")
    cookie = login.header("Set-Cookie")
    assert "HttpOnly" in cookie and "SameSite=Strict" in cookie, cookie
    # Session fixation: a cookie from before the log-in is never the session.
    fixed = console.guest()
    fixed.cookies["session"] = "a" * 64
    answer = fixed.ask("POST", "/login", b"name=ann&password=correct+horse", Content_Type="application/x-www-form-urlencoded")
    assert answer.status == 303 and fixed.cookies["session"] != "a" * 64
    stranger = console.guest()
    stranger.cookies["session"] = "a" * 64
    assert stranger.get("/").status == 303
    # After the log-out the cookie is worth nothing.
    old = dict(fixed.cookies)
    assert fixed.post("/logout").status == 303
    fixed.cookies = old
    assert fixed.get("/").status == 303
    # Traversal, in every place that takes a name.
    for path in ("/assets/..%2f..%2fetc%2fpasswd", "/systems/..%2f..", "/import/image?name=../../etc/passwd",
                 "/import/image?name=%2fetc%2fpasswd", "/jobs/..%2f..", "/tasks/..%2f..", "/machines/..%2f..",
                 "/compare/file?from=kiosk@1&to=kiosk@2&path=../../../etc/passwd"):
        answer = admin.get(path)
        assert answer.status in (400, 404), (path, answer.status)
        assert "root:" not in answer.text
    assert admin.ask("PUT", "/uploads/..%2fx?offset=0&total=1", b"x", X_Token=admin.token()).status == 400
    # Uploads: too long at once, too long in all, without the token.
    token = admin.token()
    assert admin.ask("PUT", "/uploads/a.iso?offset=0&total=1", b"x").status == 403
    assert admin.ask("PUT", f"/uploads/a.iso?offset=0&total={1 << 50}", b"x", X_Token=token).status == 413
    assert admin.ask("PUT", "/uploads/a.iso?offset=0&total=99999999", b"x" * (17 << 20), X_Token=token).status in (413, CLOSED)
    assert not (room.state / "images/a.iso.part").exists()
    long = b"name=" + b"x" * (300 << 10)
    assert admin.ask("POST", "/login", long, Content_Type="application/x-www-form-urlencoded").status in (413, CLOSED)
    # A connection that never sends its request, or its form, is closed.
    slow = socket.create_connection(("127.0.0.1", console.port))
    slow.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n")
    slow.settimeout(60)
    # An open redirect.
    answer = console.guest().post("/login", name="ann", password="correct horse", to="//evil.example/")
    assert answer.status == 303 and answer.header("Location") == "/", answer.headers
    # Brute force: the account is locked, the right password does not help, others are not locked.
    thief = console.guest()
    for _ in range(5):
        assert thief.post("/login", name="viewer", password="wrong").status == 401
    assert thief.post("/login", name="viewer", password="correct horse").status == 429
    assert console.guest().post("/login", name="ann", password="correct horse").status == 303
    answer = slow.recv(4096)
    assert not answer or answer.startswith(b"HTTP/1.1 408"), answer
    slow.close()
    print("attacks: refused")


def roles(room: Room, console, admin) -> None:
    """What a viewer sees and may not do."""
    answer = admin.post("/accounts", do="invite", name="viewer", role="viewer")
    link = re.search(r"(/welcome/[0-9a-f]+)", answer.text).group(1)
    shown = admin.get(link).text
    assert re.search(r'name="token" value="[0-9a-f]{128}"', shown.split("<main")[1]), "a link opened by somebody who is logged in"
    viewer = console.join(link, "")
    assert console.guest().get(link).status == 404, "a link works once"
    for path in ("/", "/machines", "/rings", "/jobs", "/store", "/keys", "/menu", "/systems/kiosk", "/systems/kiosk/main/2"):
        answer = viewer.get(path)
        assert answer.status == 200 and "/do/" not in answer.text, path
    for path in ("/accounts", "/audit", "/do/rollback?to=kiosk@1", "/store/gc"):
        assert viewer.get(path).status == 403, path
    for path, fields in (("/do/rollback", {"to": "kiosk@1"}), ("/rings/pause", {"name": "kiosk", "ring": "all"}),
                         ("/machines/act", {"do": "forget", "machine": "52-54-00-00-00-01", "sure": "yes"}),
                         ("/machines/act", {"do": "value", "machine": "52-54-00-00-00-01", "name": "a", "value": "b"}),
                         ("/store/gc", {}), ("/accounts", {"do": "role", "name": "viewer", "role": "admin"}),
                         ("/import/act", {"do": "fetch", "url": "http://127.0.0.1/", "sha256": "0" * 64, "as": "x"})):
        assert viewer.post(path, **fields).status == 403, path
    assert admin.post("/accounts", do="delete", name="ann").status == 409, "the last administrator stays"
    print("roles: kept")


def actions(room: Room, admin) -> None:
    """Actions do what the command line does, and leave their words in the log."""
    shown = admin.get("/do/rollback?to=kiosk@1").text
    assert "would publish" in shown and "cupsd.conf" in shown, shown[-3000:]
    answer = admin.post("/do/rollback", to="kiosk@1", message="printers broke")
    assert answer.status == 303 and answer.header("Location") == "/systems/kiosk/main/3", (answer.status, answer.text[:900])
    newest = json.loads(room.bakery("log", "kiosk", "--json", "-n", "1"))[0]
    assert newest["revision"] == 3 and newest["author"] == "ann", newest
    assert newest["message"] == "printers broke (roll back to kiosk@1)", newest
    assert "printers broke (roll back to kiosk@1)" in admin.get("/audit").text
    assert admin.post("/do/rollback", to="kiosk@99").status == 404
    assert admin.post("/do/tag", to="kiosk@3", tag="good").status == 303
    assert "good" in room.bakery("tag", "kiosk")
    assert admin.post("/do/cherry-pick", to="kiosk@2", onto="kiosk/lab", resolution="theirs").status in (303, 409)
    assert admin.post("/do/parameters", name="kiosk", cmdline="quiet splash").status == 303
    assert "quiet splash" in room.bakery("show", "kiosk")
    assert "canary: @4" in admin.get("/rings/pause?name=kiosk&ring=canary").text
    assert admin.post("/rings/promote", name="kiosk", ring="all").status == 303
    assert admin.post("/rings/pause", name="kiosk", ring="canary", message="holidays").status == 303
    rings = json.loads(room.bakery("ring", "list", "--json"))
    assert any(ring["paused"] for one in rings for ring in one["rings"]), rings
    machine = "52:54:00:00:00:03"
    assert admin.post("/machines/act", do="name", machine=machine, value="pc3").status == 303
    assert admin.post("/machines/act", do="group", machine=[machine, "52:54:00:00:00:04"], value="room-3").status == 303
    assert admin.post("/machines/act", do="assign", group_of="room-3", system="kiosk/lab", ring="canary").status == 303
    shown = room.bakery("machine", "--spool", str(room.spool), "show", "pc3")
    assert "room-3" in shown and "kiosk/lab" in shown, shown
    assert admin.post("/machines/act", do="value", machine=machine, name="hostname", value="pc3").status == 303
    assert admin.post("/machines/act", do="value", machine=machine, name="hostname", value="a b").status == 409
    assert admin.post("/machines/act", do="value", machine=machine, name="wifi", value="no key", secret="yes").status == 409
    values = json.loads(room.bakery("machine", "--spool", str(room.spool), "values", "pc3", "--json"))
    assert values["effective"] == {"hostname": {"text": "pc3"}} and values["records"][0]["number"] == 1, values
    room.bakery("machine", "--spool", str(room.spool), "values", "--group", "room-4", "--set", "floor=4")
    assert admin.post("/machines/act", do="group", machine=machine, value="room-4").status == 303
    shown = admin.get(f"/machines/{machine.replace(':', '-')}").text
    assert "floor" in shown and "record 2" in shown, shown
    assert admin.post("/machines/act", do="value-delete", machine=machine, name="hostname").status == 303
    values = json.loads(room.bakery("machine", "--spool", str(room.spool), "values", "pc3", "--json"))
    assert values["effective"] == {"floor": {"text": "4"}} and values["records"][0]["author"] == "ann", values
    assert admin.post("/machines/act", do="group", machine=machine, value="room-3").status == 303
    asked = admin.post("/machines/act", do="forget", machine=["52-54-00-00-00-05"])
    assert asked.status == 200 and "52-54-00-00-00-05" in asked.text
    assert admin.post("/machines/act", do="forget", sure="yes", machine=["52-54-00-00-00-05"]).status == 303
    assert "52-54-00-00-00-05" not in room.bakery("machine", "--spool", str(room.spool), "list")
    answer = admin.post("/store/verify")
    task = answer.header("Location")
    until(lambda: "No defects were found" in admin.get(task).text, "verification")
    assert "Garbage" in admin.get("/store/gc?keep=1&grace=0s").text
    print("actions: done")


def approval(room: Room, admin) -> None:
    """A push waits, shows its changes, and is published or not as a person decides."""
    assert admin.post("/jobs/act", do="want", name="kiosk").status == 303
    watch = [*("--spool", str(room.spool), "--once", "--updates", "0")]
    job = room.push("kiosk", {"etc/motd": b"pushed\n", "root/.ssh/id_ed25519": b"-----BEGIN OPENSSH PRIVATE KEY-----\nx\n"}, "a new motd")
    room.bakery("watch", *watch)
    assert (room.spool / "queued" / job).is_dir(), "it must wait"
    assert "waits for approval" in admin.get("/jobs").text
    shown = admin.get(f"/jobs/{job}?preview=1").text
    assert "etc/motd" in shown.replace("<wbr>", "") and "would" in shown, shown[-3000:]
    assert admin.post("/jobs/act", do="approve", job=job).status == 303
    room.bakery("watch", *watch)
    assert (room.spool / "done" / job).is_dir()
    assert "Approved by" in admin.get(f"/jobs/{job}").text
    assert "pushed" in room.bakery("cat", "kiosk:/etc/motd")
    other = room.push("kiosk", {"etc/motd": b"bad\n"}, "another motd")
    assert admin.post("/jobs/act", do="reject", job=other, reason="not today").status == 303
    assert (room.spool / "failed" / other).is_dir()
    assert "rejected by ann: not today" in admin.get(f"/jobs/{other}").text
    room.bakery("jobs", "--spool", str(room.spool), "--no-approval", "kiosk")
    print("approval: kept")


def upload(room: Room, admin) -> None:
    """An upload continues, and becomes a system."""
    archive = room.place / "lab.tar"
    import subprocess
    subprocess.run(["tar", "-C", str(room.tree("up", {b"etc/motd": b"up\n"})), "-cf", str(archive), "."], check=True)
    data, token = archive.read_bytes(), admin.token()
    half = len(data) // 2
    put = lambda offset, piece: admin.ask("PUT", f"/uploads/lab.tar?offset={offset}&total={len(data)}", piece, X_Token=token)
    assert put(0, data[:half]).text == str(half)
    assert put(0, data[:half]).status == 409
    assert admin.get("/uploads/lab.tar").text == str(half)
    assert put(half, data[half:]).text == "complete"
    assert "lab.tar" in admin.get("/import").text
    assert admin.get("/import/image?name=lab.tar").status == 200
    answer = admin.post("/import/act", do="import", name="lab.tar", system="uploaded", message="from the room")
    task = answer.header("Location")
    assert task.startswith("/tasks/"), (answer.status, answer.text[:2000])
    events = admin.get(f"{task}/events")
    assert "event: end" in events.text
    until(lambda: "Imported uploaded" in admin.get(task).text or "notice bad" in admin.get(task).text, "the import")
    assert "Imported uploaded" in admin.get(task).text, admin.get(task).text[-1500:]
    newest = json.loads(room.bakery("log", "uploaded", "--json"))[0]
    assert newest["author"] == "ann" and newest["message"].startswith("from the room (import lab.tar as uploaded"), newest
    # Fetch, with a wrong and with the right checksum.
    import hashlib
    import http.server
    import threading
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), lambda *a: http.server.SimpleHTTPRequestHandler(*a, directory=str(room.place)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_address[1]}/lab.tar"
    for digest, good in (("0" * 64, False), (hashlib.sha256(data).hexdigest(), True)):
        answer = admin.post("/import/act", do="fetch", url=url, sha256=digest, **{"as": "fetched.tar"})
        task = answer.header("Location")
        until(lambda: "<progress" not in admin.get(task).text, "the download")
        assert ("notice good" in admin.get(task).text) == good, digest
        assert ((room.state / "images/fetched.tar").exists()) == good
    server.shutdown()
    assert admin.post("/import/act", do="fetch", url="file:///etc/passwd", sha256="0" * 64).status == 400
    print("upload: imported")


def languages(admin) -> None:
    russian = admin.get("/machines", Accept_Language="ru")
    assert '<html lang="ru"' in russian.text and "Машины" in russian.text
    english = {text for text in re.findall(r">([A-Z][a-z]+(?: [a-z]+)+)<", russian.text)}
    assert not english, english
    print("languages: en, ru")


def listeners(room: Room) -> None:
    """TLS, a proxy, and addresses that are refused; the clients' port has no console."""
    import ssl
    import subprocess
    import urllib.request
    words = [program("bakery-console"), "--store", str(room.store), "--spool", str(room.spool), "--state", str(room.place / "other")]
    done = subprocess.run([*words, "--listen", "0.0.0.0:0"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2 and "--tls-cert" in done.stderr, done
    key, cert = room.place / "key.pem", room.place / "cert.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=localhost",
                    "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)], check=True, capture_output=True)
    secure = room.console("--state", str(room.place / "tls"), "--tls-cert", str(cert), "--tls-key", str(key))
    context = ssl.create_default_context(cafile=str(cert))
    with urllib.request.urlopen(f"https://127.0.0.1:{secure.port}/login", context=context, timeout=30) as answer:
        assert answer.status == 200 and "max-age" in answer.headers["Strict-Transport-Security"]
    secure.child.terminate()
    assert secure.child.wait(30) == 0, "it ends on SIGTERM"
    # Behind a proxy: the cookie is for TLS only, and the browser's address counts.
    proxied = room.console("--state", str(room.place / "proxied"), "--behind-proxy")
    guest = proxied.guest()
    answer = guest.post(proxied.link(), headers={"X-Forwarded-For": "198.51.100.9, 203.0.113.7"}, name="ann", password="correct horse", again="correct horse")
    cookie = next(value for key, value in answer.headers if "session" in value)
    assert cookie.startswith("__Host-session=") and "Secure" in cookie, cookie
    assert '"203.0.113.7"' in (room.place / "proxied/audit.log").read_text()
    proxied.child.terminate()
    # By the command, which finds the program beside it.
    done = subprocess.run([program("bakery"), "console", "--help"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0 and "--behind-proxy" in done.stdout, done
    lone = room.place / "lone-bakery"
    import shutil
    shutil.copy(program("bakery"), lone)
    done = subprocess.run([str(lone), "console"], capture_output=True, text=True, env={"PATH": "/nonexistent"}, timeout=60, check=False)
    assert done.returncode == 2 and "install the package bakery-console" in done.stderr, done
    print("listeners: TLS, proxy, refusals")


def main() -> int:
    room = Room()
    try:
        make(room)
        console = room.console()
        link = console.link()
        assert console.guest().get("/login").status == 200
        admin = console.join(link, "ann")
        assert console.guest().get(link).status == 404, "the first link works once"
        roles(room, console, admin)
        pages(admin)
        attacks(room, console, admin)
        actions(room, admin)
        approval(room, admin)
        upload(room, admin)
        languages(admin)
        pages(admin)
        listeners(room)
        log = (room.place / "console.log").read_text()
        assert "panicked" not in log, log
    finally:
        room.end()
    print("console: all passed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
