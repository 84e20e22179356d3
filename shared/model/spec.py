"""A model as the settings name it, before anything is looked up."""

from dataclasses import dataclass
from pathlib import Path

from shared.settings import Settings


@dataclass(frozen=True)
class ModelSpec:
    """MODEL_ID at MODEL_REVISION, computed in DTYPE."""

    id: str
    """Hub repository, or a local sentence-transformers directory."""
    revision: str
    """Branch, tag or commit of a hub repository; also a part of the stored embeddings' file name."""
    name: str
    """In cache keys and file names."""
    dtype: str

    @classmethod
    def of(cls, settings: Settings) -> "ModelSpec":
        name = settings.model_name or settings.model_id.rstrip("/").rpartition("/")[2]
        return cls(settings.model_id, settings.model_revision, name, settings.dtype)

    @property
    def local(self) -> Path:
        """The directory that `id` names if it is no hub repository."""
        return Path(self.id).expanduser()
