"""What a role does about SIGTERM and Ctrl-C outside the part of its life in which it finishes work."""

import signal
import sys


def exit_on_signals() -> None:
    """Exit with status 0: nothing was begun yet, or all of it is done (uvicorn raises what it caught again)."""
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda *_: sys.exit(0))
