"""A blob in pieces: every byte once, and the last only if all are right."""

import pytest

from dockyard.errors import ImageError
from dockyard.oci.descriptor import OCI_LAYER, Descriptor
from dockyard.oci.digest import Digest
from dockyard.oci.registry.reading import BlobReader

DATA = bytes(range(256)) * 40


class Chunked:
    """DATA, or other bytes, in chunks of a size, counted as they are read."""

    def __init__(self, size: int, data: bytes = DATA) -> None:
        self.size, self.data = size, data
        self.passes = 0

    def chunks(self):
        self.passes += 1
        for start in range(0, len(self.data), self.size):
            yield self.data[start : start + self.size]


DESCRIPTOR = Descriptor(media_type=OCI_LAYER, digest=Digest.of(DATA), size=len(DATA))


@pytest.mark.parametrize("chunk", [1, 7, 256, 1000, 4096, 100_000])
@pytest.mark.parametrize("piece", [1, 100, 4096, 10_239, 10_240])
def test_pieces_make_the_whole_in_one_pass(chunk: int, piece: int) -> None:
    blob = Chunked(chunk)
    reader = BlobReader(blob, DESCRIPTOR)
    found = b""
    while len(found) < len(DATA):
        found += b"".join(reader.read(len(found), min(piece, len(DATA) - len(found))))
    assert found == DATA
    assert blob.passes == 1


@pytest.mark.parametrize("start", [0, 1, 999, 10_000, 10_239, 10_240])
def test_what_lies_before_is_read_past(start: int) -> None:
    reader = BlobReader(Chunked(1000), DESCRIPTOR)
    assert b"".join(reader.read(start, len(DATA) - start)) == DATA[start:]


@pytest.mark.parametrize(
    "data",
    [DATA[:-1], DATA[:-1] + b"x", b"x" + DATA[1:], b"", b"x" + DATA],
    ids=["short", "last byte", "first byte", "empty", "long"],
)
@pytest.mark.parametrize("chunk", [1, 1000, 100_000])
def test_a_wrong_blob_is_never_given_to_its_end(data: bytes, chunk: int) -> None:
    given = b""
    with pytest.raises(ImageError, match="other bytes"):
        for piece in BlobReader(Chunked(chunk, data), DESCRIPTOR).read(0, len(DATA)):
            given += piece
    assert len(given) < len(DATA)


def test_an_empty_blob_has_nothing_to_give() -> None:
    empty = Descriptor(media_type=OCI_LAYER, digest=Digest.of(b""), size=0)
    assert list(BlobReader(Chunked(10, b""), empty).read(0, 0)) == []
