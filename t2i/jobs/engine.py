"""From a model on disk to one that draws."""

from __future__ import annotations

from typing import TYPE_CHECKING

from t2i.store.bundle import Bundle

if TYPE_CHECKING:
    from t2i.engine import Engine
    from t2i.pipeline import Pipeline
    from t2i.store.load_options import LoadOptions
    from t2i.store.models import StoredModel


def load_engine(model: StoredModel, device: str, loading: LoadOptions) -> Engine:
    """Load the weights. Raises InputError for a damaged model, UsageError for what the device cannot do."""
    if isinstance(model, Bundle):
        from t2i.edit.bundle_engine import BundleEngine
        from t2i.pipeline import Pipeline

        return BundleEngine(Pipeline.load(model.path, device, loading.dtype, loading.loras))
    from t2i.open.engine import DiffusersEngine

    return DiffusersEngine.load(model, device, loading)


def bundle_pipeline(engine: Engine) -> Pipeline:
    """The pipeline of a bundle, for what no other model offers; that it is one was checked before loading."""
    from t2i.edit.bundle_engine import BundleEngine

    assert isinstance(engine, BundleEngine)
    return engine.pipeline
