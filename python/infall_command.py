"""The start of `infall` and `python -m infall`: the command line, or in one line why not.

This is no part of the package: importing the package is what may fail, or be interrupted.
"""

import sys
from importlib.metadata import version


def main() -> None:
    """Run the command line of infall."""
    if sys.argv[1:] == ["--version"]:  # without waiting for any import
        print(version("infall"))
        return
    try:
        from infall.cli import main as run
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise SystemExit(130) from None
    except ImportError as error:
        print(f"error: infall cannot be imported: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    run()
