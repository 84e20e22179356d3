"""`premise-server`: the commands. Roles run as processes of their own, `python -m api` and `python -m worker`."""

import os
import signal
import sys
from collections.abc import Mapping
from types import FrameType
from typing import Annotated

import typer
from rich.console import Console

from shared.demo_run import demo_environment, show_goal
from shared.embedded import Embedded, embedded, python_module
from shared.errors import PremiseServerError
from shared.settings import load_settings

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Premise selection server for Lean. Settings come from environment variables or .env; see the README.",
)

Workers = Annotated[int, typer.Option(min=1, max=64, help="Worker processes to start.")]
Host = Annotated[str | None, typer.Option(help="Address to listen on, instead of HOST.")]
Port = Annotated[int | None, typer.Option(min=1, max=65535, help="Port to listen on, instead of PORT.")]
ApiProcesses = Annotated[int | None, typer.Option(min=1, max=256, help="API processes, instead of API_PROCESSES.")]


@app.command()
def serve(workers: Workers = 1, host: Host = None, port: Port = None, api_processes: ApiProcesses = None) -> None:
    """Run everything on this machine: two Redis servers, workers and the API."""
    _run_embedded(workers, _listen(host, port, api_processes), show=False)


@app.command()
def demo(workers: Workers = 1, host: Host = None, port: Port = None, api_processes: ApiProcesses = None) -> None:
    """Like serve, with a small bundled corpus and model, and one goal asked as an example."""
    _run_embedded(workers, {**demo_environment(), **_listen(host, port, api_processes)}, show=True)


@app.command()
def api(host: Host = None, port: Port = None, api_processes: ApiProcesses = None) -> None:
    """Run the API; it needs both Redis instances."""
    _become("api", _listen(host, port, api_processes))


@app.command()
def worker() -> None:
    """Run one worker process; it needs both Redis instances. One a GPU."""
    _become("worker", {})


def main() -> None:
    try:
        app()
    except PremiseServerError as error:
        print(f"premise-server: {error}", file=sys.stderr)
        sys.exit(1)


def _listen(host: str | None, port: int | None, api_processes: int | None) -> dict[str, str]:
    given = {"HOST": host, "PORT": port, "API_PROCESSES": api_processes}
    return {name: str(value) for name, value in given.items() if value is not None}


def _become(role: str, env: Mapping[str, str]) -> None:
    """Replace this process, so that signals and the exit status are the role's own."""
    os.execve(sys.executable, python_module(role), {**os.environ, **env})


def _run_embedded(workers: int, env: Mapping[str, str], *, show: bool) -> None:
    os.environ.update(env)
    settings = load_settings()
    console = Console()
    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(signum, _interrupt)
    try:
        with embedded(settings, workers, env) as running:
            _wait(running, console)
            if show:
                show_goal(running.base_url, console)
            console.print(f"\nServing on {running.base_url} - Ctrl-C stops.", highlight=False)
            console.print(f"Cache: {running.cache_url}   Queue: {running.queue_url}", highlight=False)
            running.watch()
    except KeyboardInterrupt:
        console.print("Stopped.")


def _wait(running: Embedded, console: Console) -> None:
    if console.is_terminal:
        with console.status("Starting.") as status:
            running.wait_until_ready(status.update)
        return
    told = ""

    def tell(reason: str) -> None:
        nonlocal told
        if reason != told:
            console.print(reason, highlight=False, soft_wrap=True)
        told = reason

    running.wait_until_ready(tell)


def _interrupt(_signum: int, _frame: FrameType | None) -> None:
    # Stopping takes a moment; a second Ctrl-C must not leave children behind.
    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)
    raise KeyboardInterrupt
