"""Log lines: for people on a terminal, JSON for whoever collects them. Never goal text, never a vector."""

import logging
import sys
from typing import Literal

from pythonjsonlogger.json import JsonFormatter

LogFormat = Literal["auto", "text", "json"]

OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}
"""What every record has; the rest was given as `extra`."""


class TextFormatter(logging.Formatter):
    """time role level message key=value ..."""

    def format(self, record: logging.LogRecord) -> str:
        head, line_end, rest = super().format(record).partition("\n")  # a traceback comes after the first line
        given = "".join(f" {name}={value}" for name, value in vars(record).items() if name not in OWN)
        return f"{head}{given}{line_end}{rest}"


def configure_logging(level: str, role: str, log_format: LogFormat) -> None:
    """To standard error; `auto` is text on a terminal and JSON elsewhere."""
    text = sys.stderr.isatty() if log_format == "auto" else log_format == "text"
    handler = logging.StreamHandler()
    handler.setFormatter(
        TextFormatter(f"%(asctime)s {role} %(levelname)s %(message)s")
        if text
        else JsonFormatter("%(asctime)s %(levelname)s %(name)s %(message)s", static_fields={"role": role},
                           rename_fields={"asctime": "time", "levelname": "level", "name": "logger"},
                           datefmt="%Y-%m-%dT%H:%M:%S%z")
    )  # fmt: skip
    logging.basicConfig(level=level, handlers=[handler], force=True)
    # arq logs job arguments, which are user text; httpx logs every request of the hub client.
    for name in ("arq", "httpx", "httpx2", "huggingface_hub", "filelock", "uvicorn"):
        logging.getLogger(name).setLevel(logging.WARNING)
