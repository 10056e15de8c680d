#!/bin/sh
# busybox httpd 1.35.0 (Debian 12): a range is served even if `If-Range` names another version of the file.
#
# Guess: the server sends `ETag` and `Last-Modified`, answers 304 for `If-None-Match`, and serves ranges. Therefore it
# answers a range request with an `If-Range` that does not match with 200 and the whole file, as RFC 9110 requires.
# Seen: it answers 206 with the range of the new file, for an entity tag and for a date. The result of busybox 1.38.0 was
# the same; nginx 1.22.1 and lighttpd 1.4.69 answered 200.
# Why it matters: busybox httpd serves kernels, initramfs files and images on small boot servers. A client that resumes a
# download sends `If-Range` so that it never joins two versions. Here it joins the beginning of the old file and the end
# of the new one. The 206 has the entity tag of the new file: a client must compare it itself, or verify the bytes.
#
# Needs: dpkg, apt, python3, network access to a Debian 12 archive. Fails if the behavior changes.
set -eu
room=$(mktemp -d)
trap 'rm -rf "$room"' EXIT
cd "$room"
apt-get -qq -oAPT::Sandbox::User=root download busybox-static=1:1.35.0-4+deb12u1+b1 >/dev/null
dpkg -x busybox-static_*.deb root
mkdir www
head -c 1000 /dev/zero | tr '\0' 1 >www/image
cat >ask.py <<'P'
import http.client
import os
import socket
import subprocess
import time

with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
server = subprocess.Popen(["root/bin/busybox", "httpd", "-f", "-p", f"127.0.0.1:{port}", "-h", "www"])


def ask(**headers):
    for _ in range(100):
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port)
            connection.request("GET", "/image", headers={name.replace("_", "-"): value for name, value in headers.items()})
            answer = connection.getresponse()
            return answer.status, answer.read(), answer.headers
        except ConnectionRefusedError:
            time.sleep(0.1)
    raise SystemExit("the server did not start")


try:
    _, whole, headers = ask()
    tag, date = headers["ETag"], headers["Last-Modified"]
    print("unchanged, If-None-Match:", ask(If_None_Match=tag)[0])
    with open("next", "wb") as new:
        new.write(b"2" * 1000)
    os.utime("next", (1e9, 1e9))
    os.rename("next", "www/image")
    for kind, validator in (("tag", tag), ("date", date)):
        status, rest, headers = ask(Range="bytes=500-", If_Range=validator)
        joined = whole[:500] + rest
        old, new = joined.count(b"1"), joined.count(b"2")
        print(f"changed, If-Range by {kind}: {status}, {old} old and {new} new bytes, same tag: {headers['ETag'] == tag}")
finally:
    server.terminate()
    server.wait()
P
seen=$(python3 ask.py)
echo "$seen"
[ "$seen" = "unchanged, If-None-Match: 304
changed, If-Range by tag: 206, 500 old and 500 new bytes, same tag: False
changed, If-Range by date: 206, 500 old and 500 new bytes, same tag: False" ]
