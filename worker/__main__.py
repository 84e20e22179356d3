"""`python -m worker`: one worker process."""

import sys

import uvloop

from shared.errors import PremiseServerError
from shared.logs import configure_logging
from shared.settings import load_settings
from shared.signals import exit_on_signals


def main() -> int:
    exit_on_signals()
    try:
        settings = load_settings()
        configure_logging(settings.log_level, "worker", settings.log_format)
        # After the settings: torch takes seconds to import, a wrong variable should not.
        from worker.process import run_worker

        uvloop.run(run_worker(settings))
    except PremiseServerError as error:
        print(f"worker: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
