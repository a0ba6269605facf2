# SPDX-License-Identifier: Apache-2.0
"""What JupyterHub's database must say for a session that wakes with the tokens it slept with.

A restored session holds the API token and the OAuth client secret (the same string) of its first
start. The Hub makes new ones for every start and then, seeing that the spawner has gone back to the
old token, mends most of it. Left to do:

- It updates the OAuth client without its scopes, which ends every login to the running server.
- A start that fails, or a Hub that dies in the middle, leaves the unused token behind, and the
  client with a secret that the session does not know.

All functions are synchronous and commit: the Hub's database session is shared by everything that
runs in its event loop, and nothing may wait with half a change in it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from jupyterhub import orm
from jupyterhub.utils import hash_token, url_escape_path, url_path_join
from sqlalchemy import inspect


def database(spawner: Any) -> Any:
    return inspect(spawner.orm_spawner).session


def client_scopes(spawner: Any) -> list[str]:
    """The scopes that the Hub has given the server's OAuth client."""
    client = spawner.orm_spawner.oauth_client
    return list(client.allowed_scopes or []) if client is not None else []


def mend_client(spawner: Any, token: str, scopes: Iterable[str]) -> None:
    """Makes the server's OAuth client the one that the session knows."""
    db = database(spawner)
    client = (
        db.query(orm.OAuthClient).filter_by(identifier=spawner.oauth_client_id).one_or_none()
    )
    if client is None:
        return
    client.secret = hash_token(token)
    client.allowed_scopes = sorted(set(scopes))
    client.description = f"Server at {_base_url(spawner)}"
    db.commit()


def keep_only(spawner: Any, token: str) -> int:
    """Revokes all of this server's own API tokens but one ("": none is kept). Returns how many.

    Tokens that the user made, and those of browsers, are not the server's own.
    """
    db = database(spawner)
    kept = orm.APIToken.find(db, token) if token else None
    notes = (f"Server at {_base_url(spawner)}", f"retrieved from spawner {spawner.name}")
    leftovers = (
        db.query(orm.APIToken)
        .filter_by(user_id=spawner.user.orm_user.id, client_id="jupyterhub")
        .filter(orm.APIToken.note.in_(notes))
        .all()
    )
    gone = [leftover for leftover in leftovers if leftover is not kept]
    for leftover in gone:
        db.delete(leftover)
    db.commit()
    return len(gone)


def forget_option(spawner: Any, names: Iterable[str]) -> None:
    """Takes options out of those that the Hub keeps for the next start."""
    kept = dict(spawner.orm_spawner.user_options or {})
    if not any(kept.pop(name, None) is not None for name in list(names)):
        return
    spawner.orm_spawner.user_options = kept
    database(spawner).commit()


def _base_url(spawner: Any) -> str:
    # As User.spawn() makes it.
    return url_path_join(spawner.user.base_url, url_escape_path(spawner.name)) + "/"
