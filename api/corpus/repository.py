"""Where the data comes from: a Hugging Face dataset or a local directory of the same layout."""

from dataclasses import dataclass
from pathlib import Path

from shared.errors import StartupError
from shared.model.directory import ModelDirectory
from shared.model.hub import hub_file
from shared.settings import Settings

ARCHIVE = "premises.tar.gz"


@dataclass(frozen=True)
class DataRepository:
    """Finds files of DATA_REPO at one revision."""

    settings: Settings
    revision: str
    local_only: bool = False
    """Never download: what is not here raises NotDownloaded."""

    def archive(self) -> Path:
        """
        Raises:
            StartupError: there is none.
        """
        path = self._file(ARCHIVE)
        if path is None:
            raise StartupError(f"DATA_REPO {self.settings.data_repo} at {self.revision} has no {ARCHIVE}.")
        return path

    def embeddings(self, model: ModelDirectory) -> Path | None:
        """The stored embeddings of this model: `embeddings/{model name}-{MODEL_REVISION}.npy`."""
        return self._file(self.embeddings_name(model.name))

    def embeddings_name(self, model_name: str) -> str:
        return f"embeddings/{model_name}-{self.settings.model_revision}.npy"

    def _file(self, name: str) -> Path | None:
        repo = self.settings.data_repo
        local = Path(repo).expanduser()
        if local.is_dir():
            path = local / name
            return path if path.is_file() else None
        if repo.startswith((".", "/", "~")):
            raise StartupError(f"DATA_REPO {repo} is not a directory.")
        return hub_file(repo, self.revision, name, self.settings.data_dir, local_only=self.local_only)
