"""The console under an account of its own: it publishes by the rights that console-access gives, and no further.

Needs root and the package acl. Numbers stand for the accounts.
"""

import os
import subprocess
import sys

from room import ROOT, Room, program

OWNER, CONSOLE = 61_230, 61_231


def main() -> int:
    if os.geteuid() != 0:
        print("account: skipped, needs root")
        return 0
    room = Room()
    try:
        os.chmod(room.place, 0o755)
        room.bakery("import", "kiosk", str(room.tree("kiosk", {b"etc/motd": b"one\n"})), "--cmdline", "one")
        for place in (room.store, room.spool, room.place / "store.keys"):
            subprocess.run(["chown", "-R", f"{OWNER}:{OWNER}", str(place)], check=True)
        room.state.mkdir(mode=0o750)
        os.chown(room.state, CONSOLE, CONSOLE)
        access = {**os.environ, "LAYERFS_ROOT": str(room.place), "CONSOLE_ACCOUNT": str(CONSOLE), "LAYERFS_ACCOUNT": str(OWNER)}
        subprocess.run([str(ROOT / "dist/console/console-access")], env=access, check=True)

        def within(account: int, *words: str) -> subprocess.CompletedProcess:
            command = ["setpriv", f"--reuid={account}", f"--regid={account}", "--clear-groups", "sh", "-c", 'umask 0007; exec "$@"', "sh", *words]
            return subprocess.run(command, capture_output=True, text=True, check=False)

        bakery = [program("bakery"), "--store", str(room.store)]
        done = within(CONSOLE, *bakery, "set", "kiosk", "--cmdline", "two")
        assert done.returncode == 0, done.stderr
        # The bakery's own account continues after the console, and reads all that it made.
        done = within(OWNER, *bakery, "set", "kiosk", "--cmdline", "three")
        assert done.returncode == 0, done.stderr
        done = within(OWNER, *bakery, "verify", "--all")
        assert done.returncode == 0, done.stderr + done.stdout
        done = within(CONSOLE, *bakery, "set", "kiosk", "--cmdline", "four")
        assert done.returncode == 0, done.stderr
        # The root key stays out of reach, and so do keysets.
        root = room.place / "store.keys/root"
        assert root.exists() and within(CONSOLE, "cat", str(root)).returncode != 0
        assert within(CONSOLE, *bakery, "key", "revoke", "bakery").returncode != 0
        # Another account can do nothing.
        assert within(61_232, *bakery, "set", "kiosk", "--cmdline", "five").returncode != 0
        # Rights to look only.
        subprocess.run(["setfacl", "-R", "-b", str(room.place)], check=True)
        subprocess.run([str(ROOT / "dist/console/console-access"), "read"], env=access, check=True)
        assert within(CONSOLE, *bakery, "log", "kiosk").returncode == 0
        assert within(CONSOLE, *bakery, "set", "kiosk", "--cmdline", "six").returncode != 0
    finally:
        room.end()
    print("account: passed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
