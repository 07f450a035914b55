"""Standard output that is a terminal of some width, or a file, in some encoding."""

import io
import re
import sys

from infall.cli._terminal import Output

WIDTHS = (60, 80, 100, 120, None)  # None: no terminal


class _Stream(io.TextIOWrapper):
    terminal = False

    def isatty(self):
        return self.terminal


def printed_at(width, monkeypatch, show, encoding="utf-8"):
    """Return what `show` prints on the output it is given."""
    stream = _Stream(io.BytesIO(), encoding=encoding, errors="strict", newline="")
    stream.terminal = width is not None
    monkeypatch.setenv("COLUMNS", str(width or 80))  # which only a terminal has
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        show(Output())
        stream.flush()
    return stream.buffer.getvalue().decode(encoding)


def whole(text, shown):
    """Return whether a text stands somewhere by itself."""
    return re.search(rf"(?<![^\s|]){re.escape(text)}(?![^\s|])", shown) is not None
