"""The page at `/`: says what answers here, for a person who opens the base URL in a browser."""

from html import escape

ROUTES = (
    ("POST /retrieve", "premises for a goal"),
    ("POST /retrieve/batch", "premises for many goals"),
    ("GET /max-new-premises", "how many new premises are ranked"),
    ("GET /indexed-premises", "all declarations"),
    ("GET /indexed-modules", "all modules"),
    ("GET /health/ready", "whether requests are served now"),
    ("GET /health/live", "whether the process answers"),
    ("GET /version", "data and model"),
    ("GET /metrics", "Prometheus metrics"),
    ("GET /docs", "the API's documentation"),
)


def front_page(version: str, problems: list[str]) -> str:
    rows = "".join(f"<tr><td><code>{escape(route)}</code><td>{escape(text)}" for route, text in ROUTES)
    state = "Ready." if not problems else "Not ready: " + " ".join(problems)
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Lean premise server</title>'
        '<meta name="viewport" content="width=device-width">'
        f"<h1>Lean premise server {escape(version)}</h1><p>{escape(state)}</p><table>{rows}</table></html>"
    )
