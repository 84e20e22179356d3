"""A limit on how much one client asks, over all API processes."""

import asyncio
import logging
import time

from arq.connections import ArqRedis
from redis.exceptions import RedisError

from shared.errors import Overloaded
from shared.redis import keys as redis_keys

logger = logging.getLogger(__name__)

WINDOW_S = 60
PATIENCE_S = 0.2
"""A Redis that takes longer does not keep anybody waiting: the request is admitted."""


class RateLimit:
    """So many states a minute and address; counted in windows of a minute, all of which begin at once."""

    def __init__(self, redis: ArqRedis, per_minute: int) -> None:
        self._redis = redis
        self._per_minute = per_minute

    async def admit(self, address: str, states: int) -> None:
        """
        Raises:
            Overloaded: the client has used up its minute.
        """
        now = time.time()
        key = redis_keys.rate(address, int(now // WINDOW_S))
        try:
            async with asyncio.timeout(PATIENCE_S), self._redis.pipeline(transaction=False) as pipe:
                pipe.incrby(key, states)
                pipe.expire(key, 2 * WINDOW_S)
                used, _ = await pipe.execute()
        except (RedisError, OSError, TimeoutError) as error:
            logger.warning("the rate limit cannot be counted, admitting: %s", error)
            return
        if used > self._per_minute:
            left = WINDOW_S - int(now % WINDOW_S)
            sentence = f"You may ask for {self._per_minute} states a minute; try again in {left} s."
            raise Overloaded(sentence, left, "rate_limit")
