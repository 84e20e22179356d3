"""`python -m api`: one API process."""

import asyncio
import socket
import sys

import uvicorn

from api.app import create_app
from api.http.connection import Protocol
from api.processes import accepts_at_once, inherited_listener, run_processes
from shared.errors import PremiseServerError
from shared.listen import listen
from shared.logs import configure_logging
from shared.settings import Settings, load_settings
from shared.signals import exit_on_signals
from shared.tracing import tracer

SWITCH_S = 0.0005
GRACE_S = 30
"""How long running requests may go on after SIGTERM."""


def main() -> int:
    exit_on_signals()
    try:
        settings = load_settings()
        configure_logging(settings.log_level, "api", settings.log_format)
        listener = inherited_listener()
        if listener is None and settings.api_processes > 1:
            with listen(settings.host, settings.port) as shared:
                run_processes(shared, settings.api_processes)
        else:
            serve(settings, listener or listen(settings.host, settings.port))
    except PremiseServerError as error:
        print(f"api: {error}", file=sys.stderr)
        return 1
    return 0


def serve(settings: Settings, listener: socket.socket) -> None:
    """Serve until SIGTERM or SIGINT; running requests are finished first.

    Raises:
        StartupError: the server can never become ready.
    """
    failures: list[PremiseServerError] = []

    def fail(error: PremiseServerError) -> None:
        failures.append(error)
        server.should_exit = True

    config = uvicorn.Config(
        create_app(settings, tracer(settings, "api"), fail, lambda: not (accepts_at_once() or server.should_exit)),
        loop="uvloop",
        http=Protocol,
        forwarded_allow_ips=settings.trusted_proxies,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE_S,
    )
    server = uvicorn.Server(config)
    # Threads that read JSON hold Python's lock; the event loop gets it back after this long, not after 5 ms.
    sys.setswitchinterval(SWITCH_S)
    runner = asyncio.Runner(loop_factory=config.get_loop_factory())
    with listener, runner:
        runner.run(server.serve(sockets=[listener]))
    if failures:
        raise failures[0]


if __name__ == "__main__":
    sys.exit(main())
