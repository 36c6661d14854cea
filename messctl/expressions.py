"""Regular expressions that users give: each is compiled and searched in a process of its own, within limits.

An expression may take longer than the age of the universe, `(a+)+$` for example, and Python cannot interrupt it. The
process is made once, in some 20 ms, and serves one search after the other. If it is stopped, the next search makes
another.
"""

from __future__ import annotations

import atexit
import json
import re
import subprocess
import sys
import threading
import warnings
from contextlib import suppress

from messctl.errors import GradeError

CPU_S = 1.0
"""The longest time that a search may take on a processor."""
WALL_S = 4.0
"""The longest time that a search may take by the clock, which goes on while other processes have the processor."""
MOST_BYTES = 2**30
"""The most memory that a search may take."""
LONGEST_QUOTE = 60
"""The longest expression that an error repeats, in characters."""
TOO_DEEP = "it is nested too deeply"
_SHORT = 200
_NAMES_CHARACTERS = re.compile(r"\\[uUN]")
"""With these, a short expression may hold a range of a million characters, which takes seconds to compile."""

_SERVES = f"""
import json, re, sys, warnings
warnings.simplefilter("ignore")
try:
    import resource, signal
    resource.setrlimit(resource.RLIMIT_AS, ({MOST_BYTES}, {MOST_BYTES}))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    limit = lambda seconds: signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    signal.signal(signal.SIGVTALRM, signal.SIG_DFL)
except (ImportError, OSError, ValueError):
    limit = lambda seconds: None
for line in sys.stdin:
    limit({CPU_S})
    try:
        expression, text = json.loads(line)
        reply = {{"found": ""}} if re.search(expression, text) else {{}}
    except MemoryError:
        reply = {{"stopped": "takes more memory than {MOST_BYTES / 1e9:.0f} GB"}}
    except RecursionError:
        reply = {{"error": "{TOO_DEEP}"}}
    except Exception as error:
        reply = {{"error": str(error)}}
    limit(0)
    print(json.dumps(reply), flush=True)
"""


def check(expression: str) -> str | None:
    """Return why a text is not a regular expression that can be used, None if it is one."""
    if len(expression) <= _SHORT and expression.isascii() and not _NAMES_CHARACTERS.search(expression):
        return _compiled_here(expression)
    reply = _process.reply(expression, "")
    return reply.get("stopped", reply.get("error"))


def _compiled_here(expression: str) -> str | None:
    """Check a short expression in this process: to compile it takes milliseconds, whatever it is."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what may mean something else in later versions of Python
            re.compile(expression)
    except RecursionError:
        return TOO_DEEP
    except Exception as error:  # noqa: BLE001  # some are no re.error, such as OverflowError
        return str(error)
    return None


def found(expression: str, text: str) -> bool:
    """Return whether a regular expression matches somewhere in a text.

    Raises GradeError if it is not valid, or takes too much time or memory.
    """
    reply = _process.reply(expression, text)
    if "stopped" in reply:
        raise GradeError(f"the regular expression {quoted(expression)} {reply['stopped']} on this answer; simplify it")
    if "error" in reply:
        raise GradeError(f"{quoted(expression)} is not a regular expression ({reply['error']}); correct it")
    return "found" in reply


def quoted(expression: str) -> str:
    """Return an expression as an error shows it, cut if it is long."""
    shown = repr(expression[: LONGEST_QUOTE + 1])
    return shown if len(shown) <= LONGEST_QUOTE else f"{shown[:LONGEST_QUOTE]}…"


class _Process:
    """The process that searches; made when it is needed first. Thread-safe: one search after the other."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: subprocess.Popen[str] | None = None

    def reply(self, expression: str, text: str) -> dict[str, str]:
        """Return what the process replies: whether the text has a match, or what is wrong, or why it was stopped."""
        with self._lock:
            running = self._running = self._running or self._begun()
            stopper = threading.Timer(WALL_S, running.kill)
            stopper.daemon = True
            stopper.start()
            try:
                line = _reply_to(running, json.dumps([expression, text]))
            except BaseException:  # Ctrl-C: a reply that nobody reads must not answer the next search
                self._end()
                raise
            finally:
                stopper.cancel()
            if not line.endswith("\n"):
                self._end()
                return {"stopped": f"takes longer than {CPU_S:g} s"}
        reply: dict[str, str] = json.loads(line)
        return reply

    def _begun(self) -> subprocess.Popen[str]:
        atexit.unregister(self._end)
        atexit.register(self._end)
        return _started()

    def _end(self) -> None:
        running, self._running = self._running, None
        if running is not None:
            running.kill()
            running.wait()
            for stream in (running.stdin, running.stdout):
                if stream is not None:
                    with suppress(OSError):
                        stream.close()


def _started() -> subprocess.Popen[str]:
    try:
        return subprocess.Popen(
            [sys.executable, "-I", "-S", "-X", "utf8", "-c", _SERVES],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            encoding="ascii",
            start_new_session=True,  # Ctrl-C is for messctl alone
        )
    except OSError as error:
        raise GradeError(f"no process can be started for a regular expression ({error.strerror or error})") from None


def _reply_to(running: subprocess.Popen[str], request: str) -> str:
    """Return the line that the process replies, an incomplete one if it ended."""
    assert running.stdin is not None
    assert running.stdout is not None
    with suppress(BrokenPipeError):
        print(request, file=running.stdin, flush=True)
    return running.stdout.readline()


_process = _Process()
