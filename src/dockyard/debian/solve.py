"""Choosing packages: what the asked-for ones need, down to the last library.

Rules (policy 7):
- Of several versions the highest wins, whichever archive has it.
- What is chosen already satisfies an alternative first; else the first alternative that exists,
  by its own name before a provider of it; providers in the order of their names.
- Recommends are not followed. Essential is not assumed: nothing runs dpkg here.
- The choice never goes back. Two chosen packages that conflict are an error, as is a dependency
  that a package of the base meets only in another version.
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass
from functools import cmp_to_key
from typing import TYPE_CHECKING

from dockyard.debian.control import Relation, compare
from dockyard.errors import DebianError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from dockyard.debian.index import Candidate, Index
    from dockyard.debian.package import DebianPackage

_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]*")  # policy 5.6.7
_UPGRADE = "Run `dockyard lock --upgrade`, so that base and packages are of one day."


@dataclass(frozen=True, slots=True)
class _Chosen:
    candidate: Candidate
    because: str


def solve(
    names: Iterable[str],
    index: Index,
    *,
    architecture: str,
    base: Sequence[DebianPackage] = (),
    excluded: Callable[[str, str], bool] = lambda asker, name: False,
) -> tuple[DebianPackage, ...]:
    """Return `names` and everything they need that `base` hasn't, sorted by name.

    excluded: says of (package, dependency) whether it is taken as met. Raises DebianError naming
    what can't be met, and what asked for it.
    """
    solver = _Solver(index, architecture, base, excluded)
    for name in names:
        solver.ask(name)
    solver.close()
    solver.check_conflicts()
    return tuple(
        chosen.candidate.package(chosen.because)
        for name, chosen in sorted(solver.chosen.items())
        if name not in solver.base
    )


class _Solver:
    def __init__(
        self,
        index: Index,
        architecture: str,
        base: Sequence[DebianPackage],
        excluded: Callable[[str, str], bool],
    ) -> None:
        self._index = index
        self._architecture = architecture
        self._excluded = excluded
        self._queue: deque[Candidate] = deque()
        self._provided: dict[str, list[tuple[str, str]]] = {}
        self.base = {package.name: package for package in base}
        self.chosen: dict[str, _Chosen] = {}
        for package in base:
            for candidate in self._index.named(package.name):
                if candidate.version == package.version:
                    # The stanza tells what the base provides and breaks; its needs are met.
                    self._remember(candidate, "the base")
                    break

    def ask(self, name: str) -> None:
        """Take a package that the user named."""
        if not _NAME.fullmatch(name):
            raise DebianError(
                f"{name!r} is no package name",
                hint="Write the bare name: the suite chooses the version, and the lock keeps it.",
            )
        if name in self.base or name in self.chosen:
            return
        relation = Relation(name)
        candidate = self._best(relation) or self._provider(relation)
        if candidate is None:
            near = self._index.near(name)
            raise DebianError(
                f"there is no package {name!r} for {self._architecture} in this suite",
                hint=f"Did you mean {' or '.join(near)}?"
                if near
                else "Look it up in Debian's package search; names differ between suites.",
            )
        self._choose(candidate, "")

    def close(self) -> None:
        """Choose until every dependency is met."""
        while self._queue:
            candidate = self._queue.popleft()
            for group in candidate.depends:
                if not any(self._is_met(relation, candidate.name) for relation in group):
                    self._meet(group, candidate)

    def check_conflicts(self) -> None:
        """Refuse two chosen packages of which one conflicts with, or breaks, the other."""
        for name, chosen in sorted(self.chosen.items()):
            for field in ("conflicts", "breaks"):
                for group in chosen.candidate.relations(field):
                    for relation in group:
                        for other, version in self._holders(relation.name):
                            if other != name and relation.accepts(version):
                                raise DebianError(
                                    f"{name} can't be installed beside {other} "
                                    f"({field.title()}: {relation})",
                                    hint="Ask for only one of them, or use your own base image.",
                                )

    def _is_met(self, relation: Relation, asker: str) -> bool:
        if self._excluded(asker, relation.name):
            return True
        return self._is_native(relation) and any(
            relation.accepts(version) for _, version in self._holders(relation.name)
        )

    def _is_native(self, relation: Relation) -> bool:
        return relation.qualifier in ("", "any", "native", self._architecture)

    def _holders(self, name: str) -> list[tuple[str, str]]:
        """Return (package, version) of the chosen packages that are, or provide, `name`."""
        found = list(self._provided.get(name, ()))
        if name in self.base:
            found.append((name, self.base[name].version))
        elif name in self.chosen:
            found.append((name, self.chosen[name].candidate.version))
        return found

    def _meet(self, group: Sequence[Relation], asker: Candidate) -> None:
        for relation in group:
            if not self._is_native(relation):
                continue
            if relation.name in self.base or relation.name in self.chosen:
                continue  # present in a version that doesn't do
            candidate = self._best(relation) or self._provider(relation)
            if candidate is not None:
                self._choose(candidate, asker.name)
                return
        wanted = " | ".join(str(relation) for relation in group)
        here = [
            f"{name} {version}"
            for relation in group
            for name, version in self._holders(relation.name)
        ]
        raise DebianError(
            f"{asker.name} {asker.version} needs {wanted}"
            + (f", but {here[0]} is chosen" if here else ", which isn't in this suite"),
            hint=_UPGRADE if here else "The mirror is incomplete; use another.",
        )

    def _best(self, relation: Relation) -> Candidate | None:
        fitting = [
            candidate
            for candidate in self._index.named(relation.name)
            if relation.accepts(candidate.version)
            and candidate.fields.get("architecture") in ("all", self._architecture)
        ]
        by_version = cmp_to_key(compare)
        return max(fitting, key=lambda found: by_version(found.version), default=None)

    def _provider(self, relation: Relation) -> Candidate | None:
        for name in self._index.providers(relation.name):
            candidate = self._best(Relation(name))
            if candidate is None or self._excluded("", name):
                continue
            for provided in candidate.provides:
                if provided.name == relation.name and relation.accepts(provided.version):
                    return candidate
        return None

    def _choose(self, candidate: Candidate, because: str) -> None:
        self._remember(candidate, because)
        self._queue.append(candidate)

    def _remember(self, candidate: Candidate, because: str) -> None:
        self.chosen[candidate.name] = _Chosen(candidate, because)
        for provided in candidate.provides:
            self._provided.setdefault(provided.name, []).append((candidate.name, provided.version))
