"""The data's source: a Hugging Face dataset or a local directory of the same layout."""

from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path

from shared.errors import StartupError
from shared.model.directory import ModelDirectory
from shared.model.hub import hub_file
from shared.model.spec import ModelSpec
from shared.settings import Settings

ARCHIVE = "premises.tar.gz"


@dataclass(frozen=True)
class DataSpec:
    """DATA_REPO at DATA_REVISION."""

    repo: str
    """Hub dataset, or a local directory."""
    revision: str

    @classmethod
    def of(cls, settings: Settings) -> "DataSpec":
        return cls(settings.data_repo, settings.data_revision)


@dataclass(frozen=True)
class SegmentSource:
    """Files that a segment is built from."""

    archive: Path
    stored: Path | None
    """Embeddings that the data repository has; without them the workers compute them."""
    made_from: dict[str, str]
    """Identifies the content of both, and the model."""


@dataclass(frozen=True)
class DataRepository:
    """Finds the files of one data revision."""

    spec: DataSpec
    data_dir: Path
    local_only: bool = False
    """Never download: a file that is not here raises NotDownloaded."""

    def source(self, model: ModelDirectory, spec: ModelSpec) -> SegmentSource:
        """The files for one model.

        Raises:
            NotDownloaded: the repository may not download what is missing.
            StartupError: there is no data.
        """
        archive, stored = self.archive(), self.embeddings(spec)
        made_from = {
            "archive": _content(archive),
            "embeddings": _identity(stored) if stored else "computed",
            "model": f"{model.name}@{model.revision}",
        }
        return SegmentSource(archive, stored, made_from)

    def archive(self) -> Path:
        """
        Raises:
            StartupError: there is none.
        """
        path = self._file(ARCHIVE)
        if path is None:
            raise StartupError(f"DATA_REPO {self.spec.repo} at {self.spec.revision} has no {ARCHIVE}.")
        return path

    def embeddings(self, model: ModelSpec) -> Path | None:
        """The stored embeddings of this model."""
        return self._file(embeddings_name(model))

    def _file(self, name: str) -> Path | None:
        repo = self.spec.repo
        local = Path(repo).expanduser()
        if local.is_dir():
            path = local / name
            return path if path.is_file() else None
        if repo.startswith((".", "/", "~")):
            raise StartupError(f"DATA_REPO {repo} is not a directory.")
        return hub_file(repo, self.spec.revision, name, self.data_dir, local_only=self.local_only)


def embeddings_name(model: ModelSpec) -> str:
    """A data repository's name for the stored embeddings of a model."""
    return f"embeddings/{model.name}-{model.revision}.npy"


def _content(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def _identity(path: Path) -> str:
    """Tells a file from another in its place without reading gigabytes: hub files are named by content."""
    status = path.stat()
    return f"{path.resolve()}:{status.st_size}:{status.st_mtime_ns}"
