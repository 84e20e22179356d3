"""One data revision with one model, ready to answer. A route finds here all that it needs."""

from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Literal

from api.corpus.reader import LeftOut
from api.corpus.repository import DataSpec
from api.corpus.segment import Manifest
from api.corpus.snapshot import Snapshot
from api.embedding.backend import Backend
from api.retrieval.retriever import Retriever
from shared.model.spec import ModelSpec
from shared.settings import Settings


@dataclass(frozen=True)
class ReleaseSpec:
    """A release as the settings name it."""

    name: str
    """Its URL prefix; slashes are allowed."""
    data: DataSpec
    model: ModelSpec

    @classmethod
    def of(cls, settings: Settings) -> "ReleaseSpec":
        return cls(settings.data_revision, DataSpec.of(settings), ModelSpec.of(settings))


@dataclass(frozen=True)
class Provenance:
    """Sources of a release's data, and the result of its verification at this start."""

    archive_sha256: str
    embeddings: Literal["stored", "computed"]
    filtered: Mapping[str, int]
    """Declarations that the filter removed, by rule."""
    left_out: Sequence[LeftOut]
    """Ends of declarations files that were not read."""
    rows_verified: int
    """Rows whose texts a worker embedded anew."""
    least_cosine: float
    """The least cosine of a verified row and its text."""

    @classmethod
    def of(cls, manifest: Manifest, least_cosine: float) -> "Provenance":
        made_from = manifest.made_from
        embeddings: Literal["stored", "computed"] = "computed" if made_from["embeddings"] == "computed" else "stored"
        return cls(
            made_from["archive"],
            embeddings,
            manifest.filtered,
            manifest.left_out,
            len(manifest.sample),
            round(least_cosine, 6),
        )


@dataclass(frozen=True)
class Release:
    """Answers requests until it is closed."""

    spec: ReleaseSpec
    backend: Backend
    retriever: Retriever
    snapshot: Snapshot
    provenance: Provenance
    resources: AsyncExitStack
    """Closes what only this release uses, and gives the backend back."""

    @property
    def revision(self) -> str:
        """The data's own name for itself; may be empty."""
        return self.retriever.corpus.revision


@dataclass(frozen=True)
class Loading:
    """A release on its way."""

    step: str
    """The current step, as in "The server is not ready yet: {step}."."""
    backend: Backend | None = None
    """Known once the model was read."""

    @property
    def sentence(self) -> str:
        """For clients that ask too early."""
        return f"The server is not ready yet: {self.step}. Try again soon."


@dataclass(frozen=True)
class Failed:
    """A release that could not be loaded."""

    sentence: str
    """The reason, and what to do."""
    backend: None = None
