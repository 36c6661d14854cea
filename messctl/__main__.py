"""The `messctl` command, and `python -m messctl`."""

from __future__ import annotations

import io
import os
import sys
import threading
import warnings
from contextlib import suppress


def main() -> None:
    """Run the command line and exit: 0 fine, 1 a required SLA is missed, 2 bad usage or input, 130 Ctrl-C.

    Whatever else goes wrong, also while messctl is loaded, is one line on stderr, and exit code 2.
    """
    try:
        _mend_streams()
        _mute_libraries()
        from messctl.cli import run  # noqa: PLC0415  # Ctrl-C may come during this import

        code = run(sys.argv[1:])
    except KeyboardInterrupt:
        code = 130
    except Exception as error:  # noqa: BLE001  # exit code 1 would mean that the promise is missed
        code = 2
        with suppress(Exception):
            _complain(error)
    sys.exit(code)


def _complain(error: BaseException) -> None:
    from messctl.display.text import plain  # noqa: PLC0415  # only if something is wrong
    from messctl.errors import last_resort, traceback_of  # noqa: PLC0415  # see above

    for line in (*traceback_of(error).splitlines(), f"messctl: {last_resort(error)}"):
        print(plain(line), file=sys.stderr)


def _mute_libraries() -> None:
    """Silence the warnings of libraries, and errors in threads and callbacks, which end nothing.

    With MESSCTL_DEBUG they are printed.
    """
    if os.environ.get("MESSCTL_DEBUG", "") in ("", "0"):
        threading.excepthook = lambda _: None
        sys.unraisablehook = lambda _: None
        if not sys.warnoptions:
            warnings.simplefilter("ignore")


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
