"""`premise-server`: the commands. Roles run as processes of their own, `python -m api` and `python -m worker`."""

import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from types import FrameType
from typing import Annotated

import typer
from rich.console import Console

from shared.commands.demo_run import demo_environment, show_goal
from shared.commands.doctor import report
from shared.commands.doctor.parts import installed
from shared.commands.local_system import Embedded, embedded, python_module
from shared.errors import PremiseServerError, StartupError
from shared.progress import EVERY_S
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


@app.command()
def doctor(as_json: Annotated[bool, typer.Option("--json", help="Findings for a machine.")] = False) -> None:
    """Look at settings, Redis, model, data, device and workers, and say what to do; exits with 1 if something is wrong.

    Nothing is downloaded, built or changed, but that a few texts may be embedded and cached.
    """
    # Here, because the hub's client takes half a second to import, which the other commands need not wait for.
    from shared.commands.doctor.examination import examine

    waiting = Console(stderr=True)
    with waiting.status("Looking.") if waiting.is_terminal else nullcontext() as status:
        findings = list(examine(lambda subject: status.update(f"Looking at {subject}.") if status else None))
    if as_json:
        print(report.as_json(findings))
    else:
        report.show(findings, Console())
    raise typer.Exit(int(report.worst(findings) == "problem"))


# Arguments and --help are for the program that it becomes: this package knows nothing of what is behind it.
@app.command(add_help_option=False, context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def cache(context: typer.Context) -> None:
    """Look into the embedding cache, warm it, or remove a model from it; `cache --help` lists its commands."""
    if not installed("api"):
        raise StartupError(
            "`premise-server cache` needs the API part; run it where the API runs, or install "
            "'lean-premise-server[api]'."
        )
    _become("api.commands.cache", {}, context.args)


def main() -> None:
    try:
        app()
    except PremiseServerError as error:
        print(f"premise-server: {error}", file=sys.stderr)
        sys.exit(1)


def _listen(host: str | None, port: int | None, api_processes: int | None) -> dict[str, str]:
    given = {"HOST": host, "PORT": port, "API_PROCESSES": api_processes}
    return {name: str(value) for name, value in given.items() if value is not None}


def _become(module: str, env: Mapping[str, str], arguments: Sequence[str] = ()) -> None:
    """Replace this process, so that signals and the exit status are the module's own."""
    os.execve(sys.executable, [*python_module(module), *arguments], {**os.environ, **env})


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
    told, told_at = "", 0.0

    def tell(reason: str) -> None:
        nonlocal told, told_at
        # What follows a comma is how far a step is; that changes all the time.
        another_step = reason.partition(",")[0] != told.partition(",")[0]
        if another_step or (reason != told and time.monotonic() - told_at > EVERY_S):
            console.print(reason, highlight=False, soft_wrap=True)
            told, told_at = reason, time.monotonic()

    running.wait_until_ready(tell)


def _interrupt(_signum: int, _frame: FrameType | None) -> None:
    # Stopping takes a moment; a second Ctrl-C must not leave children behind.
    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)
    raise KeyboardInterrupt
