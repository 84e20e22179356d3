"""`python -m worker`: one worker process."""

import os
import sys

import uvloop

from shared.errors import PremiseServerError
from shared.logs import configure_logging
from shared.settings import load_settings
from shared.signals import exit_on_signals

KERNELS_KEPT = 128
"""oneDNN keeps what it made for each size of a batch, 1,024 by default: hundreds of MB after hours, and no faster."""


def main() -> int:
    exit_on_signals()
    try:
        settings = load_settings()
        configure_logging(settings.log_level, "worker", settings.log_format)
        os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(KERNELS_KEPT))
        # After the settings: torch takes seconds to import, a wrong variable should not.
        from worker.process import run_worker

        uvloop.run(run_worker(settings))
    except PremiseServerError as error:
        print(f"worker: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
