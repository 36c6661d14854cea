"""The `messctl` command, and `python -m messctl`."""

from __future__ import annotations

import io
import os
import sys


def main() -> None:
    """Run the command line and exit: 0 fine, 1 a required SLA is missed, 2 bad usage or input, 130 Ctrl-C."""
    try:
        _mend_streams()
        from messctl.cli import run  # noqa: PLC0415  # Ctrl-C may come during this import

        code = run(sys.argv[1:])
    except KeyboardInterrupt:
        code = 130
    sys.exit(code)


def _mend_streams() -> None:
    """Open closed standard streams on the null device, and let all streams print every character as an escape."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), "w" if number else "r"))
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


if __name__ == "__main__":
    main()
