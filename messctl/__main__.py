"""The `messctl` command, and `python -m messctl`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line and exit: 0 fine, 1 the SLA asked for was missed, 2 bad usage or input."""
    try:
        from messctl.cli import run  # noqa: PLC0415  # Ctrl-C may come while this is still being imported

        code = run(sys.argv[1:])
    except KeyboardInterrupt:
        code = 130
    sys.exit(code)


if __name__ == "__main__":
    main()
