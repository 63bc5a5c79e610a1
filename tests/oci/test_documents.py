"""Configs, manifests, indexes and images: what they say, byte for byte."""

import json
from typing import Any

import jsonschema
import pytest
from oci_samples import image_of

from dockyard.errors import ImageError
from dockyard.oci.config import Healthcheck, History, ImageConfig
from dockyard.oci.descriptor import DOCKER_LAYER_GZIP, DOCKER_MANIFEST, OCI_LAYER_ZSTD, Descriptor
from dockyard.oci.digest import Digest
from dockyard.oci.documents import canonical, parse
from dockyard.oci.image import Image, read_image
from dockyard.oci.layer import BytesBlob, Layer
from dockyard.oci.manifest import Index, Manifest
from dockyard.oci.platform import Platform
from image_schemas import validate

FULL = ImageConfig(
    platform=Platform("linux", "arm64"),
    created="2024-05-06T07:08:09Z",
    author="Ada",
    user="10001:10001",
    env={"PATH": "/opt/venv/bin:/usr/bin", "EMPTY": "", "EQUALS": "a=b=c"},
    entrypoint=("/opt/venv/bin/python",),
    cmd=("-m", "app"),
    working_dir="/app",
    exposed_ports=("8080/tcp", "9000/udp"),
    volumes=("/data",),
    labels={"b": "2", "a": "ü"},
    stop_signal="SIGINT",
    healthcheck=Healthcheck(
        test=("CMD", "true"), interval=30, timeout=1.5, start_period=60, retries=3
    ),
    shell=("/bin/sh", "-c"),
)


def some_layer(number: int = 1, media_type: str = "application/vnd.oci.image.layer.v1.tar+gzip"):
    data = f"layer {number}".encode()
    return Layer(
        descriptor=Descriptor(media_type=media_type, digest=Digest.of(data), size=len(data)),
        diff_id=Digest.of(b"tar of " + data),
        uncompressed_size=None,
        blob=BytesBlob(data=data),
        created_by=f"step {number}",
    )


def test_documents_fit_the_schemas_of_the_specification() -> None:
    image = image_of(some_layer(1), some_layer(2), config=FULL)
    validate("config", image.config_bytes)
    validate("manifest", image.manifest_bytes)
    validate("index", Index(manifests=(image.descriptor,)).to_bytes())
    validate("config", ImageConfig().to_bytes())
    with pytest.raises(jsonschema.ValidationError):
        validate("config", b'{"architecture": "amd64", "os": "linux", "rootfs": {"type": "x"}}')
    with pytest.raises(jsonschema.ValidationError):
        validate("manifest", image.manifest_bytes.replace(b"sha256:", b""))


def test_a_config_says_what_docker_reads() -> None:
    value = json.loads(FULL.to_bytes())
    assert value["architecture"] == "arm64"
    assert value["created"] == "2024-05-06T07:08:09Z"
    assert value["config"] == {
        "User": "10001:10001",
        "Env": ["PATH=/opt/venv/bin:/usr/bin", "EMPTY=", "EQUALS=a=b=c"],
        "Entrypoint": ["/opt/venv/bin/python"],
        "Cmd": ["-m", "app"],
        "WorkingDir": "/app",
        "ExposedPorts": {"8080/tcp": {}, "9000/udp": {}},
        "Volumes": {"/data": {}},
        "Labels": {"a": "ü", "b": "2"},
        "StopSignal": "SIGINT",
        "Shell": ["/bin/sh", "-c"],
        "Healthcheck": {
            "Test": ["CMD", "true"],
            "Interval": 30_000_000_000,
            "Timeout": 1_500_000_000,
            "StartPeriod": 60_000_000_000,
            "Retries": 3,
        },
    }


def test_a_config_survives_being_written_and_read() -> None:
    config = image_of(some_layer(1), config=FULL).config
    assert ImageConfig.from_bytes(config.to_bytes(), where="x") == config
    assert config.history == (History(created_by="step 1", created="1980-01-01T00:00:00Z"),)


def test_fields_that_nobody_here_knows_are_kept() -> None:
    value = json.loads(FULL.to_bytes()) | {"variant": "v8", "os.features": ["x"]}
    value["config"]["ArgsEscaped"] = True
    config = ImageConfig.from_bytes(canonical(value), where="x")
    assert json.loads(config.to_bytes()) == value


def test_canonical_bytes_do_not_depend_on_the_order_of_keys() -> None:
    assert canonical({"b": [1, {"d": 1, "c": "ü"}], "a": None}) == (
        '{"a":null,"b":[1,{"c":"ü","d":1}]}'.encode()
    )


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "valid JSON"),
        (b"[]", "JSON object"),
        (b'{"a": 1, "a": 2}', "twice"),
        (b"\xff", "valid JSON"),
        (b"[" * 100_000, "valid JSON"),
        (b" " * (4 << 20) + b"{}", "4 MiB"),
    ],
    ids=["empty", "array", "duplicate key", "not UTF-8", "too deep", "too large"],
)
def test_refuses_what_is_no_document(data: bytes, message: str) -> None:
    with pytest.raises(ImageError, match=message) as caught:
        parse(data, where="doc")
    assert caught.value.where == "doc"


@pytest.mark.parametrize(
    "change",
    [
        {"rootfs": None},
        {"rootfs": {"type": "tree", "diff_ids": []}},
        {"rootfs": {"type": "layers", "diff_ids": ["md5:1"]}},
        {"config": "x"},
        {"config": {"Env": 7}},
        {"config": {"Env": [7]}},
        {"config": {"Healthcheck": "x"}},
        {"config": {"Healthcheck": {"Interval": "1s"}}},
        {"history": [7]},
    ],
    ids=str,
)
def test_refuses_a_config_that_breaks_the_specification(change: dict[str, Any]) -> None:
    value = json.loads(FULL.to_bytes()) | change
    with pytest.raises(ImageError):
        ImageConfig.from_bytes(canonical(value), where="x")
    for key in ("os", "architecture", "rootfs"):
        broken = json.loads(FULL.to_bytes())
        del broken[key]
        with pytest.raises(ImageError, match="breaks the specification"):
            ImageConfig.from_bytes(canonical(broken), where="x")


@pytest.mark.parametrize(
    "text",
    [
        '{"schemaVersion":1,"layers":[]}',
        '{"schemaVersion":2}',
        '{"schemaVersion":2,"layers":[]}',
        '{"schemaVersion":2,"layers":[{}],"config":{}}',
        '{"schemaVersion":2,"layers":[],"manifests":[],"config":{}}',
        '{"schemaVersion":2,"layers":[],"config":{"mediaType":"a","digest":"sha256:1","size":1}}',
    ],
)
def test_refuses_a_manifest_that_breaks_the_specification(text: str) -> None:
    with pytest.raises(ImageError):
        Manifest.from_bytes(text.encode(), where="x")


def test_appending_leaves_the_image_below_as_it_was() -> None:
    base = image_of(some_layer(1))
    before = base.digest
    above = base.append(some_layer(2), comment="more")
    assert base.digest == before
    assert len(base.layers) == 1
    assert above.config.diff_ids == (some_layer(1).diff_id, some_layer(2).diff_id)
    assert [entry.comment for entry in above.config.history] == ["", "more"]
    assert above.size == base.size + some_layer(2).descriptor.size
    assert above.manifest.config.digest == above.id


def test_an_image_that_was_read_keeps_its_bytes_until_it_is_changed() -> None:
    made = image_of(some_layer(1), config=FULL)
    config = json.dumps(json.loads(made.config_bytes), indent=3).encode()
    value = json.loads(made.manifest_bytes)
    value["config"] |= {"digest": str(Digest.of(config)), "size": len(config)}
    manifest = json.dumps(value, indent=1).encode()
    read = read_image(manifest, config, lambda d: some_layer(1).blob, where="x")
    assert read.digest == Digest.of(manifest)
    assert read.id == Digest.of(config)
    changed = read.append(some_layer(2))
    assert changed.manifest_bytes == made.append(some_layer(2)).manifest_bytes


def test_refuses_an_image_whose_documents_disagree() -> None:
    made = image_of(some_layer(1), some_layer(2))
    other = image_of(some_layer(1))
    with pytest.raises(ImageError, match="isn't the one"):
        read_image(made.manifest_bytes, other.config_bytes, lambda d: some_layer().blob, where="x")
    fewer = Manifest(config=made.manifest.config, layers=made.manifest.layers[:1])
    with pytest.raises(ImageError, match="1 layers, the configuration 2"):
        read_image(fewer.to_bytes(), made.config_bytes, lambda d: some_layer().blob, where="x")


def test_layers_on_a_docker_base_get_docker_media_types_and_no_zstd() -> None:
    image = Image(config=ImageConfig(), family=DOCKER_MANIFEST).append(some_layer(1))
    assert [layer.media_type for layer in image.manifest.layers] == [DOCKER_LAYER_GZIP]
    with pytest.raises(ImageError, match="zstd"):
        image.append(some_layer(2, OCI_LAYER_ZSTD))


def test_a_base_without_history_stays_without() -> None:
    bare = ImageConfig(diff_ids=(Digest.of(b"x"),))
    assert bare.with_layer(Digest.of(b"y"), History(created_by="y")).history == ()


def test_an_index_is_asked_by_platform() -> None:
    def entry(name: str, architecture: str | None) -> Descriptor:
        platform = None if architecture is None else {"os": "linux", "architecture": architecture}
        return Descriptor(
            media_type="a/b", digest=Digest.of(name.encode()), size=1, platform=platform
        )

    amd, arm, any_ = entry("1", "amd64"), entry("2", "arm64"), entry("3", None)
    assert Index(manifests=(amd, arm)).select(Platform("linux", "arm64")) == (arm,)
    assert Index(manifests=(amd, any_)).select(Platform("linux", "arm64")) == (any_,)
    assert Index(manifests=(amd,)).select(Platform("linux", "arm64")) == ()
