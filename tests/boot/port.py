"""Ports of a switch, between a machine of QEMU and its server: a program that sees each frame and may change it. The host's
kernel needs nothing for them (no 802.1Q, no bridge, no tap)."""

import os
import select
import socket
import threading

TAG = b"\x81\x00"
TYPE = 12           # bytes of a frame before its type or its tag: destination and source


class Port:
    """A port that changes nothing; its sockets are in the directory that `open` gets. The two methods return the frame
    that goes on, or None."""

    def inward(self, frame):
        """A frame of the server, for the machine."""
        return frame

    def outward(self, frame):
        """A frame of the machine, for the server."""
        return frame

    def open(self, directory):
        self._paths = {name: os.path.join(directory, name) for name in ("in", "in-qemu", "out", "out-qemu")}
        self._sockets = []
        for side in ("in", "out"):
            self._sockets.append(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
            self._sockets[-1].bind(self._paths[side])
        self._end, self._told = os.pipe()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self):
        os.write(self._told, b"x")
        self._thread.join(10)
        for opened in self._sockets:
            opened.close()
        os.close(self._end)
        os.close(self._told)

    def netdevs(self, card, server):
        """Arguments of QEMU: the network `card` is this port, the -netdev `server` (without its id) is behind it."""
        kind, _, options = server.partition(",")
        return ["-netdev", self._dgram(card, "in"), "-netdev", self._dgram("lan", "out"),
                "-netdev", f"{kind},id=server,{options}".rstrip(","),
                "-netdev", "hubport,id=lan-port,hubid=9,netdev=lan", "-netdev", "hubport,id=server-port,hubid=9,netdev=server"]

    def _dgram(self, name, side):
        local, remote = self._paths[f"{side}-qemu"], self._paths[side]
        return f"dgram,id={name},local.type=unix,local.path={local},remote.type=unix,remote.path={remote}"

    def _run(self):
        machine, server = self._sockets
        while True:
            ready, _, _ = select.select([machine, server, self._end], [], [])
            if self._end in ready:
                return
            if machine in ready:
                self._send(server, "out-qemu", self.outward(machine.recv(65536)))
            if server in ready:
                self._send(machine, "in-qemu", self.inward(server.recv(65536)))

    def _send(self, opened, name, frame):
        try:
            if frame is not None:
                opened.sendto(frame, self._paths[name])
        except OSError:
            pass        # as a switch does: a frame that cannot be delivered is lost


class Trunk(Port):
    """The server is in VLAN `vlan`. Frames of the machine that carry its tag go on without it, all others are lost."""

    def __init__(self, vlan):
        self.vlan = vlan

    def inward(self, frame):
        return frame[:TYPE] + TAG + self.vlan.to_bytes(2, "big") + frame[TYPE:]

    def outward(self, frame):
        identifier = int.from_bytes(frame[TYPE + 2:TYPE + 4], "big") & 0xFFF
        return frame[:TYPE] + frame[TYPE + 4:] if frame[TYPE:TYPE + 2] == TAG and identifier == self.vlan else None


class OtherDhcp(Port):
    """DHCP answers name a DHCP server (option 54) that has no other service; next-server is the real server."""

    NOBODY = b"\x0a\x00\x02\x04"
    COOKIE = b"\x63\x82\x53\x63"
    IDENTIFIER = b"\x36\x04"

    def inward(self, frame):
        place = frame.find(self.COOKIE)
        place = frame.find(self.IDENTIFIER, place) if place >= 0 else place
        if frame[TYPE:TYPE + 2] != b"\x08\x00" or frame[34:38] != b"\x00\x43\x00\x44" or place < 0:
            return frame
        # The checksum of UDP may be absent.
        return frame[:40] + b"\x00\x00" + frame[42:place + 2] + self.NOBODY + frame[place + 6:]
