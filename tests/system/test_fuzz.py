"""Whatever comes from outside is read or refused: no decoder raises what it does not say, no request is a fault.

`make fuzz` draws new cases for FUZZ_SECONDS; the suite draws a fixed few. What they found has a test of its own below.
"""

import asyncio
import contextlib
import gzip
import json
import re
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from api.corpus.archive import read_archive
from api.corpus.embeddings import stored_embeddings
from api.corpus.reader import read_corpus
from api.http.bodies import BatchBody, RetrieveBody, parse_body
from api.retrieval.context import Context
from shared.deadline import Deadline
from shared.errors import BadInput, StartupError
from shared.redis.client import connect, disconnect
from shared.redis.embedding_cache import EmbeddingCache
from shared.redis.reply import Reply, decode_reply, encode_reply
from tests.support.archives import data_files, declaration, pack
from tests.support.fuzz import fuzz
from tests.support.queue_system import FINGERPRINT, TTL_S, Work, embedder, vector_of, worker
from tests.support.roles import api_process
from tests.support.servers import RedisServer, Stack

Tell = Callable[[str, int], None]


@dataclass(frozen=True)
class Api:
    """A running API process."""

    base_url: str
    log: Path


DIMENSION = 4
REPLY = Reply.of("job-1", {"digest": np.ones(DIMENSION, np.float32)}, {"e": "sentence"}, cached=True)
THREE = read_corpus(data_files({"A": [declaration(name) for name in "abc"]}))
FIELDS = ("state", "states", "k", "imported_modules", "local_premises", "new_premises", "caller_in_module_system",
          "imported_all_modules", "unknown")  # fmt: skip


@pytest.fixture
def tell(capsys: pytest.CaptureFixture[str]) -> Tell:
    """Prints how many cases a campaign had; one that found something raises instead."""

    def told(name: str, cases: int) -> None:
        with capsys.disabled():
            print(f"\nfuzz {name}: {cases} cases, no finding", end=" ")

    return told


# -- what is drawn


def mutated(good: bytes) -> SearchStrategy[bytes]:
    """A few bytes of something valid replaced, inserted or cut."""
    place = st.integers(0, len(good))
    edit = st.tuples(place, st.integers(0, 4), st.binary(max_size=4))

    def apply(edits: list[tuple[int, int, bytes]]) -> bytes:
        content = good
        for at, removed, added in edits:
            content = content[:at] + added + content[at + removed :]
        return content

    return st.lists(edit, min_size=1, max_size=4).map(apply)


def json_values() -> SearchStrategy[Any]:
    atoms = (
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
        | st.sampled_from(["7", "7.0", " 7 ", "٣", "1e3", "true", "Init.Prelude", "Nat.add", 10**30, -(2**63), 1e300])
    )  # fmt: skip
    keys = st.text(max_size=6)
    return st.recursive(
        atoms, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4), max_leaves=8
    )


def bodies() -> SearchStrategy[bytes]:
    """JSON whose fields are right, nearly right or of any kind, and such JSON damaged."""
    names = st.lists(st.integers(-2, 2000) | st.text(max_size=8) | json_values(), max_size=5)
    premise = st.fixed_dictionaries({"name": st.text(max_size=8), "decl": st.text(max_size=30)}) | json_values()
    right = st.fixed_dictionaries(
        {"state": st.text(max_size=30), "states": st.lists(st.text(max_size=10), max_size=3), "k": st.integers(-1, 5)},
        optional={
            "imported_modules": names,
            "local_premises": names,
            "new_premises": st.lists(premise, max_size=3),
            "caller_in_module_system": st.booleans() | json_values(),
            "imported_all_modules": names,
        },
    )
    any_kind = st.dictionaries(st.sampled_from(FIELDS), json_values(), max_size=6)
    written = (right | any_kind | json_values()).map(lambda value: json.dumps(value).encode())
    example = json.dumps({"state": "⊢ a", "k": 3, "new_premises": [{"name": "n", "decl": "d"}], "local_premises": [1]})
    return (
        written | mutated(example.encode()) | mutated(example.encode("utf-8").replace(b"a", b"\\ud83d")) | st.binary()
    )


def tar_files() -> SearchStrategy[bytes]:
    """A small archive, before compression, with damaged headers whose checksums are right again."""
    content = [(b"revision", b"v1"), (b"Modules.jsonl", b'{"name":"A"}\n'), (b"pax", b"11 path=abc\n")]
    field = st.sampled_from([(0, 100), (100, 8), (124, 12), (136, 12), (156, 1), (157, 100), (257, 8), (345, 155)])
    numbers = [b"\x80" + b"\x00" * 10 + b"\x01", b"\xff" * 11 + b"\x00", b"\x80" + b"\x7f" * 11, b"-7", b"77777777777"]
    value = st.binary(max_size=12) | st.sampled_from([*numbers, b"x", b"g", b"L", b"K", b"S", b"00000001000"])
    edits = st.lists(st.tuples(st.integers(0, 2), field, value), max_size=4)

    def build(drawn: tuple[list[tuple[int, tuple[int, int], bytes]], bytes]) -> bytes:
        edited, pax = drawn
        members = [*content[:2], (b"pax", pax)]
        blocks = []
        for number, (name, data) in enumerate(members):
            changes = [(at, part[:size]) for member, (at, size), part in edited if member == number]
            blocks.append(tar_member(name, data, changes))
        return b"".join(blocks) + bytes(1024)

    pax = mutated(b"11 path=abc\n22 GNU.sparse.map=0,1\n12 size=100\n") | st.binary(max_size=40)
    return st.tuples(edits, pax).map(build)


def tar_member(name: bytes, data: bytes, changes: list[tuple[int, bytes]]) -> bytes:
    """A ustar header with some bytes changed and its checksum set right, and the content in blocks."""
    header = bytearray(512)
    for at, part in [(0, name), (100, b"0000644\x00"), (124, b"%011o\x00" % len(data)), (136, b"0" * 11 + b"\x00"),
                     (156, b"0"), (257, b"ustar\x0000"), *changes]:  # fmt: skip
        header[at : at + len(part)] = part
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\x00 " % sum(header)
    return bytes(header) + data + bytes(-len(data) % 512)


def npy_files() -> SearchStrategy[bytes]:
    """Headers of any version with odd shapes and types, and damaged ones."""
    shape = st.sampled_from(["(3, 4)", "(3,)", "()", "(-1, 4)", "(3, -4)", "(0, 4)", "(99999999999999999999, 4)",
        "(4294967296, 4294967296)", "(3.0, 4)", "(True, 4)", "3", "(3, 'a')", "(" * 90, "(1e400, 4)"])  # fmt: skip
    descr = st.sampled_from(["'<f4'", "'|O'", "'<V0'", "''", "'f4,f4'", "[('a', '<f4')]", "[]", "None", "('<f4', (2,))",
        "'<M8[xx]'", "'<U999999999999'", "{'names': ['a'], 'formats': ['<f4'], 'offsets': [-4]}"])  # fmt: skip
    version = st.sampled_from([(1, 0), (2, 0), (3, 0), (1, 1), (4, 0)])

    def build(drawn: tuple[str, str, tuple[int, int], bytes]) -> bytes:
        shaped, described, numbered, rows = drawn
        return npy(f"{{'descr': {described}, 'fortran_order': False, 'shape': {shaped}, }}".encode(), rows, numbered)

    rows = st.just(np.eye(3, DIMENSION, dtype="<f4").tobytes()) | st.binary(max_size=60)
    good = npy(b"{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }", np.eye(3, 4, dtype="<f4").tobytes())
    return st.tuples(shape, descr, version, rows).map(build) | mutated(good) | st.binary()


def npy(header: bytes, rows: bytes, version: tuple[int, int] = (1, 0)) -> bytes:
    size = struct.pack("<H" if version == (1, 0) else "<I", len(header))
    return b"\x93NUMPY" + bytes(version) + size + header + rows


def replies() -> SearchStrategy[bytes]:
    return mutated(encode_reply(REPLY)) | st.binary()


# -- decoders


def test_bodies_are_parsed_or_refused_with_a_short_sentence(tell: Tell) -> None:
    def read(context: Context) -> None:
        for names in (context.imported_modules, context.local_premises, context.imported_all_modules):
            assert all(isinstance(name, int | str) for name in names.read() or ())
        context.new_premises.read()

    @contextlib.contextmanager
    def refused() -> Iterator[None]:
        try:
            yield
        except BadInput as error:
            assert len(str(error)) < 500

    def check(body: bytes) -> None:
        with refused():
            read(parse_body(body, RetrieveBody)[1])
        with refused():
            read(parse_body(body, BatchBody)[1])

    tell("request bodies", fuzz(bodies(), check, 600))


def test_archives_are_read_or_refused_with_a_sentence(tmp_path: Path, tell: Tell) -> None:
    path = tmp_path / "premises.tar.gz"

    def check(tar: bytes) -> None:
        path.write_bytes(gzip.compress(tar, 1))
        try:
            files = read_archive(path, max_bytes=100_000)
            assert sum(map(len, files.values())) <= 100_000
            read_corpus(files)
        except StartupError:
            pass

    tell("archives, damaged before compression", fuzz(tar_files(), check, 300))


def test_damaged_downloads_are_read_or_refused_with_a_sentence(tmp_path: Path, tell: Tell) -> None:
    path = tmp_path / "premises.tar.gz"
    good = pack(path, data_files({"A": [declaration("a")]})).read_bytes()

    def check(content: bytes) -> None:
        path.write_bytes(content)
        with contextlib.suppress(StartupError):
            read_archive(path, max_bytes=100_000)

    tell("archives, damaged after compression", fuzz(mutated(good) | st.binary(), check, 300))


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")  # numpy's, on headers of Python 2 and such
def test_embedding_files_are_mapped_or_refused_with_a_sentence(tmp_path: Path, tell: Tell) -> None:
    path = tmp_path / "model-main.npy"

    def check(content: bytes) -> None:
        path.write_bytes(content)
        try:
            rows = stored_embeddings(path, THREE, DIMENSION)
            assert rows.shape == (3, DIMENSION)
            assert np.isfinite(rows).all()
        except StartupError:
            pass

    tell(".npy files", fuzz(npy_files(), check, 500))


def test_values_in_redis_are_unit_vectors_or_misses(redis_instance: RedisServer, tell: Tell) -> None:
    """Through a real Redis: what anybody may have written under a key of ours."""
    unit = np.full(DIMENSION, 0.5, "<f4").tobytes()
    values = st.lists(
        st.binary(max_size=20) | st.binary(min_size=16, max_size=16) | mutated(unit) | st.just(unit), max_size=4
    )

    async def check_all(drawn: list[bytes]) -> None:
        redis = connect(redis_instance.url)
        try:
            for i, value in enumerate(drawn):
                await redis.set(f"emb:{FINGERPRINT}:{i}", value)
            found = await EmbeddingCache(redis, FINGERPRINT, DIMENSION).get([str(i) for i in range(len(drawn))])
        finally:
            await disconnect(redis)
        assert all(v.shape == (DIMENSION,) and abs(np.linalg.norm(v) - 1) < 0.02 for v in found.values())
        assert all(str(i) in found for i, value in enumerate(drawn) if value == unit)

    tell("Redis values", fuzz(values, lambda drawn: asyncio.run(check_all(drawn)), 150))


def test_replies_are_decoded_or_refused(tell: Tell) -> None:
    def check(data: bytes) -> None:
        try:
            reply = decode_reply(data)
        except msgspec.DecodeError:
            return
        with contextlib.suppress(ValueError):
            assert reply.rows(DIMENSION).shape == (len(reply.digests), DIMENSION)

    tell("replies", fuzz(replies(), check, 1000))


# -- the live server


def is_contract(answer: httpx.Response) -> bool:
    """Success, or an error of the contract's form; never a fault of the server."""
    if answer.status_code == 200:
        return isinstance(json.loads(answer.content), list) and b"NaN" not in answer.content
    return answer.status_code == 422 and list(answer.json()) == ["detail"] and len(answer.content) < 2048


def test_every_body_gets_an_answer_of_the_contract(client: httpx.Client, tell: Tell) -> None:
    def check(body: bytes) -> None:
        for route in ("/retrieve", "/retrieve/batch"):
            assert is_contract(client.post(route, content=body))

    tell("bodies over HTTP", fuzz(bodies(), check, 120))


HEAD = b"POST /retrieve HTTP/1.1\r\nHost: x\r\nUser-Agent: LeanProver\r\nContent-Type: application/json\r\n"
GET = b'GET /indexed-modules HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip;q=1\r\nIf-None-Match: "x"\r\n\r\n'
BODY = b'{"state":"a","k":1}'
SIZED = HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY
ODD_HEADERS = (
    b"Content-Length: -1", b"Content-Length: 19\r\nContent-Length: 5", b"Content-Length: 1e9", b": x",
    b"Content-Length: 99999999999999999999", b"Content-Length: 19\r\nTransfer-Encoding: chunked",
    b"Content-Length: \xd9\xa3",
    b"Transfer-Encoding: gzip, chunked", b"Upgrade: websocket\r\nConnection: Upgrade", b"Expect: 100-continue",
    b"Accept-Encoding: \xff\xfe", b"If-None-Match: *", b"X: " + b"y" * 70_000,
)  # fmt: skip
ODD_PATHS = (
    b"*", b"//", b"/%00", b"/%ff%fe", b"/../..", b"http://x/retrieve", b"/retrieve?" + b"a" * 9000, b"x",
)  # fmt: skip


def raw_requests() -> SearchStrategy[bytes]:
    """Bytes on a connection: requests with odd lengths, chunks, paths and headers, pipelined ones, and any bytes."""
    chunked = HEAD + b"Transfer-Encoding: chunked\r\n\r\n13\r\n" + BODY + b"\r\n0\r\n\r\n"
    header = st.sampled_from(ODD_HEADERS)
    path = st.sampled_from(ODD_PATHS)
    with_header = header.map(lambda line: HEAD + line + b"\r\n\r\n" + BODY)
    with_path = path.map(lambda part: b"GET " + part + b" HTTP/1.1\r\nHost: x\r\n\r\n")
    mended = mutated(SIZED) | mutated(chunked) | mutated(GET) | mutated(SIZED + GET)
    return mended | with_header | with_path | st.binary(min_size=1, max_size=200)


@pytest.fixture(scope="module")
def alone(served: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """An API process whose log nobody else writes to."""
    log = tmp_path_factory.mktemp("alone") / "api.log"
    with api_process({**served.env, "LOG_FORMAT": "text"}, log) as (_, base_url):
        yield Api(base_url, log)


def statuses(api: Api, sent: bytes) -> list[int]:
    """Of all answers on a connection that the client has finished sending on."""
    url = httpx.URL(api.base_url)
    received = b""
    with (
        # Refused before all of it was sent.
        contextlib.suppress(ConnectionResetError, BrokenPipeError),
        socket.create_connection((url.host, url.port or 80), timeout=20) as connection,
    ):
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        while part := connection.recv(65_536):
            received += part
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", received)]


def faults(log: Path) -> list[str]:
    """The last line of every traceback in a log."""
    return re.findall(r"^\w+(?:Error|Exception)\b.*", log.read_text(), re.MULTILINE)


def test_no_bytes_on_a_connection_get_a_fault_or_hold_it_open(alone: Api, tell: Tell) -> None:
    def check(sent: bytes) -> None:
        assert all(status < 500 for status in statuses(alone, sent))

    tell("raw HTTP", fuzz(raw_requests(), check, 250))
    assert httpx.get(f"{alone.base_url}/health/ready").status_code == 200
    assert faults(alone.log) == []


# -- what was found


def tar_of(*members: tuple[bytes, bytes, list[tuple[int, bytes]]]) -> bytes:
    return b"".join(tar_member(*member) for member in members) + bytes(1024)


def size_of(size: int) -> list[tuple[int, bytes]]:
    """A change of a header: the size as a binary number, which may be negative."""
    return [(124, b"\xff" + size.to_bytes(11, "big", signed=True))]


def kind_of(letter: bytes) -> list[tuple[int, bytes]]:
    return [(156, letter)]


REVISION = (b"revision", b"v1", list[tuple[int, bytes]]())
ARCHIVES = {
    "sparse map of words": tar_of((b"p", b"29 GNU.sparse.map=1,2,3,4,x,5\n", kind_of(b"x")), REVISION),
    "pax record without an end": tar_of((b"p", b"99999999999999999999999 a=b\n", kind_of(b"x")), REVISION),
    "negative long name": tar_of((b"l", b"", kind_of(b"L") + size_of(-512)), REVISION),
    "long names of long names": tar_of(*[(b"l", b"x", kind_of(b"L"))] * 1000, REVISION),
    "negative size": tar_of((b"revision", b"", size_of(-512)), REVISION),
    "size beyond any file": tar_of((b"p", b"", [*kind_of(b"S"), (124, b"\x80" + b"\x7f" * 11)]), REVISION),
}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("content", ARCHIVES.values(), ids=ARCHIVES.keys())
def test_a_header_that_lies_is_refused_with_a_sentence(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "premises.tar.gz"
    path.write_bytes(gzip.compress(content))
    with pytest.raises(StartupError):
        read_archive(path, max_bytes=100_000)


def test_a_file_that_ends_before_it_begins_does_not_hang_the_start(tmp_path: Path) -> None:
    """The next header is then this one again. In a process of its own: nothing else ends it."""
    path = tmp_path / "premises.tar.gz"
    path.write_bytes(gzip.compress(tar_of(REVISION, (b"again", b"", size_of(-512)))))
    program = (
        "import sys, pathlib; from api.corpus.archive import read_archive; read_archive(pathlib.Path(sys.argv[1]))"
    )
    ended = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, timeout=10)
    assert "StartupError" in ended.stderr


@pytest.mark.parametrize("kind", [b"L", b"K", b"x", b"g"])
def test_a_bomb_in_what_describes_a_file_is_refused_before_it_is_unpacked(tmp_path: Path, kind: bytes) -> None:
    path = tmp_path / "premises.tar.gz"
    path.write_bytes(gzip.compress(tar_of((b"bomb", bytes(1 << 20), kind_of(kind)), REVISION)))
    with pytest.raises(StartupError, match="unpacks to more than"):
        read_archive(path, max_bytes=100_000)


HEADERS = {
    "unclosed": b"{'descr': '<f4', 'fortran_order': False, 'shape': ((3, 4), }",
    "no type": b"{'descr': ',f4', 'fortran_order': False, 'shape': (3, 4), }",
    "negative length": b"{'descr': 'f4,f4', 'fortran_order': False, 'shape': (3, -4), }",
    "length true": b"{'descr': '<f4', 'fortran_order': False, 'shape': (True, 4), }",
}


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS.keys())
def test_an_embedding_file_with_an_odd_header_is_refused_with_a_sentence(tmp_path: Path, header: bytes) -> None:
    path = tmp_path / "model-main.npy"
    path.write_bytes(npy(header, np.eye(3, DIMENSION, dtype="<f4").tobytes()))
    with pytest.raises(StartupError, match="not a readable"):
        stored_embeddings(path, THREE, DIMENSION)


BAD_UTF8 = encode_reply(REPLY).replace(b"digest", b"d\xff\xfest")


def test_a_reply_that_is_not_utf8_is_refused() -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_reply(BAD_UTF8)


def test_a_reply_that_is_not_utf8_does_not_deafen_the_process(redis_instance: RedisServer) -> None:
    url = redis_instance.url

    async def run() -> None:
        async with worker(url, Work(delay_s=0.3)), embedder(url) as e:
            waiting = asyncio.create_task(e.embed(["one"], "bulk", TTL_S, Deadline.after(10)))
            await asyncio.sleep(0.1)
            with redis_instance.client() as client:
                (waiters,) = client.scan_iter("waiters:*")
                (reply_list,) = client.hkeys(waiters)
                client.rpush(reply_list, BAD_UTF8)
            assert np.allclose((await waiting)[0], vector_of("one"))
            await e.embed(["two"], "bulk", TTL_S, Deadline.after(10))
            with redis_instance.client() as client:
                assert client.llen(reply_list) == 0  # the reply was heard, not found lost

    asyncio.run(run())


def test_garbage_behind_pipelined_requests_puts_no_traceback_in_the_log(served: Stack, tmp_path: Path) -> None:
    with api_process({**served.env, "LOG_FORMAT": "text"}, tmp_path / "api.log") as (_, base_url):
        api = Api(base_url, tmp_path / "api.log")
        for _ in range(20):
            statuses(api, SIZED + GET + b"\x00garbage\r\n\r\n")
        assert faults(api.log) == []
