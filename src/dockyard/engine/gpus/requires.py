"""Whether an image's CUDA runs on a machine's driver, before anything is started.

Rules: as the NVIDIA Container Toolkit reads NVIDIA_REQUIRE_* (its user guide, "Constraints"):
each variable must hold; a space separates alternatives, a comma joins conditions. Conditions on
what the driver doesn't tell count as met: the engine asks again. NVIDIA_DISABLE_REQUIRE turns
all of it off.
"""

from __future__ import annotations

import operator
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from dockyard.engine.gpus.devices import Inventory

_CONDITION = re.compile(r"(cuda|driver|arch|brand)(>=|<=|!=|=|<|>)(.+)\Z")
_COMPARE: dict[str, Callable[[object, object], bool]] = {
    ">=": operator.ge,  # type: ignore[dict-item]
    "<=": operator.le,  # type: ignore[dict-item]
    ">": operator.gt,  # type: ignore[dict-item]
    "<": operator.lt,  # type: ignore[dict-item]
    "=": operator.eq,
    "!=": operator.ne,
}


def unmet_requirement(environment: Mapping[str, str], inventory: Inventory) -> str | None:
    """The first condition of an image's environment that this driver doesn't meet, or None."""
    if environment.get("NVIDIA_DISABLE_REQUIRE", "").lower() in ("1", "true", "yes", "y", "on"):
        return None
    for name, value in sorted(required(environment).items()):
        alternatives = value.split()
        if alternatives and not any(_holds(each, inventory) for each in alternatives):
            return f"{name}={value}"
    return None


def required(environment: Mapping[str, str]) -> dict[str, str]:
    """The requirements an image states: NVIDIA_REQUIRE_*, or the CUDA_VERSION of old images."""
    stated = {k: v for k, v in environment.items() if k.startswith("NVIDIA_REQUIRE_")}
    version = re.match(r"\d+\.\d+", environment.get("CUDA_VERSION", ""))
    if version and "NVIDIA_REQUIRE_CUDA" not in stated:
        stated["NVIDIA_REQUIRE_CUDA"] = f"cuda>={version[0]}"
    return stated


def _holds(alternative: str, inventory: Inventory) -> bool:
    return all(_condition_holds(each, inventory) for each in alternative.split(",") if each)


def _condition_holds(condition: str, inventory: Inventory) -> bool:
    match = _CONDITION.match(condition)
    if match is None:
        return True
    what, sign, value = match.groups()
    if what == "brand":
        brands = {gpu.brand for gpu in inventory.gpus} - {"", "unknown"}
        return not brands or any(_COMPARE[sign](brand, value) for brand in brands)
    if what == "arch":
        # The toolkit writes families too ("volta"), which no number answers.
        known = [gpu.compute_capability for gpu in inventory.gpus if gpu.compute_capability]
    else:
        known = [text for text in [getattr(inventory, what)] if text]
    wanted = _numbers(value)
    if not known or not wanted:
        return True
    return any(_COMPARE[sign](_numbers(text)[: len(wanted)], wanted) for text in known)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))
