#!/usr/bin/env python3
"""update.py: bytes that bring a machine from an old tree to a new one, by update packs and by others.

  update.py --inputs DIR [--only point,config] [--peers squashfs,xdelta3,casync,ostree,patch-from]

DIR/NAME/{old,new} are made by inputs.sh. For each pair: the old tree is imported into a store, the
new one is dropped as an archive and published by `bakery watch`, and `bakery update-pack` makes the
pack. Then a client with the old revision in its cache mounts the new one by the pack; its row has
the bytes that it received, and the CPU time and memory of its daemon until the pack is applied. The
others get the same trees in the same run. CPU seconds and peak memory are those of the
programs started. A table goes to standard output, raw lines to RESULTS/update.jsonl. Needs root;
others that are not installed are left out."""
import argparse
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))


def timed(command, **more):
    """Runs a command; returns its output, CPU seconds and peak MiB."""
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, **more)
        output = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            errors.seek(0)
            said = errors.read().decode(errors="replace")
            raise SystemExit(f"update.py: {' '.join(command)} failed: {said}")
    return output, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def size(path):
    return os.path.getsize(path)


def files(directory):
    return {os.path.join(place, name) for place, _, names in os.walk(directory) for name in names}


def ours(programs, old, new, work):
    """Publishes both trees; returns rows of today's layer and of the update pack."""
    store, spool = os.path.join(work, "store"), os.path.join(work, "spool")
    bakery = [os.path.join(programs, "bakery"), "--store", store]
    timed(bakery + ["init"])
    timed(bakery + ["import", "sys", old + "/", "--no-check", "--no-pack"])
    incoming = os.path.join(spool, "incoming", "sys")
    os.makedirs(incoming)
    archive = os.path.join(work, "new.tar.zst")
    subprocess.run(["tar", "--xattrs", "--numeric-owner", "-I", "zstd -1", "-cf", archive, "-C", new, "."], check=True)
    os.rename(archive, os.path.join(incoming, "new.tar.zst"))
    _, cpu, peak = timed(bakery + ["watch", "--once", "--updates", "0", "--settle", "100", "--spool", spool])
    shown = json.loads(timed(bakery + ["show", "sys@2", "--json"])[0])
    layer = shown["layers"][-1]["len"]
    yield "layer over the old one", layer, cpu, peak
    made, cpu, peak = timed(bakery + ["update-pack", "sys@1", "sys@2", "--json"])
    made = json.loads(made)
    yield "today: new chunks and index", made["plain_bytes"], 0, 0
    yield "update pack, and the chunks that it omits", made["bytes"] + made["left_out_bytes"], cpu, peak
    yield "of it: index", made["index_bytes"], 0, 0
    yield from client(programs, store, work, made["raw_bytes"])


def daemon_usage(pid):
    """CPU seconds and peak MiB of a running process."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"), peak / 1024


def client(programs, store, work, raw_bytes):
    """A client that has revision 1 in its cache takes the update pack to revision 2."""
    layerfs, cache, at = os.path.join(programs, "layerfs"), os.path.join(work, "cache"), os.path.join(work, "mnt")
    place = f"127.0.0.1:{free_port()}"
    os.mkdir(at)
    server = subprocess.Popen([os.path.join(programs, "bakery"), "--store", store, "serve", "--quiet", "--listen", place])
    try:
        for revision, field in (("@1", "prefetch"), ("", "update")):
            mount = [layerfs, "mount", "-f", "--keys", store + ".keys/allowed_signers", "--cache", cache,
                     "-o", "cache-memory=4M", f"http://{place}/sys{revision}", at]
            wait_listening(place)
            daemon = subprocess.Popen(mount)
            try:
                status = settled(layerfs, at, field, daemon)
                cpu, peak = daemon_usage(daemon.pid)
            finally:
                subprocess.run(["umount", at], check=False)
                daemon.wait(timeout=60)
        used = status["update_pack"]
        rate = raw_bytes / 1e6 / max(cpu, 0.01)
        form = f"client: {used['applied']} of {used['units']} units, {rate:.0f} MB/s of result"
        yield form, status["bytes"], cpu, peak
    finally:
        server.terminate()
        server.wait()


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def wait_listening(place):
    host, port = place.split(":")
    for _ in range(200):
        try:
            socket.create_connection((host, int(port)), timeout=1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise SystemExit("update.py: bakery serve does not listen")


def settled(layerfs, at, field, daemon, is_there=False):
    """The status of the mount, once the work that `field` tells of is complete; `is_there`: at once."""
    for _ in range(36000):
        if daemon.poll() is not None:
            raise SystemExit("update.py: the mount ended")
        asked = subprocess.run([layerfs, "status", "--json", at], capture_output=True, check=False)
        if asked.returncode == 0:
            status = json.loads(asked.stdout)
            status = status["source"]
            if is_there or status[field].startswith(("complete", "given up", "done")):
                return status
        time.sleep(0.05)
    raise SystemExit(f"update.py: {field} is not complete")


def squashfs(tree, out):
    return timed(["mksquashfs", tree, out, "-noappend", "-no-progress", "-quiet", "-comp", "zstd",
                  "-Xcompression-level", "15", "-b", "128K"])


def others(old, new, work, wanted):
    images = [os.path.join(work, name) for name in ("old.squashfs", "new.squashfs")]
    if "squashfs" in wanted:
        squashfs(old + "/", images[0])
        _, cpu, peak = squashfs(new + "/", images[1])
        yield "squashfs whole", size(images[1]), cpu, peak
        if "xdelta3" in wanted:
            out = os.path.join(work, "xdelta")
            _, cpu, peak = timed(["xdelta3", "-f", "-9", "-B", str(512 << 20), "-e", "-s", *images, out])
            yield "xdelta3 of both squashfs", size(out), cpu, peak
        for image in images:
            os.unlink(image)
    if "casync" in wanted:
        store, index = os.path.join(work, "castr"), os.path.join(work, "i.caidx")
        timed(["casync", "make", f"--store={store}", index, old + "/"])
        before = files(store)
        _, cpu, peak = timed(["casync", "make", f"--store={store}", index, new + "/"])
        yield "casync, new chunks", size(index) + sum(map(size, files(store) - before)), cpu, peak
        shutil.rmtree(store)
    if "ostree" in wanted:
        repo = os.path.join(work, "repo")
        ostree = ["ostree", f"--repo={repo}"]
        timed(ostree + ["init", "--mode=archive"])
        commits = [timed(ostree + ["commit", "-b", "sys", f"--tree=dir={tree}/"])[0].decode().strip() for tree in (old, new)]
        command = ostree + ["static-delta", "generate", "--min-fallback-size=0", f"--from={commits[0]}", f"--to={commits[1]}"]
        _, cpu, peak = timed(command)
        yield "ostree static delta", sum(map(size, files(os.path.join(repo, "deltas")))), cpu, peak
        shutil.rmtree(repo)
    if "patch-from" in wanted:
        tars = [os.path.join(work, name) for name in ("old.tar", "new.tar")]
        for tree, tar in zip((old, new), tars):
            subprocess.run(["tar", "--sort=name", "--numeric-owner", "--xattrs", "-cf", tar, "-C", tree, "."], check=True)
        out = os.path.join(work, "patch")
        _, cpu, peak = timed(["zstd", "-q", "-19", "--long=31", "-f", f"--patch-from={tars[0]}", tars[1], "-o", out])
        yield "zstd -19 --patch-from of both tars", size(out), cpu, peak


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", required=True)
    parser.add_argument("--only", default="point,kernel12,kernel13,release,config,renamed")
    parser.add_argument("--peers", default="squashfs,xdelta3,casync,ostree")
    parser.add_argument("--programs", default=os.path.join(TOP, "target/release"))
    parser.add_argument("--results", default=os.environ.get("RESULTS", os.path.join(TOP, "lab")))
    options = parser.parse_args()
    tools = {"squashfs": "mksquashfs", "xdelta3": "xdelta3", "casync": "casync", "ostree": "ostree", "patch-from": "zstd"}
    wanted = [peer for peer in options.peers.split(",") if peer and shutil.which(tools[peer])]
    print("| input | form | bytes | of today's | CPU s | peak MiB |\n|---|---|---|---|---|---|")
    for name in options.only.split(","):
        old, new = (os.path.join(options.inputs, name, end) for end in ("old", "new"))
        if not os.path.isdir(new):
            continue
        with tempfile.TemporaryDirectory(dir=options.inputs) as work:
            today = None
            rows = list(ours(options.programs, old, new, work))
            today = next(row[1] for row in rows if row[0].startswith("today"))
            for form, length, cpu, peak in [*rows, *others(old, new, work, wanted)]:
                print(f"| {name} | {form} | {length:,} | {length / today:.3f} | {cpu:.1f} | {peak:.0f} |", flush=True)
                line = {"bench": "update", "input": name, "form": form, "bytes": length, "cpu_s": cpu, "peak_mib": peak}
                with open(os.path.join(options.results, "update.jsonl"), "a", encoding="utf-8") as lines:
                    lines.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
