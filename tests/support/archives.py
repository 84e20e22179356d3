"""Small data archives: declarations, the files around them, and the .tar.gz."""

import io
import json
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from api.corpus.archive import read_archive
from shared.commands.demo_run import demo_environment

Line = Mapping[str, object]
DEMO_DATA = Path(demo_environment()["DATA_REPO"])


def declaration(name: str, **fields: object) -> Line:
    """A theorem that every filter lets through, with `fields` changed."""
    return {"name": name, "kind": "theorem", "args": [], "type": "True"} | fields


def jsonl(lines: Iterable[Line]) -> bytes:
    return b"".join(json.dumps(line, ensure_ascii=False).encode() + b"\n" for line in lines)


def data_files(modules: Mapping[str, Iterable[Line]], blacklist: Iterable[str] = ()) -> dict[str, bytes]:
    """The files of an archive with these declarations by module."""
    return {
        "revision": b"v-test\n",
        "Modules.jsonl": jsonl({"name": module} for module in modules),
        "HammerBlacklist.jsonl": jsonl([{"hammerBlacklist": list(blacklist)}]),
        **{f"Declarations/{module}.jsonl": jsonl(lines) for module, lines in modules.items()},
    }


def demo_files(modules: Iterable[str]) -> dict[str, bytes]:
    """The demo corpus cut down to some of its modules."""
    demo = read_archive(DEMO_DATA / "premises.tar.gz")
    cut = {f"Declarations/{module}.jsonl": demo[f"Declarations/{module}.jsonl"] for module in modules}
    return data_files(dict.fromkeys(modules, ())) | cut


def pack(path: Path, files: Mapping[str, bytes]) -> Path:
    """Write a .tar.gz; files come in the order given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path
