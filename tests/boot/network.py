#!/usr/bin/env python3
"""Broken networks, with each kind of initramfs: each ends in a boot to state running, or in a
message on the console that says what failed.

    room.sh network.py [--suite trixie] [--trees DIR] [--site DIR] [--only KIND,…] [--cases NAME,…]

cable    the cable comes 60 s late, and with it DHCP
card     two cards, the second without a cable
static   an address by ip=, no DHCP; the running system keeps it
vlan     the server is in a VLAN behind a trunk port (port.py), by vlan= and a static address (dracut); a message
         where nobody makes a VLAN
bond     two cards as one (dracut); a message where nobody makes a bond
next     root=layerfs:office without a server: it is DHCP's next-server, port 80
apart    the same, and the DHCP server is another machine
url      a system that the server does not have
dead     nobody listens where the server should be
"""

import argparse
import os

from distros import SUITES, Release
from machine import free_port, run_script
from office import KINDS, OUTAGE, TOP, Verdicts, opened, report
from port import OtherDhcp, Trunk

STATIC = "ip=10.0.2.15::10.0.2.2:255.255.255.0:pc7:eth0:off"
VLAN = "vlan=eth0.7:eth0 ip=10.0.2.15::10.0.2.2:255.255.255.0:pc7:eth0.7:off"
BOND = "bond=bond0:eth0,eth1:mode=active-backup,primary=eth0,miimon=100 ip=bond0:dhcp"


def start(site, kind, name, extra="", **options):
    return site.machine(f"{site.suite}-{kind}-{name}", kind=kind, extra=extra, **options)


def boots(site, machine):
    """The machine comes up, its systemd-networkd keeps the address, and it ends."""
    when = site.check(machine)
    machine.run("systemctl is-active systemd-networkd && systemctl restart systemd-networkd && sleep 5 && ls -lR /usr/share > /dev/null")
    site.power_off(machine)
    return f"running after {when:.0f} s"


def cable(site, kind):
    with start(site, kind, "cable") as machine:
        machine.monitor("set_link n0 off")
        machine.poll(OUTAGE)
        machine.monitor("set_link n0 on")
        return boots(site, machine)


def card(site, kind):
    with start(site, kind, "card", nics=2) as machine:
        machine.monitor("set_link n1 off")
        return boots(site, machine)


def static(site, kind):
    with start(site, kind, "static", STATIC) as machine:
        return boots(site, machine)


def vlan(site, kind):
    return made_of_cards(site, kind, "vlan", VLAN, port=Trunk(7))


def bond(site, kind):
    return made_of_cards(site, kind, "bond", BOND, nics=2, hub=True)


def made_of_cards(site, kind, name, parameters, **options):
    """An interface made of cards: dracut makes it, the others report that they do not."""
    with start(site, kind, name, parameters, **options) as machine:
        if kind == "dracut":
            return boots(site, machine)
        machine.allowed = {"the initramfs stopped"}
        said, when = machine.expect(rf"layerfs: (why: )?{name}=.*does not support such an interface.*", 300)
        return f"after {when:.0f} s: {said[0].strip()}"


def next_server(site, kind):
    with start(site, kind, "next", "root=layerfs:office", root="") as machine:
        return boots(site, machine)


def apart(site, kind):
    with start(site, kind, "apart", "root=layerfs:office", root="", port=OtherDhcp()) as machine:
        return boots(site, machine)


def url(site, kind):
    with start(site, kind, "url", f"root=layerfs:{site.url}/nosuch", root="") as machine:
        machine.allowed = {"the initramfs stopped"}
        said, when = machine.expect(r"layerfs: (why: )?layerfs could not mount .*/nosuch.*", 300)
        return f"after {when:.0f} s: {said[0].strip()}"


def dead(site, kind):
    with start(site, kind, "dead", f"root=layerfs:http://10.0.2.2:{free_port()}/office", root="") as machine:
        said, when = machine.expect(r"layerfs: (waiting|no server|.* does not answer).*", 300)
        return f"after {when:.0f} s: {said[0].strip()}"


CASES = {"cable": cable, "card": card, "static": static, "vlan": vlan, "bond": bond, "next": next_server, "apart": apart,
         "url": url, "dead": dead}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--suite", default="trixie", choices=SUITES)
    parser.add_argument("--trees", default=os.path.join(TOP, "lab", "trees"))
    parser.add_argument("--site")
    parser.add_argument("--only", default=",".join(KINDS))
    parser.add_argument("--cases", default=",".join(CASES))
    given = parser.parse_args()
    verdicts = Verdicts()
    with opened(Release, given.site, given.suite) as site:
        site.prepare(os.path.join(given.trees, given.suite))
        site.make_store()
        # In the room every port is free.
        site.address, site.port = "0.0.0.0", 80
        site.start()
        for kind in given.only.split(","):
            for name in given.cases.split(","):
                verdicts.run(f"{kind} {name}", lambda: report(f"{given.suite} {kind} {name}: {CASES[name](site, kind)}"))
    verdicts.end()


if __name__ == "__main__":
    run_script(main)
