"""Log lines for people: time, level, logger, message. Never goal text, never a vector."""

import logging


def configure_logging(level: str, role: str) -> None:
    logging.basicConfig(level=level, format=f"%(asctime)s {role} %(levelname)s %(message)s", force=True)
    # arq logs job arguments, which are user text; httpx logs every request of the hub client.
    for name in ("arq", "httpx", "httpx2", "huggingface_hub", "filelock", "uvicorn"):
        logging.getLogger(name).setLevel(logging.WARNING)
