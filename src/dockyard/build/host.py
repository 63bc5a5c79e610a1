"""Which images' programs this host can run straight from their files.

Rules: only Linux and the host's own processor architecture; no emulation is ever relied on.
"""

from __future__ import annotations

import platform

# Architecture as images name it: the kernel's name, Debian's multiarch triplet, loaders.
MACHINES = {
    "amd64": ("x86_64", "x86_64-linux-gnu", ("ld-linux-x86-64.so.2", "ld-musl-x86_64.so.1")),
    "arm64": ("aarch64", "aarch64-linux-gnu", ("ld-linux-aarch64.so.1", "ld-musl-aarch64.so.1")),
}
ALIASES = {"x86_64": "amd64", "aarch64": "arm64", "AMD64": "amd64"}


def why_not_runnable(architecture: str) -> str | None:
    """Say why this host can't run a base of `architecture` ("amd64", "arm64"); None if it can."""
    wanted = ALIASES.get(architecture, architecture)
    if platform.system() != "Linux":
        return f"bytecode is made on Linux only, and this is {platform.system()}"
    here = ALIASES.get(platform.machine(), platform.machine())
    if wanted not in MACHINES:
        return f"bytecode isn't made for {architecture}"
    if wanted != here:
        return f"the image is for {wanted} and this host is {here}"
    return None
