"""The Alterator module and the D-Bus service, by the messages that Alterator sends.

The answers are read by a reader of s-expressions; the executor of the D-Bus service is played from its TOML file.
"""

import hashlib
import http.server
import json
import os
import re
import subprocess
import sys
import threading
import time
import tomllib

from room import ROOT, Room, program, until

ALTERATOR = ROOT / "dist/alterator"


def expression(text: str):
    """Reads one s-expression: lists, strings, words."""
    tokens = re.findall(r'"(?:[^"\\]|\\.)*"|[()]|[^\s()"]+', text)
    assert re.sub(r"\s", "", "".join(tokens)) == re.sub(r"\s", "", text), f"not an s-expression: {text!r}"
    open_lists: list[list] = [[]]
    for token in tokens:
        if token == "(":
            open_lists.append([])
        elif token == ")":
            done = open_lists.pop()
            open_lists[-1].append(done)
        elif token.startswith('"'):
            open_lists[-1].append(re.sub(r"\\(.)", lambda m: {"n": "\n"}.get(m.group(1), m.group(1)), token[1:-1]))
        else:
            open_lists[-1].append(token)
    assert len(open_lists) == 1 and len(open_lists[0]) == 1, f"not one s-expression: {text!r}"
    return open_lists[0][0]


def pairs(found: list) -> dict[str, str]:
    return dict(zip(found[::2], found[1::2]))


class Module:
    """The backend as Alterator runs it: one process, many messages."""

    def __init__(self, room: Room) -> None:
        locales = room.place / "locale/ru/LC_MESSAGES"
        locales.mkdir(parents=True)
        subprocess.run(["msgfmt", "--check-format", "-o", str(locales / "alterator-layerfs.mo"), str(ALTERATOR / "po/ru.po")], check=True)
        self.room = room
        self.child = room.start(str(ALTERATOR / "backend3/layerfs"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={
            **os.environ, "BAKERY_STORE": str(room.store), "BAKERY_SPOOL": str(room.spool), "BAKERY": program("bakery"),
            "BAKERY_IMAGES": str(room.place / "images"), "BAKERY_ALTERATOR": str(room.place / "state"),
            "BAKERY_LOCALES": str(room.place / "locale"), "LAYERFS_STATIC": str(room.place / "layerfs-static")})

    def send(self, action: str, objects: str = "/", **values: str):
        lines = ["_message:begin", f"action:{action}", f"_objects:{objects}", "language:ru_RU:ru:en"]
        lines += [f"{key}:{value}" for key, value in values.items()] + ["_message:end"]
        self.child.stdin.write(("\n".join(lines) + "\n").encode(errors="surrogateescape"))
        self.child.stdin.flush()
        line = self.child.stdout.readline().decode()
        assert line.endswith("\n") and len(line) < 524_288, line[:200]
        return expression(line)

    def names(self, what: str, **values: str) -> list[str]:
        return [pairs(row)["name"] for row in self.send("list", what, **values)]


def module(room: Room) -> None:
    """From an empty store to two machines that are assigned the shared image, and back, by messages."""
    images = room.place / "images"
    images.mkdir()
    archive = room.place / "lab.tar"
    subprocess.run(["tar", "-C", str(room.tree("lab", {b"etc/motd": b"one\n"})), "-cf", str(archive), "."], check=True)
    alterator = Module(room)
    assert alterator.send("type") == [] and alterator.names("systems") == [] and alterator.names("images") == []
    assert pairs(alterator.send("read"))["systems"] == "0"
    # An image by its address, with a wrong and with the right checksum.
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), lambda *a: http.server.SimpleHTTPRequestHandler(*a, directory=str(room.place)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    fetch = {"image": "lab.tar", "url": f"http://127.0.0.1:{server.server_address[1]}/lab.tar"}
    assert "SHA-256" in pairs(alterator.send("write", "fetch", sha256="0" * 64, **fetch))["error"]
    assert alterator.names("images") == []
    assert alterator.send("write", "fetch", sha256=hashlib.sha256(archive.read_bytes()).hexdigest(), **fetch) == []
    assert alterator.names("images") == ["lab.tar"]
    server.shutdown()
    # Shared: an import in the background. The stand-in tree has no kernel, so only the initramfs fails.
    (room.place / "layerfs-static").write_bytes(b"\x7fELF stand-in")
    assert alterator.send("write", "share", image="lab.tar", system="lab") == []
    until(lambda: pairs(alterator.send("read"))["import_state"] in ("done", "failed"), "the import", 120)
    assert alterator.names("systems") == ["lab/main"], pairs(alterator.send("read"))
    # Another revision, and back.
    room.bakery("import", "lab", str(room.tree("lab", {b"etc/motd": b"two\n"})), "-m", 'quotes " and \\ in a message')
    labels = [pairs(row)["label"] for row in alterator.send("list", "revisions", system="lab")]
    assert any('quotes " and \\' in label for label in labels), labels
    first = [name for name in alterator.names("revisions", system="lab")][-1]
    assert alterator.send("write", "rollback", revision=first) == []
    assert room.bakery("cat", "lab:/etc/motd") == "one\n"
    newest = json.loads(room.bakery("log", "lab", "--json", "-n", "1"))[0]
    assert newest["author"] == "alterator" and newest["message"].startswith("Alterator: roll back"), newest
    # Two machines.
    room.fleet()
    room.machines(2, [("lab/main", newest["revision"])])
    found = alterator.names("machines")
    assert len(found) == 2, found
    states = {pairs(row)["state"] for row in alterator.send("list", "machines")}
    assert states <= {"исправна", "загружается", "с ошибками"}, states
    for machine in found:
        assert alterator.send("write", "assign", machine=machine, system="lab") == []
        assert "lab/main" in room.bakery("machine", "--spool", str(room.spool), "show", machine)
    assert alterator.send("write", "parameters", system="lab", parameters="quiet") == []
    # What it refuses: traversal, options, shell, bytes that are not UTF-8.
    for wrong in ({"image": "../../etc/passwd", "system": "x"}, {"image": "-rf", "system": "x"}, {"image": "lab.tar", "system": "--help"},
                  {"image": "lab.tar", "system": "a;reboot"}, {"image": "lab.tar", "system": "\udcff"}, {"image": "absent.iso", "system": "x"}):
        assert "error" in pairs(alterator.send("write", "share", **wrong)), wrong
    assert "error" in pairs(alterator.send("write", "fetch", image="a", url="file:///etc/passwd", sha256="0" * 64))
    assert "error" in pairs(alterator.send("write", "rollback", revision="lab@99"))
    assert alterator.send("list", "nothing") == [] and alterator.send("unknown") == []
    alterator.child.stdin.close()
    assert alterator.child.wait(20) == 0, "it ends with its input"
    print("alterator module: passed")


def service(room: Room) -> None:
    """The D-Bus service: its methods as the executor calls them."""
    info = tomllib.loads((ALTERATOR / "services/service-layerfs.service").read_text())
    backend = tomllib.loads((ALTERATOR / "backends/service-layerfs.backend").read_text())
    assert backend["name"] == info["name"] and backend["interface"] == "service1"
    methods = {"Info", "Status", "Deploy", "Undeploy", "Configure", "Backup", "Restore", "Start", "Stop"}
    assert set(backend["methods"]) == methods
    for name, method in backend["methods"].items():
        assert method["action_id"] == name and method["exit_status"] is True, name
        assert ("stdin_string" in method) == (name in {"Deploy", "Undeploy", "Configure", "Backup", "Restore"}), name
    for parameter in info["parameters"].values():
        assert parameter["type"] in {"string", "boolean", "integer", "enum", "array", "object"}
        assert parameter["display_name"]["en"] and parameter["display_name"]["ru"]
    tools = room.place / "tools"
    tools.mkdir()
    (tools / "systemctl").write_text(f'#!/bin/sh\necho "$@" >>{room.place}/systemctl.log\ncase $1 in is-active) [ -e {room.place}/active ] ;;\n'
                                     f'enable|start) : >{room.place}/active ;; disable|stop) rm -f {room.place}/active ;; esac\n')
    (tools / "systemctl").chmod(0o755)
    (tools / "layerfs-alterator").symlink_to(ALTERATOR / "layerfs-alterator")
    store = room.place / "served"
    environment = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "BAKERY_STORE": str(store), "BAKERY": program("bakery"),
                   "BAKERY_UNITS": str(room.place / "units"), "BAKERY_ALTERATOR": str(room.place / "service")}

    def call(name: str, given: object = None) -> tuple[int, str]:
        words = backend["methods"][name]["execute"].split()
        text = json.dumps(given) if given is not None else ""
        done = subprocess.run(words, input=text, capture_output=True, text=True, env=environment, check=False)
        return done.returncode, done.stdout

    assert call("Status")[0] == 1
    for wrong in ({"address": "here"}, {"address": "0.0.0.0:80; reboot"}, {"menu_timeout": -1}, {"fleet": "yes"}, []):
        assert call("Deploy", wrong)[0] == 2, wrong
    assert call("Deploy", {"address": "127.0.0.1:8081", "menu_timeout": 3})[0] == 0
    code, text = call("Status")
    assert code == 128 and json.loads(text)["menu_timeout"] == 3, (code, text)
    unit = (room.place / "units/bakery-serve.service.d/alterator.conf").read_text()
    assert "--listen 127.0.0.1:8081 --menu-timeout 3 --fleet" in unit, unit
    assert call("Stop")[0] == 0 and call("Status")[0] == 127
    assert call("Start")[0] == 0 and call("Status")[0] == 128
    assert call("Configure", {"fleet": False})[0] == 0
    assert "--fleet" not in (room.place / "units/bakery-serve.service.d/alterator.conf").read_text()
    assert call("Backup", {"path": "relative"})[0] == 2
    assert call("Backup", {"path": str(room.place / "backup")})[0] == 0
    assert (room.place / "backup").is_dir() and call("Restore", {"path": str(room.place / "backup")})[0] == 0
    assert call("Undeploy", {})[0] == 0 and call("Status")[0] == 1
    assert store.is_dir(), "the store stays"
    print("alterator service: passed")


def files() -> None:
    """The page names what the backend has."""
    page = (ALTERATOR / "ui/layerfs/index.html").read_text()
    script = (ALTERATOR / "ui/layerfs/ajax.scm").read_text()
    assert script.count("(") == script.count(")")
    fields = set(re.findall(r'name="([a-z0-9_]+)"', page))
    used = set(re.findall(r'form-(?:value|update-enum|bind) "([a-z0-9_]+)"', script))
    assert used <= fields, used - fields
    catalog = (ALTERATOR / "po/ru.po").read_text()
    for text in re.findall(r'translate="_">([^<]+)<', page) + re.findall(r'_\("([^"]+)"\)', (ALTERATOR / "backend3/layerfs").read_text()):
        assert f'msgid "{text}"' in catalog, text
    desktop = (ALTERATOR / "applications/layerfs.desktop").read_text()
    assert "X-Alterator-URI=/layerfs" in desktop and "Name[ru]=" in desktop
    print("alterator files: passed")


def main() -> int:
    room = Room()
    try:
        files()
        module(room)
        service(room)
    finally:
        room.end()
    return 0


if __name__ == "__main__":
    sys.exit(main())
