"""What an index is built from, and where the build of just these sources is or will be."""

from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path

from api.corpus.repository import DataRepository
from api.corpus.segment import artifacts_directory, file_identity
from shared.model.directory import ModelDirectory


@dataclass(frozen=True)
class Sources:
    """Files of one data revision for one model."""

    archive: Path
    stored: Path | None
    """Embeddings that the data repository has; without them they are computed."""
    made_from: dict[str, str]
    directory: Path
    """The build's place in DATA_DIR."""


def find_sources(repository: DataRepository, model: ModelDirectory) -> Sources:
    """
    Raises:
        NotDownloaded: the repository may not download what is missing.
        StartupError: there is no data.
    """
    archive, stored = repository.archive(), repository.embeddings(model)
    made_from = {
        "archive": _content(archive),
        "embeddings": file_identity(stored) if stored else "computed",
        "model": f"{model.name}@{model.revision}",
    }
    return Sources(archive, stored, made_from, artifacts_directory(repository.settings.data_dir, made_from))


def _content(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()
