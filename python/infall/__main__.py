"""``python -m infall``: the command line."""

from infall.cli import main

main()
