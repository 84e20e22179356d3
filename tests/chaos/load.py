"""Sustained mixed load: clients that ask questions one after the other and compare every answer with the right one."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx

from tests.chaos.reference import Question, flaw
from tests.chaos.system import REQUEST_TIMEOUT_S

CLIENTS = 6
THINK_S = 0.2
"""Between an answer and the next question; keeps two cores from being the fault that is tested."""
SLACK_S = 1.5
"""On top of REQUEST_TIMEOUT before a request counts as past its deadline: the machine is busy with the load itself."""


@dataclass(frozen=True)
class Answer:
    """What came of one question."""

    kind: str
    started: float
    """time.monotonic() when it was first sent."""
    seconds: float
    status: str
    """Of HTTP, or `late`."""
    wrong: str
    """What is wrong with a 200; empty if nothing is."""
    moved: int
    """How often the connection broke and the other API process was asked, as a proxy does it."""


@dataclass
class Load:
    """Clients in a thread of their own, so that whoever injects faults may block."""

    urls: Callable[[], Sequence[str]]
    next_question: Callable[[], Question]
    answers: list[Answer] = field(default_factory=list)
    _stopping: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        asyncio.run(self._clients())

    def stop(self) -> None:
        """No more questions; those that were asked are still answered."""
        self._stopping.set()

    async def _clients(self) -> None:
        # Idle connections are dropped before the server drops them, so that a broken one is the fault's doing.
        limits = httpx.Limits(keepalive_expiry=2)
        async with httpx.AsyncClient(limits=limits, timeout=None, trust_env=False) as http:
            await asyncio.gather(*(self._client(http, i) for i in range(CLIENTS)))

    async def _client(self, http: httpx.AsyncClient, number: int) -> None:
        await asyncio.sleep(number * THINK_S / CLIENTS)
        while not self._stopping.is_set():
            self.answers.append(await ask(http, self.urls, self.next_question(), number))
            await asyncio.sleep(THINK_S)


async def ask(http: httpx.AsyncClient, urls: Callable[[], Sequence[str]], question: Question, first: int) -> Answer:
    """Ask one API process, and another one if the connection breaks; judged against the deadline as a whole."""
    started, moved = time.monotonic(), 0
    status, wrong = "late", ""
    try:
        async with asyncio.timeout(REQUEST_TIMEOUT_S + SLACK_S):
            while True:
                try:
                    asked = urls()
                    url = f"{asked[(first + moved) % len(asked)]}/retrieve"
                    reply = await http.post(url, json=question.body)
                    break
                except httpx.TransportError:
                    moved += 1
                    await asyncio.sleep(0.05)
        status = str(reply.status_code)
        wrong = flaw(question, reply.json()) if reply.status_code == 200 else ""
    except TimeoutError:
        pass
    return Answer(question.kind, started, time.monotonic() - started, status, wrong, moved)


@contextmanager
def load(urls: Callable[[], Sequence[str]], next_question: Callable[[], Question]) -> Iterator[Load]:
    """Load for as long as the block runs; at its end the last answers have come."""
    made = Load(urls, next_question)
    thread = threading.Thread(target=made.run, name="load")
    thread.start()
    try:
        yield made
    finally:
        made.stop()
        thread.join()
