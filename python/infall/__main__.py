"""``python -m infall``: the command line."""

from infall_command import main

main()
