"""`lbctl check --against`: what a running controller would do with a file on a reload."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

from controlplane.controller.settings import SettingsFile
from controlplane.domain.errors import ConfigError
from controlplane.domain.store_url import FILE_SCHEME, directory_of, file_url, is_file
from controlplane.publish.published import Published
from controlplane.store.contract import StoreUnavailable
from controlplane.store.open import open_controller_store


def findings_against(file: Path, store: str) -> tuple[Sequence[str], Sequence[str]]:
    """Return the mistakes that a reload would refuse, and notes on what it would change.

    ``store`` is ``file:DIR`` or a directory.

    Raises:
        ConfigError: the file itself is wrong, or this is not a controller's store.
        StoreUnavailable: there is no store.

    """
    if "://" in store:
        raise ConfigError(f"--against {store}: name the controller's store, {FILE_SCHEME}DIR")
    directory = (directory_of(store) if is_file(store) else Path(store)).absolute()
    if not (directory / "documents").is_dir():  # opening a store would create it
        raise StoreUnavailable(
            f"there is no store {directory}: run this where lbctl control runs, which creates it"
        )
    url = file_url(directory)
    with closing(open_controller_store(url)) as opened:
        published = Published(opened)
        published.refresh()
    found = SettingsFile(file).preview(url, published.cluster)
    return found.faults, [*found.notes, *_notes(found.changed, found.needs_restart)]


def _notes(changed: str, needs_restart: Sequence[str]) -> Iterator[str]:
    if changed:
        yield f"a reload changes: {changed}"
    if needs_restart:
        yield f"a restart is needed for: {', '.join(needs_restart)}"
