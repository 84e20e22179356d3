"""Downloads where nobody watches a bar: a log line every few seconds, with megabytes."""

import logging
import time
from io import StringIO
from typing import Any, ClassVar

from huggingface_hub.utils.tqdm import tqdm

from shared.progress import EVERY_S

logger = logging.getLogger(__name__)


class LoggedDownload(tqdm):
    """What huggingface_hub takes for a bar."""

    every_s: ClassVar[float] = EVERY_S
    monitor_interval: ClassVar[int] = 0  # no thread of tqdm's that redraws bars

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._said = time.monotonic()
        # Not disabled, or it would not count; but nothing is drawn.
        super().__init__(*args, **{**kwargs, "disable": False, "file": StringIO()})  # type: ignore[no-untyped-call]

    def display(self, *_args: Any, **_kwargs: Any) -> bool:
        return True

    def update(self, n: float | None = 1) -> bool | None:
        drawn: bool | None = super().update(n)
        now = time.monotonic()
        # Switched off with HF_HUB_DISABLE_PROGRESS_BARS it has no unit either.
        if not self.disable and self.unit == "B" and now - self._said >= self.every_s:
            self._said = now
            total = f" of {self.total / 1e6:,.0f}" if self.total else ""
            logger.info("downloaded %s%s MB", f"{self.n / 1e6:,.0f}", total)
        return drawn
