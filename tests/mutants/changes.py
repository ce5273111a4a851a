"""Makes a mutant's changes in a tree of files: each ``old`` must be in its file exactly once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import itemgetter
from pathlib import Path

from tests.mutants.catalogue import Change, Mutant


class MismatchError(Exception):
    """The changes cannot be made in this tree."""


def apply_changes(tree: Path, changes: Sequence[Change]) -> None:
    """Write the changed files.

    Raises:
        MismatchError: an ``old`` does not match exactly once; nothing was written.

    """
    for path, text in changed_files(tree, changes).items():
        path.write_text(text, encoding="utf-8")


def mismatches(tree: Path, mutants: Iterable[Mutant]) -> dict[str, str]:
    """Return which mutants' changes cannot be made in a tree, and why; changes nothing."""
    found = {}
    for mutant in mutants:
        try:
            changed_files(tree, mutant.changes)
        except MismatchError as error:
            found[mutant.name] = str(error)
    return found


def changed_files(tree: Path, changes: Sequence[Change]) -> dict[Path, str]:
    """Return the text of each changed file. All positions are found before anything is replaced.

    Raises:
        MismatchError: an ``old`` does not match exactly once, two overlap, or a file is not in the
            tree.

    """
    files: dict[str, list[Change]] = {}
    for change in changes:
        files.setdefault(change.file, []).append(change)
    return {_path_of(tree, file): _changed_text(tree / file, own) for file, own in files.items()}


def _path_of(tree: Path, file: str) -> Path:
    path = tree / file
    if not path.resolve().is_relative_to(tree.resolve()):
        raise MismatchError(f"{file} is outside the tree")
    if not path.is_file():
        raise MismatchError(f"{file} does not exist")
    return path


def _changed_text(path: Path, changes: Sequence[Change]) -> str:
    text = path.read_text(encoding="utf-8")
    parts, done = [], 0
    for start, change in sorted(
        ((_position(text, change), change) for change in changes), key=itemgetter(0)
    ):
        if start < done:
            raise MismatchError(f"two changes of {change.file} overlap")
        parts += [text[done:start], change.new]
        done = start + len(change.old)
    return "".join([*parts, text[done:]])


def _position(text: str, change: Change) -> int:
    first = text.find(change.old)
    shown = change.old.strip().partition("\n")[0]
    if first < 0:
        raise MismatchError(f"`old` is not in {change.file}: {shown}")
    if text.find(change.old, first + 1) >= 0:
        raise MismatchError(f"`old` is in {change.file} more than once: {shown}")
    return first
