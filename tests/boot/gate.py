"""A gate between one machine and the server: it counts the bytes that the machine gets, and can hold them back."""

import socket
import threading


class Gate:
    """Listens on a port of loopback and passes each connection on to the server's."""

    def __init__(self, target):
        self.target = target
        self.received = 0           # bytes for the machine
        self.held = threading.Event()
        self._left = None           # bytes that may pass before the gate holds back; None: all
        self._open = threading.Event()
        self._open.set()
        self._lock = threading.Lock()
        self._door = socket.create_server(("127.0.0.1", 0))
        self.port = self._door.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self):
        """The server as the machine sees it."""
        return f"http://10.0.2.2:{self.port}"

    def hold_after(self, count):
        """Only so many bytes more reach the machine until `release`."""
        with self._lock:
            self.held.clear()
            self._open.clear()
            self._left = count

    def release(self):
        with self._lock:
            self._left = None
            self._open.set()

    def close(self):
        self.release()
        self._door.close()

    def _accept(self):
        while True:
            try:
                client, _ = self._door.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        try:
            server = socket.create_connection(("127.0.0.1", self.target), 20)
        except OSError:
            client.close()      # no server: as a refused connection, one round trip later
            return
        server.settimeout(None)
        threading.Thread(target=self._pass, args=(client, server, False), daemon=True).start()
        self._pass(server, client, True)

    def _pass(self, one, other, inward):
        try:
            while data := one.recv(65536):
                if inward:
                    self._count(data)
                other.sendall(data)
        except OSError:
            pass
        for end in (one, other):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def _count(self, data):
        """Waits as long as the gate is shut."""
        with self._lock:
            self.received += len(data)
            if self._left is not None:
                self._left -= len(data)
                if self._left < 0:
                    self.held.set()
                    wait = True
                else:
                    wait = False
            else:
                wait = False
        if wait:
            self._open.wait()
