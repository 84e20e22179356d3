"""The faults, each real, and what DESIGN section 5 promises while and after they happen."""

import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import redis

from tests.chaos.system import ApiPart, RedisPart, System, WorkerPart
from tests.support.servers import wait_for

PROMISED_S = 2.0
"""Within which a fault is over, an error is told, and another worker has done what a killed one held."""
BUSY = 2
"""The promises name 2 seconds; a machine that is busy with other things may take this many times as long."""
OUTAGE_S = 1.2
"""How long a Redis is away between its end and its start."""


@dataclass(frozen=True)
class Injected:
    """What a fault saw itself."""

    over: float
    """time.monotonic() from which on everything is in place again, and recovery counts."""
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Fault:
    """One row of the table."""

    name: str
    inject: Callable[[System], Injected]
    statuses: frozenset[str]
    """What requests may be answered with meanwhile."""
    warm_served: bool = True
    """Whether requests that need no embedding must all be answered."""
    held_up_s: float = 0.0
    """How much longer than in quiet times a request may take; 0 = up to its deadline."""
    needs_whole: bool = False
    """Whether all processes must be there before; others may go on while a worker still starts."""


SERVED = frozenset({"200"})
OR_REFUSED = frozenset({"200", "503"})


def faults() -> list[Fault]:
    """All of them; those that need one worker only come while another one starts."""
    kill = Fault("kill -9 of a worker mid-batch", kill_worker_mid_batch, SERVED, held_up_s=PROMISED_S, needs_whole=True)
    return [
        kill,
        Fault("kill -9 of queue Redis, nothing persisted", lambda s: kill_redis(s.queue, persist=False), OR_REFUSED),
        Fault("kill -9 of cache Redis, nothing persisted", lambda s: kill_redis(s.cache, persist=False), SERVED),
        Fault("kill -9 of queue Redis, persisted", lambda s: kill_redis(s.queue, persist=True), OR_REFUSED),
        Fault("kill -9 of cache Redis, persisted", lambda s: kill_redis(s.cache, persist=True), SERVED),
        Fault("CLIENT KILL of every connection", cut_connections, OR_REFUSED),
        Fault("SIGSTOP of queue Redis for 3 s", lambda s: stall(s.queue, 3), OR_REFUSED),
        Fault("SIGSTOP of cache Redis for 3 s", lambda s: stall(s.cache, 3), SERVED),
        # Those of warm questions are among them; these then need a worker, whose sign of life may be deleted as well.
        Fault("random keys deleted in both Redis", delete_random_keys, OR_REFUSED, warm_served=False),
        Fault("disk full, cache Redis with snapshots", fill_cache_disk, SERVED),
        Fault("disk full, queue Redis with append-only file", fill_queue_disk, OR_REFUSED),
        Fault("SIGSTOP of a worker for 5 s", stall_worker, SERVED, held_up_s=PROMISED_S, needs_whole=True),
        kill,
        Fault("kill -9 of an API process", kill_api, SERVED, held_up_s=PROMISED_S),
        Fault("last worker gone and back", lose_all_workers, OR_REFUSED),
        Fault("rolling restart by SIGTERM", rolling_restart, SERVED, needs_whole=True),
    ]


def kill_worker_mid_batch(system: System) -> Injected:
    """The next one to hold a job; its successor is not waited for."""
    victim = _working(system)
    victim.kill()
    over = time.monotonic()
    system.start_worker(victim)
    return Injected(over)


def kill_api(system: System) -> Injected:
    """Its clients ask the other one again; texts that it had queued are not lost to those who joined them."""
    api = system.apis[0]
    api.kill()
    api.in_rotation = False
    over = time.monotonic()
    api.start()
    api.wait_until_ready()
    api.in_rotation = True
    return Injected(over)


def kill_redis(server: RedisPart, *, persist: bool) -> Injected:
    """Away for `OUTAGE_S`; then back with what it had saved, or with nothing."""
    is_cache = server.name == "cache Redis"
    saved = 0
    with server.client() as client:
        if not is_cache:
            client.config_set("appendonly", "yes" if persist else "no")
            wait_for(lambda: not _persistence(client)["aof_rewrite_in_progress"], "the append-only file")
        elif persist:
            saved = client.dbsize()
            client.save()
    server.kill()
    time.sleep(OUTAGE_S)
    if not persist:
        server.forget()
    server.start(*(("--appendonly", "yes") if persist and not is_cache else ()))
    server.wait_until_up()
    over = time.monotonic()
    with server.client() as client:
        problems = [] if client.dbsize() >= saved else ["the cache came back without what it had saved"]
    return Injected(over, problems)


def cut_connections(system: System) -> Injected:
    for _ in range(10):
        for server in (system.queue, system.cache):
            with server.client() as client:
                client.execute_command("CLIENT KILL TYPE normal SKIPME yes")
        time.sleep(0.1)
    return Injected(time.monotonic())


def stall(server: RedisPart, seconds: float) -> Injected:
    server.send(signal.SIGSTOP)
    time.sleep(seconds)
    server.send(signal.SIGCONT)
    return Injected(time.monotonic())


def stall_worker(system: System) -> Injected:
    """Mid-batch, so that it wakes with a late result."""
    worker = _working(system)
    worker.send(signal.SIGSTOP)
    # What it holds passes to another one while it stands still: nothing waits for it to wake.
    over = time.monotonic()
    time.sleep(5)
    worker.send(signal.SIGCONT)
    time.sleep(0.5)
    return Injected(over)


def delete_random_keys(system: System) -> Injected:
    """As if any key, also those that never are, were evicted at any moment."""
    choice = random.Random(time.monotonic_ns())
    deleted = 0
    give_up = time.monotonic() + 2
    while time.monotonic() < give_up:
        server = choice.choice((system.queue, system.cache))
        with server.client() as client:
            keys = list(client.scan_iter(count=1000))
            for key in choice.sample(keys, min(len(keys), 1 + len(keys) // 20)):
                deleted += client.delete(key)
        time.sleep(0.02)
    return Injected(time.monotonic(), [] if deleted else ["no key was deleted"])


def fill_cache_disk(system: System) -> Injected:
    problems = []
    system.cache.fill_disk()
    with system.cache.client() as client:
        client.bgsave()
        wait_for(lambda: not _persistence(client)["rdb_bgsave_in_progress"], "the snapshot")
        if _persistence(client)["rdb_last_bgsave_status"] == "ok":
            problems.append("the snapshot was saved although the disk was full")
        time.sleep(1)
        system.cache.free_disk()
        client.save()
    return Injected(time.monotonic(), problems)


def fill_queue_disk(system: System) -> Injected:
    problems = []
    with system.queue.client() as client:
        client.config_set("appendonly", "yes")
        wait_for(lambda: not _persistence(client)["aof_rewrite_in_progress"], "the append-only file")
        system.queue.fill_disk()
        try:
            wait_for(lambda: _persistence(client)["aof_last_write_status"] != "ok", "the full disk", 5)
        except AssertionError:
            problems.append("the append-only file was written although the disk was full")
        time.sleep(1.5)
        system.queue.free_disk()
        wait_for(lambda: _persistence(client)["aof_last_write_status"] == "ok", "the append-only file", 5)
        over = time.monotonic()
        client.config_set("appendonly", "no")
    return Injected(over, problems)


def lose_all_workers(system: System) -> Injected:
    """However many there are: one of them may still be starting."""
    problems = []
    for worker in system.workers:
        worker.kill()
    gone = time.monotonic()
    while not _all(system, 503) and time.monotonic() < gone + 3 * BUSY * PROMISED_S:
        time.sleep(0.05)
    red_after = time.monotonic() - gone
    if red_after > BUSY * PROMISED_S:
        problems.append(f"/health/ready was red after {red_after:.1f} s only")
    for worker in system.workers:
        system.start_worker(worker)
    time.sleep(1)
    if not any(worker.worker_id() for worker in system.workers) and not _all(system, 503):
        problems.append("/health/ready turned green without a worker")
    wait_for(lambda: any(map(system.registered, system.workers)), "a worker", 90)
    over = time.monotonic()
    wait_for(lambda: _all(system, 200), "/health/ready", BUSY * PROMISED_S)
    return Injected(over, problems)


def rolling_restart(system: System) -> Injected:
    """One after the other, as a deployment does it; the last worker's successor is not waited for."""
    problems = []
    for api in system.apis:
        problems += _stopped(api)
        # Clients have seen it gone; a proxy sends nothing there again before it is ready.
        api.in_rotation = False
        api.start()
        api.wait_until_ready()
        api.in_rotation = True
    for worker in system.workers:
        problems += _stopped(worker)
        system.start_worker(worker)
        if worker is not system.workers[-1]:
            system.wait_for_worker(worker)
    return Injected(time.monotonic(), problems)


def _stopped(part: ApiPart | WorkerPart) -> list[str]:
    status = part.stop()
    return [] if status == 0 else [f"{part.name} ended with exit status {status} on SIGTERM"]


def _working(system: System) -> WorkerPart:
    """A worker that holds a job right now."""
    by_id = {worker.worker_id(): worker for worker in system.workers}
    with system.queue.client() as client:
        give_up = time.monotonic() + 10
        while time.monotonic() < give_up:
            for key in client.scan_iter("arq:in-progress:*", count=1000):
                holder = by_id.get((client.get(key) or b"").decode())
                if holder is not None:
                    return holder
    raise AssertionError("no worker took a job in 10 s")


def _all(system: System, status: int) -> bool:
    return all(api.readiness() == status for api in system.apis)


def _persistence(client: "redis.Redis") -> dict[str, Any]:
    return cast(dict[str, Any], client.info("persistence"))
