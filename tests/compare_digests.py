"""Compare what programs print of tests/digests.cpp: every level of every machine, the same bits."""

import shlex
import subprocess
import sys


def main(commands):
    levels_of = {}  # family -> {digest: levels}
    for command in commands:
        run = subprocess.run(shlex.split(command), check=True, stdout=subprocess.PIPE, text=True)
        for line in run.stdout.splitlines():
            level, family, digest = line.split()
            levels_of.setdefault(family, {}).setdefault(digest, []).append(level)
    for family, digests in levels_of.items():
        for digest, levels in digests.items():
            print(f"{family:10} {digest} {', '.join(levels)}")
    counts = {len(levels) for digests in levels_of.values() for levels in digests.values()}
    different = [family for family, digests in levels_of.items() if len(digests) > 1]
    if different:
        sys.exit(f"bits differ: {', '.join(different)}")
    if not levels_of or len(counts) > 1:
        sys.exit("not every level computed every family")


if __name__ == "__main__":
    main(sys.argv[1:])
