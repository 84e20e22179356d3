"""The Hugging Face hub: revision-pinned downloads, kept under DATA_DIR, usable offline once there."""

import sys
from collections.abc import Sequence
from contextlib import suppress
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
    DryRunError,
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
from shared.model.hub_progress import LoggedDownload


class NotDownloaded(StartupError):
    """It was asked for without leave to download it."""


def hub_snapshot(
    repo: str, revision: str, patterns: Sequence[str], data_dir: Path, *, local_only: bool = False
) -> tuple[Path, str]:
    """Files of a model that match `patterns`, and the commit that the revision stands for.

    Raises:
        NotDownloaded: with `local_only`, they are not all here.
        StartupError: repository or revision do not exist, or neither hub nor local copy can be reached.
    """
    cache = data_dir / "hub"
    try:
        commit = _commit(repo, "model", revision, cache, local_only)
        path = snapshot_download(
            repo,
            revision=commit,
            allow_patterns=list(patterns),
            cache_dir=cache,
            local_files_only=local_only,
            tqdm_class=_bars(),
        )
        return Path(path), commit.resolved
    except Exception as error:
        raise _sentence(error, repo, revision, local_only) from None


def hub_file(repo: str, revision: str, name: str, data_dir: Path, *, local_only: bool = False) -> Path | None:
    """One file of a dataset; None if the repository has no such file.

    Raises:
        NotDownloaded, StartupError: as for `hub_snapshot`.
    """
    cache = data_dir / "hub"
    try:
        commit = _commit(repo, "dataset", revision, cache, local_only).resolved
        # A commit never changes: what it is known to lack needs no hub either.
        if try_to_load_from_cache(repo, name, cache, commit, "dataset") is _CACHED_NO_EXIST:
            return None
        path = hf_hub_download(
            repo,
            name,
            repo_type="dataset",
            revision=commit,
            cache_dir=cache,
            local_files_only=local_only,
            tqdm_class=_bars(),
        )
        return Path(path)
    except RemoteEntryNotFoundError:
        return None
    except Exception as error:
        raise _sentence(error, repo, revision, local_only) from None


def model_download_bytes(repo: str, revision: str, patterns: Sequence[str], data_dir: Path) -> int:
    """How much of a model is still to be fetched; the hub is asked for sizes only.

    Raises:
        StartupError: as for `hub_snapshot`.
    """
    try:
        with disable_progress_bars():
            files = snapshot_download(
                repo, revision=revision, allow_patterns=list(patterns), cache_dir=data_dir / "hub", dry_run=True
            )
        return sum(file.file_size or 0 for file in files if file.will_download)
    except Exception as error:
        raise _sentence(error, repo, revision) from None


def file_download_bytes(repo: str, revision: str, name: str, data_dir: Path) -> int:
    """The same for one file of a dataset; 0 also if there is no such file.

    Raises:
        StartupError: as for `hub_snapshot`.
    """
    try:
        file = hf_hub_download(
            repo, name, repo_type="dataset", revision=revision, cache_dir=data_dir / "hub", dry_run=True
        )
        return (file.file_size or 0) if file.will_download else 0
    except RemoteEntryNotFoundError:
        return 0
    except Exception as error:
        raise _sentence(error, repo, revision) from None


def _commit(repo: str, kind: str, revision: str, cache: Path, local_only: bool) -> ResolvedRevision:
    """What the revision stands for: the hub says it, or said it last time if it is away or in trouble now."""
    try:
        return resolve_revision(repo, repo_type=kind, revision=revision, cache_dir=cache, local_files_only=local_only)
    except (RevisionNotFoundError, RepositoryNotFoundError):
        raise
    except HfHubHTTPError:  # too many requests, say
        with suppress(RevisionResolutionError):
            return resolve_revision(repo, repo_type=kind, revision=revision, cache_dir=cache, local_files_only=True)
        raise


def _bars() -> type[LoggedDownload] | None:
    """The library's own bars for people who watch; in a log file each step of one would be a line."""
    return None if sys.stderr.isatty() else LoggedDownload


def _sentence(error: Exception, repo: str, revision: str, local_only: bool = False) -> StartupError:
    match error:
        case RevisionNotFoundError():
            return StartupError(f"{repo} has no revision {revision!r} on the hub.")
        case RepositoryNotFoundError():
            return StartupError(f"{repo} is neither a directory nor a repository on the hub that can be read.")
        case HFValidationError():
            return StartupError(f"{repo} is neither a directory nor a valid hub repository name.")
        case LocalEntryNotFoundError() | RevisionResolutionError() if local_only:
            return NotDownloaded(f"{repo} at {revision!r} is not in DATA_DIR yet.")
        case LocalEntryNotFoundError() | RevisionResolutionError() | DryRunError():
            return StartupError(
                f"{repo} at {revision!r} is not on this machine and the hub cannot be reached; "
                "connect, or name a local directory."
            )
        case _:  # the library lets errors of several HTTP and file layers through
            lines = [line.strip(" .") for line in str(error).splitlines()]
            reason = next(filter(None, lines), type(error).__name__)
            return StartupError(f"Downloading {repo} at {revision!r} failed: {reason}.")
