"""How fast is splicing a wheel into a layer, against what any way of doing it must at least do?

    python bench/splice.py --wheel PATH [--wheel PATH…] [--repeat N] [--no-gzip] [--json FILE]

Measured in one run, in turns, on each wheel; the best of N turns counts, since other work on the
machine can only slow a turn down:
- floor: a plain loop in one thread that inflates every file and hashes it with SHA-256. Whoever
  wants the diff ID of a layer does at least this.
- splice: `pack_layer`, which also checks CRC-32 and RECORD's SHA-256 of every file, compresses
  headers and small files, hashes the compressed layer and writes the recipe.
- replay: streaming the layer's bytes again from its recipe.
- gzip -6: compressing the same tar with the gzip program (once: it is the slow one).

Without --wheel, pip downloads numpy and scipy and they are measured.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isal import isal_zlib

from dockyard.cache import Cache
from dockyard.files import DeflatedSource, with_parents
from dockyard.oci.layer import Layer, PackedLayer, RecipeBlob, pack_layer
from dockyard.oci.unpack import tar_chunks
from dockyard.wheels.install import Venv, install_wheel

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dockyard.files import FileEntry

_PIECE = 256 << 10
_CHUNK = 1 << 20


def main() -> None:
    """Measure, print a table, and write the numbers if asked."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--wheel", action="append", type=Path, default=[])
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--no-gzip", action="store_true", help="leave gzip -6 out")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        wheels = options.wheel or download(["numpy", "scipy"], Path(folder))
        rows = [
            measure(wheel.absolute(), Path(folder), options.repeat, gzip=not options.no_gzip)
            for wheel in wheels
        ]
    print("| wheel | files MB | floor s | splice s | splice/floor speed | replay s | gzip -6 s |")
    print("|---|---|---|---|---|---|---|")
    for row in rows:
        print(
            f"| {row['wheel']} | {row['size'] / 1e6:.0f} | {row['floor']:.2f} | "
            f"{row['splice']:.2f} | {row['floor'] / row['splice']:.0%} | {row['replay']:.2f} | "
            + (
                f"{row['gzip']:.1f} ({row['gzip'] / row['splice']:.0f}×) |"
                if row["gzip"]
                else "– |"
            )
        )
    print(f"peak memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


def measure(wheel: Path, folder: Path, repeat: int, *, gzip: bool) -> dict[str, Any]:
    """Measure one wheel; sizes in bytes, times in seconds."""
    entries = with_parents(install_wheel(wheel, Venv(), requested=True).entries)
    cache = Cache(folder / "cache")
    packed: list[PackedLayer] = []
    times: dict[str, list[float]] = {"floor": [], "splice": [], "replay": []}
    for _ in range(repeat):
        times["floor"].append(timed(lambda: inflate_and_hash(entries)))
        times["splice"].append(timed(lambda: packed.append(pack_layer(entries, cache=cache))))
        times["replay"].append(timed(lambda: replay(packed[-1])))
    layer = packed[-1]
    assert len({one.descriptor.digest for one in packed}) == 1
    row: dict[str, Any] = {name: min(values) for name, values in times.items()}
    return row | {
        "wheel": wheel.name,
        "wheel_size": wheel.stat().st_size,
        "layer_size": layer.descriptor.size,
        "size": sum(entry.size for entry in entries),
        "cores": os.cpu_count(),
        "turns": times,
        "gzip": timed(lambda: recompress(layer)) if gzip else None,
    }


def timed(work: Callable[[], object]) -> float:
    """Seconds that work takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def inflate_and_hash(entries: Sequence[FileEntry]) -> str:
    """The floor: one thread, one hash, no checks."""
    state = hashlib.sha256()
    with contextlib.ExitStack() as stack:
        files: dict[Path, int] = {}
        for entry in entries:
            source = entry.source
            if not isinstance(source, DeflatedSource):
                for data in source.chunks() if source is not None else ():
                    state.update(data)
                continue
            if source.path not in files:
                files[source.path] = stack.enter_context(source.path.open("rb")).fileno()
            offset, end = source.offset, source.offset + source.compressed_size
            inflater: Any = isal_zlib.decompressobj(wbits=-15)
            raw = b""
            while not inflater.eof:
                if not raw:
                    raw = os.pread(files[source.path], min(_PIECE, end - offset), offset)
                    offset += len(raw)
                state.update(inflater.decompress(raw, _CHUNK))
                raw = inflater.unconsumed_tail
    return state.hexdigest()


def replay(packed: PackedLayer) -> None:
    """Stream the layer to nowhere."""
    assert packed.recipe is not None
    with Path(os.devnull).open("wb", buffering=0) as sink:
        for chunk in packed.recipe.chunks(Path):
            sink.write(chunk)


def recompress(packed: PackedLayer) -> None:
    """Compress the layer's tar with gzip -6."""
    assert packed.recipe is not None
    layer = Layer(
        descriptor=packed.descriptor,
        diff_id=packed.diff_id,
        uncompressed_size=packed.uncompressed_size,
        blob=RecipeBlob(recipe=packed.recipe, locate=Path),
    )
    with subprocess.Popen(
        ["gzip", "-6"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
    ) as process:
        assert process.stdin is not None
        for chunk in tar_chunks(layer):
            process.stdin.write(chunk)


def download(names: Sequence[str], folder: Path) -> list[Path]:
    """Wheels of these packages, as pip is configured."""
    target = folder / "wheels"
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:"]
    subprocess.run([*command, "-d", target, *names], check=True)
    return sorted(target.glob("*.whl"))


if __name__ == "__main__":
    main()
