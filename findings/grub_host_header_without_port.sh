#!/bin/sh
# GRUB 2.06 (Debian 12) and GRUB 2.12 (Debian 13): the `Host` header of an HTTP request lacks the port.
#
# Guess: for `(http,10.0.2.2:8123)/menu` GRUB connects to port 8123 and sends `Host: 10.0.2.2:8123`, as HTTP/1.1
# requires if the port is not 80.
# Seen: both versions connect to port 8123 and send `Host: 10.0.2.2`. They send two headers, `Host` and `User-Agent`.
# Why it matters: a boot server that writes absolute URLs into its menu takes its own address and port from `Host`. This
# works for iPXE and browsers, but for GRUB the URLs have port 80, where nothing listens. A server that GRUB boots from
# must take the port from its own socket.
#
# Needs: Debian 12 with dpkg, apt, python3 and qemu-system-x86 (any version; its firmware does the network boot), and
# network access to a Debian archive. It unpacks pinned packages of both GRUBs in a temporary folder. Takes a minute.
# Fails if the behavior changes.
set -eu
room=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server" 2>/dev/null; rm -rf "$room"' EXIT
cd "$room"

# Debian 12 and 13 of the archive that this machine uses, in lists of their own.
archive=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -v security | head -n 1)
mkdir -p lists/partial cache/archives/partial
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $archive bookworm main
deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $archive trixie main" >sources.list
touch status
apt="-qq -oDir::Etc::sourcelist=$room/sources.list -oDir::Etc::sourceparts=- -oDir::State::lists=$room/lists \
	-oDir::Cache=$room/cache -oDir::State::status=$room/status -oAPT::Sandbox::User=root"
apt-get $apt update
fetch() { apt-get $apt download "$1" >/dev/null 2>&1 || { echo "cannot get $1" >&2; exit 2; }; }

# The first menu of a network boot: it prints what a server says, and turns the machine off.
cat >menu.cfg <<'END'
net_bootp
cat (http,10.0.2.2:PORT)/menu
halt
END
cat >server.py <<'END'
import http.server


class Server(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        with open("seen", "a") as seen:
            print(self.headers["User-Agent"], "| Host:", self.headers["Host"], "| headers:", len(self.headers), file=seen)
        self.send_response(200)
        self.send_header("Content-Length", "6")
        self.end_headers()
        self.wfile.write(b"hello\n")

    def log_message(self, *_):
        pass


server = http.server.HTTPServer(("127.0.0.1", 0), Server)
with open("port", "w") as port:
    print(server.server_port, file=port)
server.serve_forever()
END
python3 server.py &
server=$!
tries=0
until [ -s port ]; do
	tries=$((tries + 1))
	[ "$tries" -lt 50 ]
	sleep 0.1
done
sed -i "s/PORT/$(cat port)/" menu.cfg

boot() { # boot VERSION: a network boot of this GRUB
	mkdir -p "grub-$1/tftp"
	(cd "grub-$1" && fetch "grub-pc-bin=$1" && dpkg -x ./*.deb root)
	"$mkimage" -d "grub-$1/root/usr/lib/grub/i386-pc" -O i386-pc-pxe -p '(memdisk)' -c menu.cfg \
		-o "grub-$1/tftp/grub.pxe" pxe net http tftp cat halt
	timeout 120 qemu-system-x86_64 -m 128 -display none -serial null -no-reboot -boot n \
		-netdev "user,id=net,tftp=grub-$1/tftp,bootfile=grub.pxe" -device e1000,netdev=net || true
}

# One grub-mkimage puts the modules of both versions together: it only joins them.
mkdir tools
(cd tools && fetch grub-common=2.06-13+deb12u2 && dpkg -x ./*.deb root)
mkimage=$room/tools/root/usr/bin/grub-mkimage
boot 2.06-13+deb12u2
boot 2.12-9+deb13u4
cat seen
[ "$(cat seen)" = "GRUB 2.06-13+deb12u2 | Host: 10.0.2.2 | headers: 2
GRUB 2.12-9+deb13u4 | Host: 10.0.2.2 | headers: 2" ]
