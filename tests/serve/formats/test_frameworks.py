"""Models of every framework, trained on the digits: the answers are the framework's own.

Frameworks that aren't installed are skipped; `scripts/test` installs those that it can.
"""

from __future__ import annotations

import json
import pickle
import zipfile

import numpy as np
import pytest

from dockyard_serve.errors import LoadError
from dockyard_serve.formats.kinds import UnknownFormat, format_of
from dockyard_serve.model import TensorSpec


def refused(load, path, **options):
    with pytest.raises(LoadError) as caught:
        load(path, **options)
    assert caught.value.where == str(path)
    return str(caught.value)


class Runs:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


# scikit-learn


@pytest.fixture(scope="module")
def classifier(digits):
    pytest.importorskip("sklearn")
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    made = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300))
    return made.fit(digits.train_images.reshape(-1, 64), digits.train_labels)


def assert_classifies(model, classifier, digits):
    table = digits.images.reshape(-1, 64).astype(np.float64)
    found = model.infer({"input": table})
    assert found["label"].tolist() == classifier.predict(table).tolist()
    assert np.array_equal(found["probabilities"], classifier.predict_proba(table))
    assert (found["label"] == digits.labels).mean() > 0.9


def test_skops_answers_as_scikit_learn_does(load, tmp_path, classifier, digits):
    skops_io = pytest.importorskip("skops.io")
    skops_io.dump(classifier, tmp_path / "m.skops")
    model = load(tmp_path / "m.skops")
    assert model.inputs == (TensorSpec(name="input", datatype="FP64", shape=(-1, 64)),)
    assert [str(spec) for spec in model.outputs] == ["INT64 [-1]", "FP64 [-1, 10]"]
    assert_classifies(model, classifier, digits)


def test_skops_with_types_of_its_own_needs_trust(load, tmp_path, digits):
    skops_io = pytest.importorskip("skops.io")
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    made = make_pipeline(FunctionTransformer(np.log1p)).fit(digits.train_images.reshape(-1, 64))
    skops_io.dump(made, tmp_path / "m.skops")
    unknown = skops_io.get_untrusted_types(file=tmp_path / "m.skops")
    if not unknown:
        pytest.skip("this skops knows numpy's functions")
    assert unknown[0] in refused(load, tmp_path / "m.skops")
    assert load(tmp_path / "m.skops", trust=True).outputs[0].name == "output"


def test_a_joblib_file_is_loaded_only_when_trusted(load, tmp_path, classifier, digits):
    joblib = pytest.importorskip("joblib")
    joblib.dump(classifier, tmp_path / "m.joblib")
    assert "unpickling it runs whatever code the file names" in refused(load, tmp_path / "m.joblib")
    assert_classifies(load(tmp_path / "m.joblib", trust=True), classifier, digits)


def test_text_goes_into_a_vectorizer(load, tmp_path):
    skops_io = pytest.importorskip("skops.io")
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    words, kinds = ["good", "fine", "bad", "awful"], ["up", "up", "down", "down"]
    made = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(words, kinds)
    skops_io.dump(made, tmp_path / "m.skops")
    model = load(tmp_path / "m.skops")
    assert str(model.inputs[0]) == "BYTES [-1]"
    found = model.infer({"input": np.array([b"bad", b"good"], dtype=object)})
    assert found["label"].tolist() == ["down", "up"]


# PyTorch


@pytest.fixture(scope="module")
def network(digits):
    torch = pytest.importorskip("torch")
    torch.manual_seed(1)
    layers = [torch.nn.Flatten(), torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10)]
    made = torch.nn.Sequential(*layers)
    images, labels = torch.from_numpy(digits.train_images), torch.from_numpy(digits.train_labels)
    optimizer = torch.optim.Adam(made.parameters(), lr=1e-2)
    for _ in range(120):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(made(images), labels).backward()
        optimizer.step()
    return made.eval()


def exported(network, path):
    import torch

    batch = torch.export.Dim("batch", min=1, max=50)
    example = torch.zeros(2, 8, 8)
    torch.export.save(torch.export.export(network, (example,), dynamic_shapes=({0: batch},)), path)
    return path


def assert_answers_as(model, network, digits, name="output"):
    import torch

    with torch.inference_mode():
        expected = network(torch.from_numpy(digits.images)).numpy()
    (spec,) = model.inputs
    found = model.infer({spec.name: digits.images})[name]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    assert (found.argmax(axis=1) == digits.labels).mean() > 0.85


def test_an_exported_program_answers_as_pytorch_does(load, tmp_path, network, digits):
    model = load(exported(network, tmp_path / "m.pt2"))
    assert [str(spec) for spec in (*model.inputs, *model.outputs)] == [
        "FP32 [-1, 8, 8]",
        "FP32 [-1, 10]",
    ]
    assert model.max_batch_size == 50, "what it was exported for"
    assert_answers_as(model, network, digits)


def test_an_exported_program_names_what_a_dictionary_names(load, tmp_path):
    torch = pytest.importorskip("torch")

    class Two(torch.nn.Module):
        def forward(self, left, right):
            return {"sum": left + right, "narrow": left.to(torch.bfloat16)}

    example = (torch.zeros(2, 3), torch.zeros(2, 3))
    torch.export.save(torch.export.export(Two(), example), tmp_path / "m.pt2")
    model = load(tmp_path / "m.pt2")
    assert [spec.name for spec in model.inputs] == ["left", "right"]
    assert {spec.name: str(spec) for spec in model.outputs} == {
        "sum": "FP32 [2, 3]",
        "narrow": "BF16 [2, 3]",
    }
    assert model.max_batch_size is None
    ones = np.ones((2, 3), np.float32)
    found = model.infer({"left": ones, "right": ones})
    assert found["sum"].tolist() == [[2] * 3] * 2
    assert found["narrow"].dtype == np.float32


def test_torchscript_answers_as_pytorch_does(load, tmp_path, network, digits):
    import torch

    torch.jit.trace(network, torch.zeros(2, 8, 8)).save(tmp_path / "m.pt")
    model = load(tmp_path / "m.pt")
    assert str(model.inputs[0]) == "FP32 [-1, 8, 8]"
    assert model.platform == "pytorch_torchscript"
    assert_answers_as(model, network, digits)


def test_a_scripted_module_needs_its_inputs_said(load, tmp_path, network, digits):
    import torch

    torch.jit.script(network).save(tmp_path / "m.pt")
    assert 'inputs = { input = "FP32 [-1, 8]" }' in refused(load, tmp_path / "m.pt")
    assert_answers_as(load(tmp_path / "m.pt", inputs={"input": "FP32 [-1, 8, 8]"}), network, digits)
    with pytest.raises(LoadError, match="fails on zeros"):
        load(tmp_path / "m.pt", inputs={"input": "FP32 [-1, 8, 9]"})
    with pytest.raises(LoadError, match="no datatype and shape"):
        load(tmp_path / "m.pt", inputs={"input": "float [-1]"})


def test_torchscript_that_touches_files_is_refused(load, tmp_path):
    torch = pytest.importorskip("torch")

    class Reads(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + torch.from_file("/etc/hostname", shared=False, size=1)

    torch.jit.script(Reads()).save(tmp_path / "m.pt")
    assert "torch.from_file, which touches files" in refused(load, tmp_path / "m.pt")


def test_torchscript_never_runs_its_pickles(load, tmp_path, network):
    import torch

    torch.jit.script(network).save(tmp_path / "good.pt")
    target = tmp_path / "made"
    with (
        zipfile.ZipFile(tmp_path / "good.pt") as old,
        zipfile.ZipFile(tmp_path / "m.pt", "w") as new,
    ):
        for name in old.namelist():
            evil = name.endswith(("data.pkl", "constants.pkl"))
            new.writestr(name, pickle.dumps(Runs(target), 2) if evil else old.read(name))
    refused(load, tmp_path / "m.pt", inputs={"x": "FP32 [-1, 8, 8]"})
    assert not target.exists()


def test_an_exported_program_with_a_foreign_pickle_is_refused(load, tmp_path, network):
    exported(network, tmp_path / "good.pt2")
    target = tmp_path / "made"
    with (
        zipfile.ZipFile(tmp_path / "good.pt2") as old,
        zipfile.ZipFile(tmp_path / "m.pt2", "w") as new,
    ):
        for name in old.namelist():
            new.writestr(name, old.read(name))
        new.writestr("m/data/sample_inputs/more.pt", pickle.dumps(Runs(target)))
    assert "more.pt would import" in refused(load, tmp_path / "m.pt2")
    assert not target.exists()


def test_a_pickled_module_is_loaded_only_when_trusted(load, tmp_path, network, digits):
    import torch

    torch.save(network, tmp_path / "m.pt")
    said = refused(load, tmp_path / "m.pt")
    assert "torch.nn.modules" in said
    assert "trust = true" in said
    assert "doesn't say what its inputs are" in refused(load, tmp_path / "m.pt", trust=True)
    model = load(tmp_path / "m.pt", trust=True, inputs={"x": "FP32 [-1, 8, 8]"})
    assert_answers_as(model, network, digits)


def test_weights_alone_are_no_model(load, tmp_path, network):
    import torch

    torch.save(network.state_dict(), tmp_path / "m.pt")
    assert "holds weights alone" in refused(load, tmp_path / "m.pt")
    assert "holds weights alone" in refused(load, tmp_path / "m.pt", trust=True)


def test_cuda_that_is_not_there_is_told(load, tmp_path, network):
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    exported(network, tmp_path / "m.pt2")
    assert "PyTorch sees no CUDA device" in refused(load, tmp_path / "m.pt2", device="cuda")


# Keras and TensorFlow


@pytest.fixture(scope="module")
def keras():
    # Keras's default; it also writes the SavedModel.
    pytest.importorskip("tensorflow")
    return pytest.importorskip("keras")


@pytest.fixture(scope="module")
def trained(keras, digits):
    keras.utils.set_random_seed(1)
    layers = keras.layers
    made = keras.Sequential(
        [
            keras.Input((8, 8), name="image"),
            layers.Flatten(),
            layers.Dense(32, activation="relu"),
            layers.Dense(10, activation="softmax", name="digit"),
        ]
    )
    made.compile("adam", "sparse_categorical_crossentropy")
    made.fit(digits.train_images / 16, digits.train_labels, epochs=12, verbose=0)
    return made


@pytest.mark.parametrize("name", ["m.keras", "m.h5"])
def test_keras_answers_as_keras_does(load, tmp_path, trained, digits, name):
    trained.save(tmp_path / name)
    model = load(tmp_path / name)
    assert [(spec.name, str(spec)) for spec in model.outputs] == [("digit", "FP32 [-1, 10]")]
    (spec,) = model.inputs
    assert (spec.name, str(spec)) == ("image", "FP32 [-1, 8, 8]")
    found = model.infer({"image": digits.images / 16})["digit"]
    expected = trained.predict(digits.images / 16, verbose=0)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert (found.argmax(axis=1) == digits.labels).mean() > 0.8


@pytest.mark.parametrize("name", ["m.keras", "m.h5"])
def test_a_lambda_layer_is_refused(load, tmp_path, keras, name):
    made = keras.Sequential([keras.Input((3,)), keras.layers.Lambda(lambda x: 2 * x)])
    made.save(tmp_path / name)
    assert "Lambda layer, which is Python code" in refused(load, tmp_path / name)
    model = load(tmp_path / name, trust=True)
    assert model.infer({model.inputs[0].name: np.ones((1, 3), np.float32)})


def test_a_class_from_outside_of_keras_is_refused(load, tmp_path, keras, trained):
    trained.save(tmp_path / "good.keras")
    with (
        zipfile.ZipFile(tmp_path / "good.keras") as old,
        zipfile.ZipFile(tmp_path / "m.keras", "w") as new,
    ):
        for name in old.namelist():
            data = old.read(name)
            if name == "config.json":
                config = json.loads(data)
                config["config"]["layers"][1]["module"] = "subprocess"
                config["config"]["layers"][1]["class_name"] = "Popen"
                data = json.dumps(config)
            new.writestr(name, data)
    assert "the class subprocess.Popen" in refused(load, tmp_path / "m.keras")


def test_keras_weights_alone_are_no_model(load, tmp_path, trained):
    trained.save_weights(tmp_path / "m.weights.h5")
    assert "holds weights alone" in refused(load, tmp_path / "m.weights.h5")


def test_a_saved_model_answers_as_tensorflow_does(load, tmp_path, trained, digits):
    trained.export(str(tmp_path / "m"), verbose=False)
    model = load(tmp_path / "m")
    assert model.platform == "tensorflow_savedmodel"
    (taken,), (given,) = model.inputs, model.outputs
    assert (str(taken), str(given)) == ("FP32 [-1, 8, 8]", "FP32 [-1, 10]")
    found = model.infer({taken.name: digits.images / 16})[given.name]
    np.testing.assert_allclose(
        found, trained.predict(digits.images / 16, verbose=0), rtol=1e-4, atol=1e-5
    )


def test_a_saved_model_takes_and_gives_text(load, tmp_path, keras):
    import tensorflow as tf

    class Upper(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="word")])
        def __call__(self, word):
            return {"upper": tf.strings.upper(word)}

    tf.saved_model.save(Upper(), str(tmp_path / "m"), signatures=Upper().__call__)
    model = load(tmp_path / "m")
    assert [(spec.name, str(spec)) for spec in model.inputs] == [("word", "BYTES [-1]")]
    found = model.infer({"word": np.array([b"ab", b"c"], dtype=object)})
    assert found["upper"].tolist() == [b"AB", b"C"]


def test_a_saved_model_that_reads_files_is_refused(load, tmp_path, keras):
    import tensorflow as tf

    class Reads(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([], tf.string)])
        def __call__(self, path):
            return {"content": tf.io.read_file(path)}

    tf.saved_model.save(Reads(), str(tmp_path / "m"), signatures=Reads().__call__)
    assert "reach out of the model: ReadFile" in refused(load, tmp_path / "m")
    assert load(tmp_path / "m", trust=True).max_batch_size is None


def test_names_the_signatures_there_are(load, tmp_path, keras):
    import tensorflow as tf

    class One(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32)])
        def __call__(self, x):
            return {"y": x}

    tf.saved_model.save(One(), str(tmp_path / "m"), signatures={"only": One().__call__})
    assert load(tmp_path / "m").outputs[0].name == "y"
    assert "has no signature 'other'; it has only" in refused(
        load, tmp_path / "m", signature="other"
    )


# JAX


@pytest.fixture(scope="module")
def jax():
    return pytest.importorskip("jax")


def test_an_exported_function_answers_as_jax_does(load, tmp_path, jax, digits):
    import jax.numpy as jnp

    # One step of least squares is a model, too.
    table = digits.train_images.reshape(-1, 64)
    weights = jnp.linalg.lstsq(table, jax.nn.one_hot(digits.train_labels, 10))[0]
    function = jax.jit(lambda image: {"scores": image.reshape(-1, 64) @ weights})
    (batch,) = jax.export.symbolic_shape("batch")
    shape = jax.ShapeDtypeStruct((batch, 8, 8), jnp.float32)
    (tmp_path / "m.jax").write_bytes(jax.export.export(function)(image=shape).serialize())
    model = load(tmp_path / "m.jax")
    assert [(spec.name, str(spec)) for spec in model.inputs] == [("image", "FP32 [-1, 8, 8]")]
    assert model.max_batch_size == 64
    found = model.infer({"image": digits.images})["scores"]
    assert found.shape == (50, 10), "50 rows, computed as 64"
    expected = function(image=digits.images)["scores"]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    assert (found.argmax(axis=1) == digits.labels).mean() > 0.8


def test_jax_says_what_a_damaged_file_is(load, tmp_path, jax):
    (tmp_path / "m.jax").write_bytes(b"\0" * 64)
    assert "can't read it" in refused(load, tmp_path / "m.jax")


# What isn't a model: what it is, the name, the bytes, what is said.
NO_MODELS = [
    ("text", "m.pt", b"hello", "neither a zip nor a pickle"),
    ("a damaged zip", "m.pt2", b"PK\x03\x04" + b"\0" * 40, "damaged zip"),
    ("no HDF5", "m.h5", b"hello", "isn't an HDF5 file"),
    ("no zip", "m.keras", b"hello", "isn't a zip"),
    ("another suffix", "m.txt", b"hello", "doesn't end in .onnx"),
]


@pytest.mark.parametrize(("what", "name", "data", "said"), NO_MODELS, ids=[r[0] for r in NO_MODELS])
def test_tells_what_is_no_model(load, tmp_path, what, name, data, said):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UnknownFormat, match=said):
        format_of(tmp_path / name)
    assert said in refused(load, tmp_path / name)


def test_a_folder_that_holds_no_model_is_told(load, tmp_path):
    assert "no saved_model.pb" in refused(load, tmp_path)


def test_a_file_that_is_not_there_is_told(load, tmp_path):
    assert "can't be read: No such file" in refused(load, tmp_path / "m.onnx")
