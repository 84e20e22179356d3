"""`python -m tests.support.slow_worker URL NAME SECONDS`: a worker process to be killed; each job takes that long."""

import asyncio
import sys

from tests.support.queue_system import Work, worker


async def main(url: str, name: str, seconds: float) -> None:
    async with worker(url, Work(delay_s=seconds), name=name):
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], float(sys.argv[3])))
