"""Compare what programs print of tests/digests.cpp: every level of every machine, the same bits."""

import shlex
import subprocess
import sys


def main(commands):
    found = {}  # family -> {digest: levels}
    for command in commands:
        run = subprocess.run(shlex.split(command), check=True, stdout=subprocess.PIPE, text=True)
        for line in run.stdout.splitlines():
            level, family, digest = line.split()
            found.setdefault(family, {}).setdefault(digest, []).append(level)
    for family, digests in found.items():
        for digest, levels in digests.items():
            print(f"{family:10} {digest} {', '.join(levels)}")
    counts = {len(levels) for digests in found.values() for levels in digests.values()}
    different = [family for family, digests in found.items() if len(digests) > 1]
    if different:
        sys.exit(f"bits differ: {', '.join(different)}")
    if not found or len(counts) > 1:
        sys.exit("not every level computed every family")


if __name__ == "__main__":
    main(sys.argv[1:])
