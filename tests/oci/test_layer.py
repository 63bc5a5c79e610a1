"""Packing layers: what comes out is what went in, to the byte, and wrong input doesn't."""

import errno
import gzip
import hashlib
import io
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import threading
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import zstandard
from oci_samples import CONTENTS, as_layer, noise, sample_entries, text, zip_sources

from dockyard.cache import Cache
from dockyard.errors import CacheError, DockyardError, FileTreeError, ImageError
from dockyard.files import (
    DeflatedSource,
    FileEntry,
    SliceSource,
    directory_entry,
    file_entry,
    with_parents,
)
from dockyard.oci.layer import BlobFile, Layer, PackedLayer, pack_layer
from dockyard.oci.recipe import LITERAL, SLICE, STORED, Recipe
from dockyard.oci.splice import CompressedSide
from dockyard.oci.tar import MTIME


def blob_of(packed: PackedLayer, cache: Cache) -> bytes:
    return b"".join(as_layer(packed, cache).blob.chunks())


def test_tarfile_and_gzip_read_back_what_was_packed(
    sample: tuple[Layer, dict[str, bytes]],
) -> None:
    layer, contents = sample
    blob = b"".join(layer.blob.chunks())
    tar = gzip.decompress(blob)
    assert hashlib.sha256(blob).hexdigest() == layer.descriptor.digest.hex
    assert len(blob) == layer.descriptor.size
    assert hashlib.sha256(tar).hexdigest() == layer.diff_id.hex
    assert len(tar) == layer.uncompressed_size
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        members = {member.name: member for member in archive}
        read = {
            name: archive.extractfile(member).read()  # type: ignore[union-attr]
            for name, member in members.items()
            if member.isfile()
        }
    assert read == contents
    assert members["bin"].linkname == "usr/bin"
    assert members["opt/long-link"].linkname == "../" + "y" * 150
    assert members["opt/ünï-link"].linkname == "ünïcödé/✓.txt"
    assert members["opt/lib/big.so"].mode == 0o755
    assert members["opt/lib"].isdir()
    assert {(m.uid, m.gid, m.uname, m.gname, m.mtime) for m in members.values()} == {
        (0, 0, "", "", MTIME)
    }


def test_the_gzip_program_accepts_a_spliced_layer(
    sample: tuple[Layer, dict[str, bytes]], tmp_path: Path
) -> None:
    path = tmp_path / "layer.tar.gz"
    path.write_bytes(b"".join(sample[0].blob.chunks()))
    subprocess.run(["gzip", "-t", path], check=True)
    listing = subprocess.run(["tar", "tzf", path], check=True, capture_output=True).stdout
    assert b"opt/lib/big.so\n" in listing


def test_a_deflated_file_is_in_the_layer_as_it_was_in_the_wheel(
    tmp_path: Path, cache: Cache
) -> None:
    source = zip_sources(tmp_path / "a.whl", {"a": CONTENTS["big.so"]})["a"]
    assert isinstance(source, DeflatedSource)
    raw = source.path.read_bytes()[source.offset :][: source.compressed_size]
    packed = pack_layer([FileEntry(path="a", source=source)], cache=cache)
    assert raw in blob_of(packed, cache)
    assert packed.recipe is not None
    assert len(packed.recipe.literals) < 1000


def test_an_incompressible_file_is_stored_and_taken_from_its_archive_again(
    tmp_path: Path, cache: Cache
) -> None:
    data = noise(3_000_000)
    (tmp_path / "model.bin").write_bytes(data)
    entry = FileEntry(path="model.bin", source=SliceSource(tmp_path / "model.bin", len(data)))
    packed = pack_layer([entry], cache=cache)
    assert packed.recipe is not None
    assert [step.kind for step in packed.recipe.steps] == [LITERAL, STORED, LITERAL]
    assert packed.descriptor.size < len(data) + 1000
    assert gzip.decompress(blob_of(packed, cache))[512:][: len(data)] == data


def test_a_long_compressible_file_is_compressed(tmp_path: Path, cache: Cache) -> None:
    data = text(2_500_000)
    (tmp_path / "words").write_bytes(data)
    entry = FileEntry(path="words", source=SliceSource(tmp_path / "words", len(data)))
    packed = pack_layer([entry], cache=cache)
    assert packed.recipe is None
    assert packed.descriptor.size < len(data) / 2
    assert gzip.decompress(blob_of(packed, cache))[512:][: len(data)] == data


def test_files_whose_archive_has_no_name_are_kept_whole(tmp_path: Path, cache: Cache) -> None:
    source = zip_sources(tmp_path / "a.whl", {"a": CONTENTS["big.so"]})["a"]
    entries = [FileEntry(path="a", source=source)]
    named = pack_layer(entries, cache=cache)
    kept = pack_layer(entries, cache=cache, archive=lambda path: None)
    assert kept.recipe is None
    assert kept.descriptor == named.descriptor
    (tmp_path / "a.whl").unlink()
    assert hashlib.sha256(blob_of(kept, cache)).hexdigest() == kept.descriptor.digest.hex


def test_the_compressed_bytes_also_go_to_out(tmp_path: Path, cache: Cache) -> None:
    out = io.BytesIO()
    packed = pack_layer(sample_entries(tmp_path)[0], cache=cache, out=out)
    assert hashlib.sha256(out.getvalue()).hexdigest() == packed.descriptor.digest.hex


def test_progress_counts_each_byte_of_content_once(tmp_path: Path, cache: Cache) -> None:
    entries, contents = sample_entries(tmp_path)
    amounts: list[int] = []
    packed = pack_layer(entries, cache=cache, advance=amounts.append)
    assert sum(amounts) == sum(map(len, contents.values()))
    assert set(packed.files) == set(contents) | {"bin", "opt/long-link", "opt/ünï-link"}


def test_an_empty_layer_is_two_zero_blocks(cache: Cache) -> None:
    packed = pack_layer([], cache=cache)
    assert gzip.decompress(blob_of(packed, cache)) == bytes(1024)
    assert str(packed.diff_id) == (
        "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"
    )


def test_a_zstd_layer_holds_the_same_tar(tmp_path: Path, cache: Cache) -> None:
    entries, _ = sample_entries(tmp_path)
    spliced = pack_layer(entries, cache=cache)
    packed = pack_layer(entries, cache=cache, compression="zstd")
    blob = blob_of(packed, cache)
    assert packed.recipe is None
    assert packed.diff_id == spliced.diff_id
    assert packed.descriptor.media_type.endswith("+zstd")
    reader = zstandard.ZstdDecompressor().stream_reader(blob, read_across_frames=True)
    assert hashlib.sha256(reader.read()).hexdigest() == packed.diff_id.hex


# Determinism ---------------------------------------------------------------------------------

# Any change here is a new LAYOUT_VERSION: layers packed before would no longer be shared.
GZIP_DIGEST = "sha256:75b90ae137ad2b5ad7fa2e44d84f14f588e3c41b02b8cb54c73c02979456cc04"
ZSTD_DIGEST = "sha256:bd0b95eaeab8acb6693c93531d00daf0b88cba8de23cc55e7ed7ca6a6f2773b5"

SCRIPT = """
import sys
from pathlib import Path
from dockyard.cache import Cache
from dockyard.oci.layer import pack_layer
from oci_samples import sample_entries
folder = Path(sys.argv[1])
entries, _ = sample_entries(folder)
for compression in ("gzip", "zstd"):
    print(pack_layer(entries, cache=Cache(folder / "c"), compression=compression).descriptor.digest)
"""


@pytest.mark.parametrize(
    "environment",
    [
        {"TZ": "Pacific/Kiritimati", "PYTHONHASHSEED": "1", "LC_ALL": "C"},
        {"TZ": "America/St_Johns", "PYTHONHASHSEED": "2", "LC_ALL": "C.UTF-8", "LANG": "de_DE"},
    ],
)
def test_other_folders_zones_locales_umasks_and_hash_seeds_give_the_same_digest(
    environment: dict[str, str], tmp_path: Path
) -> None:
    folder = tmp_path / environment["PYTHONHASHSEED"]
    folder.mkdir()
    output = subprocess.run(
        [sys.executable, "-c", SCRIPT, folder],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parent), **environment},
        cwd=folder,
        umask=0o077 if environment["PYTHONHASHSEED"] == "1" else 0o002,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert output.split() == [GZIP_DIGEST, ZSTD_DIGEST]


def test_another_processor_gives_the_same_digest(tmp_path: Path) -> None:
    """An emulated one from 2008, without AVX, BMI or SHA instructions: no SIMD path is shared."""
    emulator = shutil.which("qemu-x86_64")
    if emulator is None or platform.machine() != "x86_64":
        pytest.skip("qemu-x86_64 (Debian's qemu-user) isn't installed")
    output = subprocess.run(
        [emulator, "-cpu", "Nehalem", sys.executable, "-c", SCRIPT, tmp_path],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert output.split() == [GZIP_DIGEST, ZSTD_DIGEST]


def test_how_a_source_is_chunked_changes_nothing(cache: Cache) -> None:
    data = text(3_000_000)

    class Drops:
        size = len(data)

        def chunks(self) -> Iterator[bytes]:
            step = 99_991
            return (data[start : start + step] for start in range(0, len(data), step))

    whole = pack_layer([file_entry("a", data)], cache=cache)
    drops = pack_layer([FileEntry(path="a", source=Drops())], cache=cache)
    assert drops.descriptor == whole.descriptor


# Bad input -----------------------------------------------------------------------------------


def deflated(path: Path, data: bytes, **changes: Any) -> DeflatedSource:
    """A deflated file in an archive of its own, with something wrong."""
    stream = zlib.compressobj(wbits=-15)
    raw = stream.compress(data) + stream.flush()
    path.write_bytes(b"PK" + raw + b"tail")
    source = DeflatedSource(path, 2, len(raw), len(data), zlib.crc32(data))
    return replace(source, **changes)


@pytest.mark.parametrize("data", [text(2000), text(200_000)], ids=["small", "spliced"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: {"crc32": s.crc32 ^ 1}, "CRC-32"),
        (lambda s: {"size": s.size - 1}, "declared size"),
        (lambda s: {"size": s.size + 1}, "declared size"),
        (lambda s: {"compressed_size": s.compressed_size - 9}, "declared size|ends early"),
        (lambda s: {"offset": 1 << 30}, "ends"),
        (lambda s: {"offset": s.offset - 1}, "DEFLATE|declared size|bytes after"),
        (lambda s: {"sha256": bytes(32)}, "SHA-256"),
        (lambda s: {"path": s.path.with_name("gone.whl")}, "No such file"),
    ],
    ids=["crc", "longer", "shorter", "truncated", "past the end", "shifted", "sha256", "absent"],
)
def test_refuses_a_damaged_wheel_file_by_name(
    data: bytes, change: Any, message: str, tmp_path: Path, cache: Cache
) -> None:
    good = deflated(tmp_path / "bad.whl", data)
    entry = FileEntry(path="opt/lib/module.py", source=replace(good, **change(good)))
    with pytest.raises(DockyardError, match=message) as caught:
        pack_layer(with_parents([entry]), cache=cache)
    assert "'opt/lib/module.py'" in str(caught.value)
    assert ".whl" in (caught.value.where or "")
    assert not list((cache.root / "blobs").rglob("?" * 64))
    assert not list((cache.root / "tmp").iterdir())


def test_a_zip_bomb_stops_at_its_declared_size(tmp_path: Path, cache: Cache) -> None:
    bomb = deflated(tmp_path / "bomb.whl", bytes(50_000_000), size=5_000_000)
    with pytest.raises(FileTreeError, match="more than its declared size"):
        pack_layer([FileEntry(path="bomb", source=bomb)], cache=cache)


def test_refuses_a_file_that_gives_other_than_its_declared_size(cache: Cache) -> None:
    class Liar:
        size = 100_000

        def __init__(self, real: int) -> None:
            self.real = real

        def chunks(self) -> Iterator[bytes]:
            yield bytes(self.real)

    for real in (99_999, 100_001):
        with pytest.raises(ImageError, match="declared 100000") as caught:
            pack_layer([FileEntry(path="liar", source=Liar(real))], cache=cache)
        assert caught.value.where == "liar"


def test_refuses_a_stored_file_with_another_hash_or_too_few_bytes(
    tmp_path: Path, cache: Cache
) -> None:
    (tmp_path / "file").write_bytes(noise(2_000_000))
    wrong = SliceSource(tmp_path / "file", 2_000_000, sha256=bytes(32))
    with pytest.raises(ImageError, match="SHA-256"):
        pack_layer([FileEntry(path="a", source=wrong)], cache=cache)
    short = SliceSource(tmp_path / "file", 2_000_001)
    with pytest.raises(FileTreeError, match="shorter"):
        pack_layer([FileEntry(path="a", source=short)], cache=cache)


def test_refuses_entries_that_are_unsorted_or_repeated(cache: Cache) -> None:
    for paths in (["b", "a"], ["a", "a"]):
        with pytest.raises(ImageError, match="out of order"):
            pack_layer([directory_entry(path) for path in paths], cache=cache)


def test_an_error_of_out_reaches_the_caller(tmp_path: Path, cache: Cache) -> None:
    class Full(io.BytesIO):
        def write(self, data: Any) -> int:
            raise BrokenPipeError("nobody reads")

    with pytest.raises(BrokenPipeError):
        pack_layer(sample_entries(tmp_path)[0], cache=cache, out=Full())


def test_a_full_disk_is_an_error_of_the_cache(
    tmp_path: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: object, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(CompressedSide, "literal", full)
    with pytest.raises(CacheError, match="No space left") as caught:
        pack_layer(sample_entries(tmp_path)[0], cache=cache)
    assert caught.value.where == str(cache.root)
    assert not list((cache.root / "tmp").iterdir())


def test_an_interrupted_pack_leaves_neither_threads_nor_files(tmp_path: Path, cache: Cache) -> None:
    def interrupt(amount: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pack_layer(sample_entries(tmp_path)[0], cache=cache, advance=interrupt)
    assert not [thread for thread in threading.enumerate() if "dockyard" in thread.name]
    assert not list((cache.root / "tmp").iterdir())
    assert not list((cache.root / "blobs").rglob("?" * 64))


# Recipes -------------------------------------------------------------------------------------


def test_a_recipe_survives_being_written_and_read(tmp_path: Path, cache: Cache) -> None:
    packed = pack_layer(sample_entries(tmp_path)[0], cache=cache)
    assert packed.recipe is not None
    data = cache.blob_path(packed.content).read_bytes()
    assert packed.recipe.to_bytes() == data
    for recipe in (Recipe.from_bytes(data), Recipe.open(cache.blob_path(packed.content))):
        assert recipe.size == packed.descriptor.size
        assert recipe.archives == (str(tmp_path / "sample.whl"),)
        assert {step.kind for step in recipe.steps} == {LITERAL, SLICE, STORED}
        replay = b"".join(recipe.chunks(Path))
        assert hashlib.sha256(replay).hexdigest() == packed.descriptor.digest.hex


def test_archives_are_named_as_the_caller_says(tmp_path: Path, cache: Cache) -> None:
    entries, _ = sample_entries(tmp_path)
    packed = pack_layer(entries, cache=cache, archive=lambda path: f"sha256-of-{path.stem}")
    assert packed.recipe is not None
    assert packed.recipe.archives == ("sha256-of-sample",)
    moved = (tmp_path / "sample.whl").rename(tmp_path / "moved.whl")
    replay = b"".join(packed.recipe.chunks(lambda name: moved))
    assert hashlib.sha256(replay).hexdigest() == packed.descriptor.digest.hex


def test_a_damaged_recipe_is_refused(tmp_path: Path, cache: Cache) -> None:
    packed = pack_layer(sample_entries(tmp_path)[0], cache=cache)
    data = cache.blob_path(packed.content).read_bytes()
    damaged = [b"", data[:-1], data[1:], data + b"\0", data[:1000]]
    for place in (0, len(data) // 2, len(data) - 60, len(data) - 20, len(data) - 1):
        damaged.append(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
    for bad in damaged:
        with pytest.raises(ImageError, match="recipe is damaged"):
            Recipe.from_bytes(bad)


def test_a_recipe_says_which_archive_is_gone_or_short(tmp_path: Path, cache: Cache) -> None:
    packed = pack_layer(sample_entries(tmp_path)[0], cache=cache)
    wheel = tmp_path / "sample.whl"
    os.truncate(wheel, 100_000)
    with pytest.raises(ImageError, match="shorter") as caught:
        list(as_layer(packed, cache).blob.chunks())
    assert caught.value.where == str(wheel)
    wheel.unlink()
    with pytest.raises(ImageError, match="can't be read"):
        list(as_layer(packed, cache).blob.chunks())


def test_a_blob_that_is_shorter_than_declared_is_refused(tmp_path: Path) -> None:
    (tmp_path / "blob").write_bytes(b"12345")
    assert b"".join(BlobFile(path=tmp_path / "blob", offset=1, size=3).chunks()) == b"234"
    with pytest.raises(ImageError, match="ends early"):
        list(BlobFile(path=tmp_path / "blob", size=6).chunks())
    with pytest.raises(ImageError, match="can't be read"):
        list(BlobFile(path=tmp_path / "no").chunks())


# Memory --------------------------------------------------------------------------------------

MEMORY_SCRIPT = """
import hashlib, resource, sys, zlib
from pathlib import Path
from dockyard.cache import Cache
from dockyard.files import DeflatedSource, FileEntry, SliceSource
from dockyard.oci.layer import pack_layer
folder, size = Path(sys.argv[1]), int(sys.argv[2]) << 20
piece = hashlib.shake_256(b"x").digest(1 << 19) + bytes(1 << 19)
stream, crc = zlib.compressobj(0, wbits=-15), 0
with (folder / "a").open("wb") as file:
    for _ in range(size >> 20):
        file.write(stream.compress(piece)); crc = zlib.crc32(piece, crc)
    file.write(stream.flush())
    packed_size = file.tell()
with (folder / "b").open("wb") as file:
    file.truncate(size)
entries = [
    FileEntry(path="a", source=DeflatedSource(folder / "a", 0, packed_size, size, crc)),
    FileEntry(path="b", source=SliceSource(folder / "b", size)),
]
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
packed = pack_layer(entries, cache=Cache(folder / "c"))
for chunk in packed.recipe.chunks(Path):
    pass
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_memory_does_not_grow_with_the_layer(tmp_path: Path) -> None:
    """300 MiB of two kinds of files pack in less than 100 MiB more than Python itself."""
    output = subprocess.run(
        [sys.executable, "-c", MEMORY_SCRIPT, tmp_path, "300"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert int(output) < 100_000


def test_sizes_over_four_and_eight_gibibytes_are_written_right(cache: Cache) -> None:
    """Only the header and the trailer know the size, so no such file is needed."""
    from dockyard.oci import gzip as members
    from dockyard.oci import tar

    class Huge:
        def __init__(self, size: int) -> None:
            self.size = size

        def chunks(self) -> Iterator[bytes]:
            raise NotImplementedError

    for size in (5 << 30, (8 << 30) - 1, 8 << 30, 20 << 30):
        head = tar.header(FileEntry(path="huge", source=Huge(size)))
        info = tarfile.TarFile(fileobj=io.BytesIO(head + bytes(1024))).next()
        assert info is not None
        assert (info.name, info.size) == ("huge", size)
        assert members.trailer(7, size)[4:] == (size % 2**32).to_bytes(4, "little")
