"""scikit-learn estimators: skops files, and pickles or joblib files that the operator trusts.

Rules: the input is `input`, a table of numbers with as many columns as the estimator was fitted on,
or texts where its first step reads text. A classifier gives `label` and, where it can,
`probabilities`; others give `prediction`, a transformer `output`.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from dockyard_serve.errors import LoadError
from dockyard_serve.formats.loaded import (
    Arrays,
    LoadedModel,
    batch_limit,
    output_specs,
    specs_from_options,
)
from dockyard_serve.model import TensorSpec

if TYPE_CHECKING:
    from collections.abc import Callable

    from dockyard_serve.model import Source


def load(source: Source) -> LoadedModel:
    """Load an estimator; raises LoadError when it can't be, or brings types that aren't known."""
    assert source.path is not None
    estimator = _skops(source) if source.path.suffix.lower() == ".skops" else _unpickled(source)
    if not any(hasattr(estimator, name) for name in ("predict", "transform")):
        raise LoadError(
            f"holds a {type(estimator).__name__}, which neither predicts nor transforms",
            where=str(source.path),
            hint="Serve it by a Python class with `setup` and `predict`.",
        )
    inputs = specs_from_options(source) or (_input(estimator, source),)
    if len(inputs) != 1:
        raise LoadError("takes one input, a table", where="configuration")
    function = _function(estimator, inputs[0])
    outputs = output_specs(function, inputs, source)
    return LoadedModel(
        name=source.name,
        version=source.version,
        platform="sklearn",
        inputs=inputs,
        outputs=outputs,
        max_batch_size=batch_limit(source, inputs, outputs),
        function=function,
    )


def _skops(source: Source) -> Any:
    import skops.io

    trusted: list[str] = []
    try:
        unknown = skops.io.get_untrusted_types(file=source.path)
        if unknown and source.options.get("trust"):
            trusted, unknown = unknown, []
        if unknown:
            raise LoadError(
                f"holds types that aren't known to be harmless: {', '.join(unknown[:5])}",
                where=str(source.path),
                hint="Only if you trust where it comes from: trust = true in [serve], or --trust.",
            )
        return skops.io.load(source.path, trusted=trusted)
    except LoadError:
        raise
    except Exception as error:  # Damaged zips, unknown protocols, types that have moved.
        raise LoadError(
            f"skops can't load it: {str(error)[:300]}",
            where=str(source.path),
            hint="Save it with skops.io.dump, by the scikit-learn that serves it.",
        ) from error


def _unpickled(source: Source) -> Any:
    import joblib

    try:
        return joblib.load(source.path)
    except Exception as error:  # Unpickling runs the file's own code.
        raise LoadError(
            f"can't be unpickled: {str(error)[:300]}",
            where=str(source.path),
            hint="The packages and classes that it was saved with must be installed.",
        ) from error


def _input(estimator: Any, source: Source) -> TensorSpec:
    if _reads_text(estimator):
        return TensorSpec(name="input", datatype="BYTES", shape=(-1,))
    columns = getattr(estimator, "n_features_in_", None)
    if columns is None:
        raise LoadError(
            "doesn't say how many columns it takes",
            where=str(source.path),
            hint='State it in [serve]: inputs = { input = "FP64 [-1, 8]" }.',
        )
    return TensorSpec(name="input", datatype="FP64", shape=(-1, int(columns)))


def _reads_text(estimator: Any) -> bool:
    while hasattr(estimator, "steps"):
        estimator = estimator.steps[0][1]
    # The text vectorizers, and nothing else of scikit-learn, have an analyzer.
    return hasattr(estimator, "build_analyzer")


def _function(estimator: Any, spec: TensorSpec) -> Callable[[Arrays], Arrays]:
    predict = getattr(estimator, "predict", None)
    probabilities = getattr(estimator, "predict_proba", None)
    is_classifier = hasattr(estimator, "classes_")

    def infer(arrays: Arrays) -> Arrays:
        table: Any = arrays[spec.name]
        if spec.datatype == "BYTES":
            table = [item.decode("utf-8", "replace") for item in table.ravel().tolist()]
        with warnings.catch_warnings():
            # Fitted on a table with names, asked with one without: the columns are the same.
            warnings.filterwarnings("ignore", message="X does not have valid feature names")
            if predict is None:
                return {"output": _dense(estimator.transform(table))}
            if not is_classifier:
                return {"prediction": _dense(predict(table))}
            found = {"label": _dense(predict(table))}
            if probabilities is not None:
                found["probabilities"] = _dense(probabilities(table))
            return found

    return infer


def _dense(value: Any) -> np.ndarray[Any, Any]:
    array = np.asarray(value.toarray() if hasattr(value, "toarray") else value)
    return array.astype(object) if array.dtype.kind in "US" else array
