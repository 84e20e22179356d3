"""The indexed premises nearest to a cached embedding, from the build in DATA_DIR if there is one."""

from api.commands.cache.entry import Entry
from api.corpus.repository import DataRepository, DataSpec
from api.corpus.segment import is_whole, open_segment, segment_directory
from api.corpus.snapshot import Snapshot
from api.search.index import Search
from api.search.premise_set import PremiseSet
from shared.errors import StartupError
from shared.model.directory import open_model
from shared.model.spec import ModelSpec
from shared.settings import Settings


def nearest(entry: Entry, count: int, settings: Settings) -> list[str]:
    """A line each; one that says why if they cannot be told. Nothing is downloaded or built."""
    try:
        spec = ModelSpec.of(settings)
        model = open_model(spec, settings.data_dir, weights=False, local_only=True)
        wanted = model.fingerprint(settings.dtype)
        if entry.fingerprint != wanted:
            return [f"Nearest premises: the settings are for {wanted}, whose index does not compare with this model."]
        source = DataRepository(DataSpec.of(settings), settings.data_dir, local_only=True).source(model, spec)
    except StartupError as error:
        return [f"Nearest premises: {error}"]
    directory = segment_directory(settings.data_dir, source.made_from)
    if not is_whole(directory, source.made_from):
        return [f"Nearest premises: no index of this data and model is built in {settings.data_dir} yet."]
    if len(entry.vector) != model.dimension or not abs(entry.norm - 1) < 0.01:
        return ["Nearest premises: this is no unit vector of the model."]
    snapshot = Snapshot.of([open_segment(directory)])
    (hits,) = snapshot.index.search([Search(entry.vector, PremiseSet.of(snapshot.corpus.served), count)])
    return [f"{score:.4f}   {snapshot.corpus.names[i]}" for i, score in zip(hits.ids, hits.scores, strict=True)]
