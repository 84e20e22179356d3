"""The data archive: nothing leaves it, nothing damaged is served, nothing grows without bound."""

import gzip
import io
import random
import tarfile
from pathlib import Path

import pytest

from api.corpus.archive import read_archive
from shared.errors import StartupError
from tests.support.archives import DEMO_DATA, pack

DEMO = DEMO_DATA / "premises.tar.gz"


def refusal(path: Path, *, max_bytes: int | None = None) -> str:
    """The sentence with which an archive is refused; it names the file."""
    with pytest.raises(StartupError) as raised:
        read_archive(path) if max_bytes is None else read_archive(path, max_bytes=max_bytes)
    sentence = str(raised.value)
    assert sentence.startswith(str(path))
    assert sentence.endswith(".")
    assert "\n" not in sentence
    return sentence


def archive_with(directory: Path, member: tarfile.TarInfo) -> Path:
    """An archive with a plain file and one member that may be anything."""
    path = pack(directory / "premises.tar.gz", {"revision": b"v1"})
    with tarfile.open(path, "w:gz") as archive:
        plain = tarfile.TarInfo("revision")
        plain.size = 2
        archive.addfile(plain, io.BytesIO(b"v1"))
        archive.addfile(member, io.BytesIO(bytes(member.size)))
    return path


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type = kind
    member.linkname = target
    return member


def test_files_come_back_by_name(tmp_path: Path) -> None:
    files = {"revision": b"v1\n", "Declarations/Ä.jsonl": b"", "Declarations/B.jsonl": bytes(range(256)) * 999}
    assert read_archive(pack(tmp_path / "premises.tar.gz", files)) == files


def test_a_leading_dot_slash_is_dropped(tmp_path: Path) -> None:
    path = pack(tmp_path / "premises.tar.gz", {"./revision": b"v1", "./Declarations/./A.jsonl": b"x"})
    assert read_archive(path) == {"revision": b"v1", "Declarations/A.jsonl": b"x"}


def test_folders_are_passed_over(tmp_path: Path) -> None:
    path = archive_with(tmp_path, special("Declarations", tarfile.DIRTYPE))
    assert read_archive(path) == {"revision": b"v1"}


ADDED = [
    "._.DS_Store",
    ".DS_Store",
    "._revision",
    "Declarations/._A.jsonl",
    "Declarations/.DS_Store",
    "._Declarations/A.jsonl",
    "__MACOSX/._revision",
    "__MACOSX/Declarations/A.jsonl",
    "PaxHeaders/revision",
    "Declarations/PaxHeaders.4711/A.jsonl",
    "pax_global_header",
    "._line\nend",
]


@pytest.mark.parametrize("prefix", ["", "./", "my-project/", "./my-project/"])
def test_files_that_packers_add_are_passed_over(tmp_path: Path, prefix: str) -> None:
    files = {"revision": b"v1", "Modules.jsonl": b"x", "Declarations/A.jsonl": b"a"}
    added = dict.fromkeys(ADDED, b"\x00\x05\x16\x07")
    packed = {**added, **{f"{prefix}{name}": content for name, content in (added | files).items()}}
    assert read_archive(pack(tmp_path / "premises.tar.gz", packed)) == files


def test_files_with_names_much_like_those_that_packers_add_are_read(tmp_path: Path) -> None:
    files = dict.fromkeys(
        [".revision", "_.x", "Declarations/My._A.jsonl", "x.DS_Store", "PaxHeadersX", "MACOSX/y"], b""
    )
    assert read_archive(pack(tmp_path / "premises.tar.gz", files)) == files


def test_what_a_macs_tar_adds_to_every_file_is_passed_over(tmp_path: Path) -> None:
    """A header with extended attributes, as bsdtar writes it, and a global one, as git does."""
    path = tmp_path / "premises.tar.gz"
    with tarfile.open(path, "w:gz", format=tarfile.PAX_FORMAT, pax_headers={"comment": "0123456789abcdef"}) as archive:
        member = tarfile.TarInfo("Declarations/Ä.jsonl")
        member.size = 2
        member.pax_headers = {"LIBARCHIVE.xattr.com.apple.provenance": "AQIA", "SCHILY.dev": "1"}
        archive.addfile(member, io.BytesIO(b"ok"))
    assert read_archive(path) == {"Declarations/Ä.jsonl": b"ok"}


@pytest.mark.parametrize("top", ["my-project", "./my-project", "Mathlib.Data", "Ä b"])
def test_one_folder_that_holds_everything_is_dropped(tmp_path: Path, top: str) -> None:
    files = {"revision": b"v1", "Modules.jsonl": b"x", "Declarations/A.jsonl": b"a"}
    path = pack(tmp_path / "premises.tar.gz", {f"{top}/{name}": content for name, content in files.items()})
    assert read_archive(path) == files


@pytest.mark.parametrize(
    "names",
    [
        ["a/revision", "Modules.jsonl"],
        ["a/revision", "b/Modules.jsonl"],
        ["Declarations/A.jsonl", "Declarations/B.jsonl"],
        ["revision"],
        [],
    ],
)
def test_a_folder_that_does_not_hold_everything_or_is_a_part_of_the_layout_stays(
    tmp_path: Path, names: list[str]
) -> None:
    files = dict.fromkeys(names, b"x")
    assert read_archive(pack(tmp_path / "premises.tar.gz", files)) == files


def test_only_one_folder_is_dropped(tmp_path: Path) -> None:
    path = pack(tmp_path / "premises.tar.gz", {"a/b/revision": b"v1"})
    assert read_archive(path) == {"b/revision": b"v1"}


def test_imports_take_no_memory(tmp_path: Path) -> None:
    files = {"a/revision": b"v1", "a/Imports/A.jsonl": b"x", "a/Declarations/Imports.jsonl": b"y"}
    path = pack(tmp_path / "premises.tar.gz", files)
    assert read_archive(path) == {"revision": b"v1", "Declarations/Imports.jsonl": b"y"}


@pytest.mark.parametrize(
    "name", ["../evil", "Declarations/../../evil", "./..", "/etc/passwd", "//etc/passwd", "a/../._b", "__MACOSX/../x"]
)
def test_a_path_that_leads_out_of_the_archive_is_refused(tmp_path: Path, name: str) -> None:
    path = pack(tmp_path / "premises.tar.gz", {name: b"x"})
    assert repr(name.rstrip("/")) in refusal(path)


@pytest.mark.parametrize(
    ("kind", "target"),
    [
        (tarfile.SYMTYPE, "revision"),
        (tarfile.SYMTYPE, "/etc/passwd"),
        (tarfile.LNKTYPE, "revision"),
        (tarfile.CHRTYPE, ""),
        (tarfile.BLKTYPE, ""),
        (tarfile.FIFOTYPE, ""),
    ],
)
def test_links_and_devices_are_refused(tmp_path: Path, kind: bytes, target: str) -> None:
    for name in ("Modules.jsonl", "Declarations/._A.jsonl", "Imports/A.jsonl"):
        path = archive_with(tmp_path, special(name, kind, target))
        assert f"'{name}' is a link or device" in refusal(path)


def test_a_refusal_shows_a_short_name_on_one_line(tmp_path: Path) -> None:
    path = archive_with(tmp_path, special("a\nb" + "x" * 10_000, tarfile.SYMTYPE, "revision"))
    sentence = refusal(path)
    assert r"'a\nbxxx" in sentence
    assert len(sentence) < len(str(path)) + 200


def test_a_file_that_is_no_gzip_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "premises.tar.gz"
    path.write_bytes(b"<html>Access denied</html>")
    assert "not a readable .tar.gz" in refusal(path)


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "premises.tar.gz"
    path.touch()
    assert "not a readable .tar.gz" in refusal(path)


def test_a_gzip_that_is_no_tar_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "premises.tar.gz"
    path.write_bytes(gzip.compress(b"hello " * 1000))
    assert "not a readable .tar.gz" in refusal(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    assert "No such file" in refusal(tmp_path / "premises.tar.gz")


@pytest.mark.parametrize("share", [0.001, 0.3, 0.7, 0.999])
def test_a_truncated_download_is_refused(tmp_path: Path, share: float) -> None:
    whole = DEMO.read_bytes()
    path = tmp_path / "premises.tar.gz"
    path.write_bytes(whole[: int(len(whole) * share)])
    refusal(path)


def test_any_flipped_bit_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "premises.tar.gz"
    choice = random.Random(1)
    whole = DEMO.read_bytes()
    for _ in range(40):
        damaged = bytearray(whole)
        damaged[choice.randrange(10, len(whole))] ^= 1 << choice.randrange(8)  # the first ten bytes hold no content
        path.write_bytes(damaged)
        refusal(path)


def test_an_archive_cut_short_before_it_was_compressed_is_refused(tmp_path: Path) -> None:
    """As when tar is killed in `tar c … | gzip`: every member that is there is whole."""
    path = tmp_path / "premises.tar.gz"
    one_file = 512 + 512
    with gzip.open(pack(path, {"revision": b"v1", "Modules.jsonl": b"x"})) as stream:
        content = stream.read()
    for kept in (one_file, one_file + 100, 2 * one_file):
        path.write_bytes(gzip.compress(content[:kept]))
        refusal(path)


def test_a_decompression_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    path = pack(tmp_path / "premises.tar.gz", {"a": bytes(600), "b": bytes(600)})
    assert "more than 1000 bytes" in refusal(path, max_bytes=1000)
    assert len(read_archive(path, max_bytes=100_000)) == 2


def test_a_bomb_behind_the_end_of_the_archive_is_refused(tmp_path: Path) -> None:
    path = pack(tmp_path / "premises.tar.gz", {"a": b"x"})
    with gzip.open(path) as stream:
        content = stream.read()
    path.write_bytes(gzip.compress(content + bytes(1 << 20)))
    assert "more than 100000 bytes" in refusal(path, max_bytes=100_000)
