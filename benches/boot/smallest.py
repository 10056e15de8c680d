#!/usr/bin/env python3
"""smallest.py: the smallest memory (QEMU's -m) with which a system net-boots to state `running`, found by bisection.

  smallest.py --rivals DIR --site SITE [--modes layerfs,nbd,ram] [--step 16] [--from 64] [--to 1024]

Modes, DIR and SITE are those of boot.py. A size counts when one boot reaches multi-user.target in state `running`: nothing
failed and the kernel killed nothing that systemd misses. The answer is the smallest size that did, and the size one step
below it that did not. Raw lines go to RESULTS/smallest.jsonl. The link has no limit, so that only memory can fail."""
import argparse
import json
import os
import signal
import sys
import time

from boot import BootError, arguments, boot


def running(options, mode, memory):
    """One boot with `memory` MiB: (whether it is `running`, what happened)."""
    options.memory = memory
    begun = time.monotonic()
    try:
        info = boot(options, mode, 0, (0, 0))
        good, said = info["state"] == "running", f"{info['state']}, {info['from_kernel']:.0f} s"
    except BootError as error:
        good, said = False, str(error).splitlines()[0]
    print(f"{mode} {memory} MiB: {said}", file=sys.stderr, flush=True)
    with open(os.path.join(options.results, "smallest.jsonl"), "a", encoding="utf-8") as raw:
        raw.write(json.dumps({"mode": mode, "memory": memory, "running": good, "said": said, "rivals": options.rivals,
                              "seconds": time.monotonic() - begun, "load": os.getloadavg()[0]}) + "\n")
    return good


def smallest(options, mode, low, high, step):
    """The smallest multiple of `step` that runs, if `high` does; searched above `low`, below it only where that runs too."""
    if not running(options, mode, high):
        return None
    least, failed = low, False
    while high - low > step:
        middle = (low + high) // 2 // step * step
        if running(options, mode, middle):
            high = middle
        else:
            low, failed = middle, True
    while not failed and least > 0 and running(options, mode, least):
        high, least = least, least - step
    return high


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, add_help=False)
    parser.add_argument("--step", type=int, default=16)
    parser.add_argument("--from", type=int, default=64, dest="low")
    parser.add_argument("--to", type=int, default=1024, dest="high")
    given, rest = parser.parse_known_args()
    options = arguments(rest)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    os.makedirs(options.results, exist_ok=True)
    print("\n| mode | smallest -m, MiB |\n|---|---|")
    for mode in options.modes.split(","):
        found = smallest(options, mode, given.low, given.high, given.step)
        print(f"| {mode} | {found or f'more than {given.high}'} |", flush=True)


if __name__ == "__main__":
    main()
