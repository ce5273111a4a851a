"""Tokens and certificates of a store that is served are replaced without an outage."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from pathlib import Path

import pytest

from controlplane.domain.errors import ConfigError
from controlplane.domain.objects import Report
from controlplane.store.contract import ControllerStore, StoreDenied
from controlplane.store.file.store import FileStore
from controlplane.store.http.client import HttpStore
from controlplane.store.http.credentials import Credentials, CredentialsInUse
from controlplane.store.http.server import ServeConfig, Serving, serve
from controlplane.store.open import open_agent_store, renew_agent_stores
from tests.unit.controlplane.store.conftest import TOKEN, opened, write_token
from tests.unit.controlplane.store.helpers import certificate

NEW = "another-token-of-tests-9876543210"


def allowed(serving: Serving, token: str, ca: Path | None = None) -> bool:
    store = HttpStore(serving.url, token, ca)
    try:
        store.kinds()
    except StoreDenied:
        return False
    finally:
        store.close()
    return True


def test_both_tokens_are_accepted_during_a_rotation_and_the_old_one_not_after(
    served: tuple[ControllerStore, Serving], tmp_path: Path, held: ExitStack
) -> None:
    _, serving = served
    config = ServeConfig("127.0.0.1", 0, tmp_path / "token")
    lasting = opened(held, serving.url)
    assert (allowed(serving, TOKEN), allowed(serving, NEW)) == (True, False)

    write_token(tmp_path, f"{NEW}\n{TOKEN}")
    serving.credentials.use(config.credentials())
    assert (allowed(serving, TOKEN), allowed(serving, NEW)) == (True, True)
    assert lasting.kinds() == {}

    write_token(tmp_path, NEW)
    serving.credentials.use(config.credentials())
    assert (allowed(serving, TOKEN), allowed(serving, NEW)) == (False, True)
    with pytest.raises(StoreDenied):
        lasting.kinds()  # an open connection is no way around the new token


@pytest.mark.parametrize("given", ["", "Bearer", "Bearer ", "Bearer new-1old-1", "Bearer \u00fc"])
def test_a_header_without_a_whole_token_is_refused(given: str) -> None:
    assert not CredentialsInUse(Credentials(("new-1", "old-1"))).accepts(given)


def test_an_agent_asks_with_the_first_token_and_takes_a_new_one(
    served: tuple[ControllerStore, Serving], tmp_path: Path
) -> None:
    store, serving = served
    folder = tmp_path / "agent"
    folder.mkdir()
    token_file = write_token(folder, f"{TOKEN}\n{NEW}")
    agent = open_agent_store(serving.url, token_file)
    agent.report(Report("alpha", "b", 1, 0.0))
    waiting = threading.Thread(target=agent.wait, args=({}, 0.5))
    waiting.start()

    write_token(folder, "no token at all")
    with pytest.raises(ConfigError, match="token_file"):
        renew_agent_stores([agent], token_file, None)
    agent.report(Report("alpha", "b", 2, 0.0))

    write_token(folder, NEW)
    renew_agent_stores([agent], token_file, None)
    with pytest.raises(StoreDenied, match="check token_file"):
        agent.report(Report("alpha", "b", 3, 0.0))
    serving.credentials.use(Credentials((NEW,)))
    agent.report(Report("alpha", "b", 4, 0.0))
    waiting.join()
    agent.close()
    assert store.reports()["alpha"].sequence == 4


def test_new_connections_get_the_new_certificate(tmp_path: Path, held: ExitStack) -> None:
    (tmp_path / "new").mkdir()
    old, old_key = certificate(tmp_path)
    new, new_key = certificate(tmp_path / "new")
    token_file = write_token(tmp_path)
    config = ServeConfig("127.0.0.1", 0, token_file, old, old_key)
    with serve(FileStore(tmp_path / "store"), config) as serving:
        agent = opened(held, serving.url, ca=old)
        assert agent.kinds() == {}
        old.write_bytes(new.read_bytes())
        with pytest.raises(ConfigError, match="private_key"):
            config.credentials()  # the certificate is new, its key is not yet
        assert agent.kinds() == {}
        old_key.write_bytes(new_key.read_bytes())
        serving.credentials.use(config.credentials())
        assert agent.kinds() == {}, "an open connection goes on"
        assert allowed(serving, TOKEN, new)
        renew_agent_stores([agent], token_file, new)
        assert agent.kinds() == {}
        with pytest.raises(ConfigError, match="restart"):
            serving.credentials.use(Credentials((TOKEN,)))
        (tmp_path / "third").mkdir()
        assert not allowed(serving, TOKEN, certificate(tmp_path / "third")[0])
