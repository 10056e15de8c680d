#!/usr/bin/env python3
"""Root duty in real boots: requirements of a root file system in operation and at power-off.

    duty.py [--tree DIR] [--site DIR] [--only NAME,…] [--poweroffs N]

reboot       ends cleanly, and the machine comes up again
outage       the server is gone for 60 s in the middle of a boot: it is only late, and says why
late         the server comes 60 s after the initramfs asked for it: the same
listed       the last that is done before the end is to list /, which makes the kernel forget its attributes:
             systemd-shutdown asks for them while the daemon stands still
full         a full upper is ENOSPC for the writer; reads go on, after rm writes work again, the end is clean
memory       what the daemon holds and what it leaves; a program that takes all memory is killed, the root is not
asleep       tasks are frozen as for a suspend, while programs ask the root without a pause: the machine goes on
ends         N boots that only end (20), none hangs
"""

import argparse
import re
import time

from machine import run_script
from office import OUTAGE, Site, Verdicts, opened, report

SLEEPS = 4
# Status of the daemon in kB, its OOM score, the machine's memory.
MEMORY = r"""
pid=$(pgrep -x '@layerfs|layerfs')
echo pid $pid
sed -n 's/^\(VmRSS\|VmHWM\|VmLck\|VmSwap\|RssAnon\|RssFile\|Threads\):[ \t]*\([0-9]*\).*/\1 \2/p' /proc/$pid/status
echo oom_score_adj $(cat /proc/$pid/oom_score_adj)
sed -n 's/^\(MemTotal\|MemFree\|MemAvailable\|Cached\|Shmem\|SUnreclaim\):[ ]*\([0-9]*\).*/\1 \2/p' /proc/meminfo
"""


def memory_of(machine):
    _, text = machine.run(MEMORY)
    return {name: int(value) for name, value in (line.split() for line in text.splitlines())}


def show_memory(found):
    names = ("VmRSS", "RssAnon", "RssFile", "VmHWM", "VmLck", "VmSwap")
    kib = ", ".join(f"{name} {found[name]}" for name in names if name in found)
    guest = ", ".join(f"{name} {found[name]}" for name in ("MemTotal", "MemAvailable", "Cached", "Shmem"))
    return f"daemon: {kib} KiB, {found['Threads']} threads, oom_score_adj {found['oom_score_adj']}; guest: {guest} KiB"


def reboot(site):
    with site.machine("reboot", reboots=True) as machine:
        first = site.check_running(machine)
        machine.run("echo first > /etc/of-this-boot")
        site.reboot(machine)
        second = site.check_running(machine)
        machine.run("test ! -e /etc/of-this-boot")      # a tmpfs upper begins anew
        site.power_off(machine)
    report(f"reboot: multi-user after {first:.1f} s, again at {second:.1f} s, off at {machine.seconds():.1f} s")


def card(site):
    """Cards whose drivers the initramfs keeps packed."""
    for nic in ("e1000e", "e1000"):
        with site.machine("card", nic=nic) as machine:
            when = site.check_running(machine)
            machine.run("dmesg | grep -q 'layerfs: unpacking the drivers'")
            site.power_off(machine)
        report(f"card: {nic}: multi-user after {when:.1f} s")


def outage(site):
    with site.machine("outage") as machine:
        _, gone = machine.expect(r"systemd\[1\]: .*(Reached target|Started|Finished)|\[ *OK *\]", 200)
        _, back = site.lose(machine)
        when = site.check_running(machine)
        said, _ = machine.expect(r"layerfs: waiting for (.*)", 1)
        site.power_off(machine)
    report(f"outage: server gone at {gone:.1f} s, back at {back:.1f} s, multi-user after {when:.1f} s; "
           f"the console said: {said[0]}")


def late(site):
    site.stop()
    try:
        with site.machine("late") as machine:
            said, asked = machine.expect(r"layerfs: (waiting|no server|.* does not answer).*", 200)
            machine.poll(OUTAGE)
            site.start()
            back = machine.seconds()
            when = site.check_running(machine)
            site.power_off(machine)
    finally:
        site.stop()
        site.start()
    report(f"late: the console said at {asked:.1f} s: {said[0]}; server at {back:.1f} s, multi-user after {when:.1f} s")


def listed(site):
    with site.machine("listed") as machine:
        site.check_running(machine)
        # No program that runs at power-off may read it before.
        machine.run("systemctl stop systemd-networkd.socket systemd-networkd ssh systemd-logind systemd-journald.socket systemd-journald-dev-log.socket; "
                    "systemctl mask --runtime --now systemd-journald; true", 60)
        machine.send("sync; echo 2 > /proc/sys/vm/drop_caches; ls -a / > /dev/null; systemctl --no-block poweroff")
        begun = machine.seconds()
        machine.expect(r"layerfs: root released, poweroff", 120)
        machine.wait_exit(30)
        site.check_end(machine)
    report(f"listed: ended in {machine.seconds() - begun:.1f} s after / was listed")


def full(site):
    with site.machine("full", extra="layerfs.upper=tmpfs:64m") as machine:
        site.check_running(machine)
        _, told = machine.run("dd if=/dev/zero of=/fill bs=64k 2>&1; echo code $?", 200)
        if "No space left on device" not in told or "code 1" not in told:
            machine.fail(f"the writer of a full upper was not told ENOSPC: {told}")
        # The file has exactly the acknowledged bytes.
        written = int(re.search(r"(\d+) bytes", told)[1])
        machine.run(f"test $(stat -c %s /fill) -ge {written} && head -c {written} /fill | cmp -n {written} - /dev/zero")
        # Every writer is refused, none hangs: new files, lower files opened for writing, maps, directories.
        _, told = machine.run("for try in 'echo x > /etc/new' 'echo x >> /etc/services' 'mkdir -p /opt/a/b && cp /usr/bin/perl /opt/a/b/'; do "
                              "timeout 20 sh -c \"$try\"; echo code $?; done", 90)
        codes = re.findall(r"code (\d+)", told)
        if codes[0] == "0" or codes[1] == "0" or codes[2] == "0" or "124" in codes:
            machine.fail(f"writes to a full upper: {told}")
        # Reads still work: programs, lower files that were not read before.
        machine.run("! grep -qx x /etc/services && find /usr/lib/python3* /usr/share -type f | head -n 1000 | xargs -d '\\n' cat > /dev/null", 120)
        machine.run("timeout 20 ls -lR /etc > /dev/null && timeout 20 su tester -c 'id -un'", 60)
        machine.run("rm /fill && echo there > /etc/new && test \"$(cat /etc/new)\" = there && echo '# y' >> /etc/services && "
                    "dd if=/dev/zero of=/again bs=64k count=300 && sync && test $(stat -c %s /again) = 19660800", 120)
        _, failed = machine.run("systemctl is-system-running; systemctl --failed --no-legend --plain", check=False)
        if failed.split()[0] != "running":
            machine.fail(f"after a full upper systemd is {failed}")
        # Power-off with a full upper.
        machine.run("dd if=/dev/zero of=/fill bs=64k 2> /dev/null", 200, check=False)
        site.power_off(machine)
    report(f"full: ENOSPC after {written} bytes, reads went on, writes again after rm, off at {machine.seconds():.1f} s with a full upper")


def memory(site):
    with site.machine("memory", memory=512) as machine:
        site.check_running(machine)
        machine.run("sleep 20", 60)
        idle = memory_of(machine)
        report(f"memory: idle, 512 MiB: {show_memory(idle)}")
        # Reads everything through the mount, as a busy machine would.
        machine.run("find / -xdev -type f | xargs -d '\\n' cat > /dev/null", 400)
        read = memory_of(machine)
        report(f"memory: after reading every file: {show_memory(read)}")
        if idle["oom_score_adj"] != -1000 or read["VmSwap"] != 0 or idle["VmLck"] < idle["RssAnon"]:
            machine.fail(f"the daemon can be swapped or killed: {idle}")
        # A program allocates all memory. The kernel kills it, and nothing else.
        _, told = machine.run("systemd-run -q --wait --unit hog -p OOMPolicy=continue -p OOMScoreAdjust=500 python3 -c "
                              "'x = []\nwhile True: x.append(bytearray(1 << 20))'; systemctl show -p Result hog; systemctl reset-failed hog", 300, check=False)
        machine.expect(r"Out of memory: Killed process \d+ \(python3\)", 30)
        if killed := [text for _, text in machine.lines if re.search(r"Killed process \d+ \((?!python3)", text)]:
            machine.fail(f"not only the program that took the memory was killed: {killed}")
        hog = memory_of(machine)
        if hog["VmSwap"] != 0 or hog["pid"] != idle["pid"]:
            machine.fail(f"the daemon after the memory was gone: {hog}, {told}")
        machine.run("test \"$(systemctl is-system-running)\" = running && find /usr/bin -type f | xargs -d '\\n' cat > /dev/null", 200)
        site.power_off(machine)
    report(f"memory: a program that took everything was killed, the root was not: {show_memory(hog)}; off at {machine.seconds():.1f} s")


def asleep(site):
    with site.machine("asleep") as machine:
        site.check_running(machine)
        machine.run("for n in 1 2 3; do (while :; do find /usr -xdev -type f -exec true {} +; echo 2 > /proc/sys/vm/drop_caches; done "
                    "> /dev/null 2>&1 < /dev/null &); done")
        # A suspend up to and including the freezing of tasks, five seconds long.
        _, told = machine.run(f"echo freezer > /sys/power/pm_test; for n in $(seq {SLEEPS}); do if echo freeze > /sys/power/state; "
                              "then echo slept; else echo refused; fi; sleep 1; done 2>&1; echo none > /sys/power/pm_test", 300)
        slept = told.split().count("slept")
        machine.run("pkill -f drop_caches; pkill find; test \"$(systemctl is-system-running)\" = running && echo written > /etc/after && sync && "
                    "find /usr/bin -type f | xargs -d '\\n' cat > /dev/null", 200)
        site.power_off(machine)
    report(f"asleep: frozen {slept} times of {SLEEPS} while programs asked the root, refused {SLEEPS - slept} times; went on each time; "
           f"off at {machine.seconds():.1f} s")


def ends(site, count):
    took = []
    for number in range(count):
        with site.machine(f"end-{number + 1}") as machine:
            up = site.check_running(machine)
            begun = machine.seconds()
            site.power_off(machine)
            took.append(machine.seconds() - begun)
        report(f"ends: {number + 1} of {count}: multi-user after {up:.1f} s, ended in {took[-1]:.1f} s")
    report(f"ends: {count} of {count} ended by themselves, in {min(took):.1f} to {max(took):.1f} s")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tree")
    parser.add_argument("--site")
    parser.add_argument("--only", default="reboot,card,outage,late,listed,full,memory,asleep,ends")
    parser.add_argument("--poweroffs", type=int, default=20)
    given = parser.parse_args()
    tests = {"reboot": reboot, "card": card, "outage": outage, "late": late, "listed": listed,
             "full": full, "memory": memory, "asleep": asleep,
             "ends": lambda site: ends(site, given.poweroffs)}
    begun = time.monotonic()
    verdicts = Verdicts()
    with opened(Site, given.site) as site:
        site.make_tree(given.tree)
        site.make_store()
        site.start()
        for name in given.only.split(","):
            verdicts.run(name, tests[name], site)
    verdicts.end()
    report(f"root duty: all passed in {time.monotonic() - begun:.0f} s")


if __name__ == "__main__":
    run_script(main)
