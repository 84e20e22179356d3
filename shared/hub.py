"""The Hugging Face hub: revision-pinned downloads, kept under DATA_DIR, usable offline once there."""

import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path

from huggingface_hub import (
    _CACHED_NO_EXIST,
    ResolvedRevision,
    hf_hub_download,
    resolve_revision,
    snapshot_download,
    try_to_load_from_cache,
)
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
    RevisionResolutionError,
)
from huggingface_hub.utils.tqdm import disable_progress_bars

from shared.errors import StartupError


def hub_snapshot(repo: str, revision: str, patterns: Sequence[str], data_dir: Path) -> tuple[Path, str]:
    """Files of a model that match `patterns`, and the commit that the revision stands for.

    Raises:
        StartupError: repository or revision do not exist, or neither hub nor local copy can be reached.
    """
    cache = data_dir / "hub"
    try:
        commit = _commit(repo, "model", revision, cache)
        with _progress():
            path = snapshot_download(repo, revision=commit, allow_patterns=list(patterns), cache_dir=cache)
        return Path(path), commit.resolved
    except Exception as error:
        raise _sentence(error, repo, revision) from None


def hub_file(repo: str, revision: str, name: str, data_dir: Path) -> Path | None:
    """One file of a dataset; None if the repository has no such file.

    Raises:
        StartupError: as for `hub_snapshot`.
    """
    cache = data_dir / "hub"
    try:
        commit = _commit(repo, "dataset", revision, cache).resolved
        # A commit never changes: what it is known to lack needs no hub either.
        if try_to_load_from_cache(repo, name, cache, commit, "dataset") is _CACHED_NO_EXIST:
            return None
        with _progress():
            return Path(hf_hub_download(repo, name, repo_type="dataset", revision=commit, cache_dir=cache))
    except RemoteEntryNotFoundError:
        return None
    except Exception as error:
        raise _sentence(error, repo, revision) from None


def _commit(repo: str, kind: str, revision: str, cache: Path) -> ResolvedRevision:
    """What the revision stands for: the hub says it, or said it last time if it is away or in trouble now."""
    try:
        return resolve_revision(repo, repo_type=kind, revision=revision, cache_dir=cache)
    except (RevisionNotFoundError, RepositoryNotFoundError):
        raise
    except HfHubHTTPError:  # too many requests, say
        with suppress(RevisionResolutionError):
            return resolve_revision(repo, repo_type=kind, revision=revision, cache_dir=cache, local_files_only=True)
        raise


def _progress() -> AbstractContextManager[object]:
    """Bars for people who watch; in a log file each step would be a line."""
    return nullcontext() if sys.stderr.isatty() else disable_progress_bars()


def _sentence(error: Exception, repo: str, revision: str) -> StartupError:
    match error:
        case RevisionNotFoundError():
            return StartupError(f"{repo} has no revision {revision!r} on the hub.")
        case RepositoryNotFoundError():
            return StartupError(f"{repo} is neither a directory nor a repository on the hub that can be read.")
        case HFValidationError():
            return StartupError(f"{repo} is neither a directory nor a valid hub repository name.")
        case LocalEntryNotFoundError() | RevisionResolutionError():
            return StartupError(
                f"{repo} at {revision!r} is not on this machine and the hub cannot be reached; "
                "connect, or name a local directory."
            )
        case _:  # the library lets errors of several HTTP and file layers through
            lines = [line.strip(" .") for line in str(error).splitlines()]
            reason = next(filter(None, lines), type(error).__name__)
            return StartupError(f"Downloading {repo} at {revision!r} failed: {reason}.")
