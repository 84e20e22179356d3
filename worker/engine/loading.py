"""What libraries do while they load a model, turned into one sentence."""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from transformers.utils import logging as transformers_logging

from shared.errors import StartupError


@contextmanager
def loading(folder: Path) -> Iterator[None]:
    """Keep transformers silent in the block.

    Raises:
        StartupError: the block raised anything at all; the sentence has the first line of the reason.
    """
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity(logging.CRITICAL)
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # transformers has no types here
    try:
        yield
    except (StartupError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # a panic of a Rust library is no Exception
        raise StartupError(f"Model {folder} cannot be loaded: {_reason(error)} ({type(error).__name__}).") from None
    finally:
        transformers_logging.set_verbosity(verbosity)


def _reason(error: BaseException) -> str:
    """The first sentence of what a library says, which may be a page."""
    line = next(filter(None, map(str.strip, str(error).splitlines())), "no reason was given")
    return re.split(r"(?<=[.!?])\s", line)[0].rstrip(" .:")
