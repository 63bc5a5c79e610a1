"""Archives, entries and images to test with; made, small, and always the same."""

import hashlib
import random
import zipfile
import zlib
from pathlib import Path

import deflate

from dockyard.cache import Cache
from dockyard.files import (
    DeflatedSource,
    FileEntry,
    SliceSource,
    Source,
    file_entry,
    symlink_entry,
    with_parents,
)
from dockyard.oci.config import ImageConfig
from dockyard.oci.image import Image
from dockyard.oci.layer import BlobFile, Layer, PackedLayer, RecipeBlob


def noise(size: int, seed: int = 1) -> bytes:
    """Bytes that don't compress."""
    return random.Random(seed).randbytes(size)


def text(size: int, seed: int = 1) -> bytes:
    """Bytes that compress about as code does."""
    words = [b"import", b"torch", b"return", b"self", b"\n    ", b"def", b"(x):", b"0.125", b"#"]
    # The block is longer than DEFLATE's window, so that its repetition doesn't compress.
    block = b" ".join(random.Random(seed).choices(words, k=16_000))
    return (block * (size // len(block) + 1))[:size]


def zip_sources(path: Path, files: dict[str, tuple[bytes, int]]) -> dict[str, Source]:
    """Write files, as a zip would hold them, of name -> (content, method); return their sources.

    The streams are libdeflate's, so that they don't depend on this Python's zlib.
    """
    sources: dict[str, Source] = {}
    with path.open("wb") as file:
        for name, (data, method) in files.items():
            file.write(b"PK" + name.encode())
            sha256 = hashlib.sha256(data).digest()
            offset = file.tell()
            if method == zipfile.ZIP_STORED:
                file.write(data)
                sources[name] = SliceSource(path, len(data), offset, sha256)
            else:
                raw = deflate.deflate_compress(data, 6)
                file.write(raw)
                sources[name] = DeflatedSource(
                    path, offset, len(raw), len(data), zlib.crc32(data), sha256
                )
    return sources


CONTENTS: dict[str, tuple[bytes, int]] = {
    "big.so": (text(3_000_000, 2), zipfile.ZIP_DEFLATED),
    "zeros.bin": (bytes(2_500_000), zipfile.ZIP_DEFLATED),
    "noise.bin": (noise(1_500_001), zipfile.ZIP_STORED),
    "stored_text.txt": (text(1_400_000, 3), zipfile.ZIP_STORED),
    "deflated_noise.bin": (noise(200_000, 4), zipfile.ZIP_DEFLATED),
    "small.py": (text(900, 5), zipfile.ZIP_DEFLATED),
    "empty.py": (b"", zipfile.ZIP_DEFLATED),
    "empty_stored.py": (b"", zipfile.ZIP_STORED),
    "block.bin": (text(512, 6), zipfile.ZIP_DEFLATED),
    "edge.bin": (noise(1 << 20, 7), zipfile.ZIP_STORED),
}


def sample_entries(folder: Path) -> tuple[list[FileEntry], dict[str, bytes]]:
    """Entries of every kind, and what each regular file holds."""
    sources = zip_sources(folder / "sample.whl", CONTENTS)
    entries = [
        FileEntry(path=f"opt/lib/{name}", source=source, mode=0o755 if "so" in name else 0o644)
        for name, source in sources.items()
    ]
    contents = {f"opt/lib/{name}": data for name, (data, _) in CONTENTS.items()}
    made = {
        "etc/hello": b"hello\n",
        "etc/bytes-of-70k": noise(70_000, 8),
        "opt/" + "long-folder/" * 12 + "file.txt": b"prefix",
        "opt/" + "x" * 120: b"pax path",
        "opt/ünïcödé/✓.txt": b"pax unicode",
    }
    entries += [file_entry(path, data) for path, data in made.items()]
    entries += [
        symlink_entry("bin", "usr/bin"),
        symlink_entry("opt/long-link", "../" + "y" * 150),
        symlink_entry("opt/ünï-link", "ünïcödé/✓.txt"),
    ]
    return with_parents(entries), contents | made


def as_layer(packed: PackedLayer, cache: Cache, created_by: str = "test") -> Layer:
    """The layer, from what the cache keeps of it."""
    blob: BlobFile | RecipeBlob = BlobFile(path=cache.blob_path(packed.content))
    if packed.recipe is not None:
        blob = RecipeBlob(recipe=packed.recipe, locate=Path)
    return Layer(
        descriptor=packed.descriptor,
        diff_id=packed.diff_id,
        uncompressed_size=packed.uncompressed_size,
        blob=blob,
        created_by=created_by,
    )


def image_of(*layers: Layer, config: ImageConfig | None = None) -> Image:
    """An image of these layers."""
    image = Image(config=config or ImageConfig())
    for layer in layers:
        image = image.append(layer)
    return image
