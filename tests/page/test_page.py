"""The files of the page at `/`: how they are served, and that they need nothing from elsewhere."""

import re
import sys
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import httpx
import pytest

from shared.commands.redis_server import free_port
from tests.support.servers import Stack, running, wait_until_ready

KEY = "s3cret-key"
FILES = {path.name: path.read_text(encoding="utf-8") for path in Path(str(files("api"))).joinpath("page").iterdir()}
TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


def route(name: str) -> str:
    return "/" if name == "index.html" else f"/page/{name}"


@pytest.fixture(scope="module")
def locked(served: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of an API process that wants a key."""
    port, log = free_port(), tmp_path_factory.mktemp("locked") / "api.log"
    env = {**served.env, "PORT": str(port), "API_KEY": KEY}
    with running([sys.executable, "-P", "-m", "api"], env, log) as process:
        url = f"http://127.0.0.1:{port}"
        wait_until_ready(url, process, log)
        yield url


def test_the_documentation_finds_its_document_behind_a_key(locked: str) -> None:
    page = httpx.get(f"{locked}/{KEY}/docs")
    (url,) = re.findall(r"url: '([^']+)'", page.text)
    assert httpx.get(str(page.url.join(url))).json()["openapi"]


@pytest.mark.parametrize("name", FILES)
def test_every_file_is_served_with_headers_that_let_nothing_else_in(client: httpx.Client, name: str) -> None:
    answer = client.get(route(name))
    assert answer.status_code == 200
    assert answer.text == FILES[name]
    assert answer.headers["content-type"].partition(";")[0] == TYPES[Path(name).suffix]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
    assert {policy[kind] for kind in ("default-src", "base-uri", "form-action", "frame-ancestors")} == {"'none'"}
    assert {policy[kind] for kind in ("script-src", "style-src", "connect-src")} == {"'self'"}
    assert "unsafe" not in answer.headers["content-security-policy"]


@pytest.mark.parametrize("name", FILES)
def test_a_browser_that_has_a_file_is_told_so(client: httpx.Client, name: str) -> None:
    first = client.get(route(name))
    assert first.headers["cache-control"] == "no-cache"
    known = client.get(route(name), headers={"If-None-Match": first.headers["etag"]})
    assert (known.status_code, known.content) == (304, b"")
    assert client.get(route(name), headers={"If-None-Match": '"other"'}).status_code == 200


@pytest.mark.parametrize("path", ["/page", "/page/", "/page/none.js", "/page/../page.py", "/page/%2e%2e/app.py"])
def test_no_other_file_is_served(client: httpx.Client, path: str) -> None:
    assert client.get(path).status_code == 404


@pytest.mark.parametrize("name", FILES)
def test_no_file_names_another_host_or_the_root_of_this_one(name: str) -> None:
    content = FILES[name].replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"https?:|//\w|@import|url\(", content.replace("// ", ""))
    assert not re.search(r"""(?:href|src|from|fetch\()\s*=?\s*["'`]/""", content)


def test_no_data_becomes_markup_and_nothing_is_inline() -> None:
    for name, content in FILES.items():
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function", content), (
            name
        )
    html = FILES["index.html"]
    assert not re.search(r"<style|<script(?![^>]* src=)|\sstyle=|\son\w+=", html)


@pytest.mark.parametrize("base", ["/demo-1", "/v4.33.0"])
def test_a_base_without_its_slash_is_led_to_the_one_that_links_resolve_against(client: httpx.Client, base: str) -> None:
    answer = client.get(base, follow_redirects=False)
    assert answer.status_code == 307
    assert answer.headers["location"] == f".{base}/"
    assert client.get(base, follow_redirects=True).text == FILES["index.html"]
    assert client.get(f"{base}/page/page.js").text == FILES["page.js"]


def test_a_key_in_the_path_is_kept_by_every_step(locked: str) -> None:
    quoted = KEY.replace(" ", "%20")
    for path in (quoted, f"{quoted}/", f"{quoted}/demo-1", f"{quoted}/demo-1/"):
        page = httpx.get(f"{locked}/{path}", follow_redirects=True)
        assert page.text == FILES["index.html"]
        assert page.url.path.endswith("/")
        assert httpx.get(page.url.join("page/page.css")).text == FILES["page.css"]
        assert httpx.get(page.url.join("health/ready")).status_code == 200
    assert httpx.get(f"{locked}/").status_code == 401


def test_a_post_to_a_base_is_not_redirected(client: httpx.Client, locked: str) -> None:
    assert client.post("/demo-1", content=b"{}").status_code == 405
    assert httpx.post(f"{locked}/{KEY}", content=b"{}").status_code == 405
