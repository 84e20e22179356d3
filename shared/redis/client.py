"""Connections to Redis: every call bounded in time, one sentence when it cannot be reached."""

import asyncio
from importlib.resources import files
from typing import Any, cast
from urllib.parse import urlsplit

import msgspec
from arq.connections import ArqRedis
from redis.asyncio import BlockingConnectionPool
from redis.commands.core import AsyncScript
from redis.exceptions import RedisError

from shared.errors import RedisAway, StartupError

SOCKET_TIMEOUT_S = 0.8
"""A stalled server is an error this soon; cache and queue one after the other keep the promise of 2 s."""
CONNECTIONS = 64
"""Of one client at most; who finds none free waits as long as for an answer."""
BLOCK_S = 0.5
"""How long a blocking pop waits; also how soon expired leases are looked for."""


def connect(url: str) -> ArqRedis:
    """A client with a connection pool; connects at first use.

    Raises:
        StartupError: the URL cannot be parsed.
    """
    try:
        # Not the plain pool: it connects under one lock, so that with a stalled Redis each caller would wait out the
        # time-outs of all before it.
        pool: BlockingConnectionPool = BlockingConnectionPool.from_url(
            url,
            max_connections=CONNECTIONS,
            timeout=SOCKET_TIMEOUT_S,
            socket_timeout=SOCKET_TIMEOUT_S,
            socket_connect_timeout=SOCKET_TIMEOUT_S,
            socket_keepalive=True,
        )
    except ValueError as error:
        raise StartupError(f"Redis URL {without_password(url)!r} is not usable: {error}.") from None
    return ArqRedis(
        pool_or_conn=pool,
        job_serializer=msgspec.msgpack.encode,
        job_deserializer=msgspec.msgpack.decode,
    )


async def disconnect(redis: ArqRedis) -> None:
    """Close every connection; a plain `aclose` leaves those of a pool that was handed in."""
    await redis.aclose(close_connection_pool=True)


async def require(redis: ArqRedis, url: str, setting: str, patience_s: float = 5.0) -> None:
    """Wait until Redis answers.

    Raises:
        RedisAway: it does not within `patience_s` seconds.
    """
    loop = asyncio.get_running_loop()
    give_up = loop.time() + patience_s
    while True:
        try:
            await redis.ping()
            return
        except (RedisError, OSError) as error:
            if loop.time() > give_up:
                reason = str(error).rstrip(".") or type(error).__name__
                raise RedisAway(
                    f"Redis at {without_password(url)} ({setting}) cannot be used: {reason}. "
                    "Start it, or correct the setting."
                ) from None
        await asyncio.sleep(0.2)


async def blocking_pop(redis: ArqRedis, key: str) -> bytes | None:
    """The first entry of a list, waited for `BLOCK_S` seconds at most; None if there came none."""
    # redis-py's types know neither fractions of a second nor that its asyncio client is always awaited.
    popped: list[bytes] | None = await cast(Any, redis).blpop([key], timeout=BLOCK_S)
    return popped[1] if popped else None


def stop_if_cancelled() -> None:
    """For loops over Redis calls: end the task if it was cancelled and redis-py has lost that.

    It sends through `asyncio.wait_for`, which before Python 3.12 drops a cancellation that arrives when the send is
    done. The task would run on, and who waits for its end would wait for ever.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def script(redis: ArqRedis, name: str) -> AsyncScript:
    """The Lua script `shared/redis/lua/{name}.lua`; loaded again by itself after a Redis restart."""
    return redis.register_script(files("shared.redis").joinpath("lua", f"{name}.lua").read_text(encoding="utf-8"))


def without_password(url: str) -> str:
    """The URL as it may be logged."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=host, query="").geturl()
