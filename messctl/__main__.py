"""The `messctl` command, and `python -m messctl`."""

from __future__ import annotations

import io
import os
import sys


def main() -> None:
    """Run the command line and exit: 0 fine, 1 the SLA asked for was missed, 2 bad usage or input."""
    try:
        _mend_streams()
        from messctl.cli import run  # noqa: PLC0415  # Ctrl-C may come while this is still being imported

        code = run(sys.argv[1:])
    except KeyboardInterrupt:
        code = 130
    sys.exit(code)


def _mend_streams() -> None:
    """Open the standard streams that were closed, on nothing, and have none refuse a character."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), "w" if number else "r"))
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


if __name__ == "__main__":
    main()
