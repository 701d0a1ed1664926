"""API keys of the HTTP API, each for one organization: shown once when created, stored as hashes in one file.

As soon as the file holds a key, even a revoked one, the API requires one, until it is started again without any. A key
is `ue_<id>_<secret>`; the secret has 256 random bits, so its SHA-256 is enough. The file is read at each request, and
each second of an export: revoking takes effect at once.

The file of keys and the allow list close a server (`is_closed`): one that vanishes while the server runs opens nothing.
"""

from __future__ import annotations

import errno
import hashlib
import hmac
import json
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any
from uuid import UUID

from usage_explore.db.locks import locked
from usage_explore.decimals import rfc3339
from usage_explore.errors import ConfigurationError
from usage_explore.formatting import path_text
from usage_explore.query import validators
from usage_explore.results.whole_file import make_folder

_PREFIX = "ue"
_MAX_LOCK_SECONDS = 10
"""Time to wait for another process that writes the file."""

_NO_DIGEST = hashlib.sha256(b"").hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A stored key, without its secret. `created` and `revoked` are RFC 3339 times."""

    id: str
    name: str
    organization_id: UUID
    digest: str
    created: str
    revoked: str | None = None


@dataclass(frozen=True, slots=True)
class Keyring:
    """The keys in one file, which need not exist yet."""

    path: Path

    @property
    def required(self) -> bool:
        """Whether there are keys, revoked ones included, or were since the process began. Raises as `listed`."""
        return is_closed(self.path, bool(self.listed()))

    def listed(self) -> tuple[Key, ...]:
        """Every key, revoked ones included, oldest first.

        Raises `ConfigurationError` if the file cannot be read: a damaged file grants no access.
        """
        try:
            entries = json.loads(regular_text(self.path))["keys"]
            return tuple(Key(**{**entry, "organization_id": UUID(entry["organization_id"])}) for entry in entries)
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise ConfigurationError(f"keys: {path_text(self.path)} cannot be read ({error.strerror})") from error
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise ConfigurationError(
                f"keys: {path_text(self.path)} is damaged; restore it, or remove it and make new keys"
            ) from error

    def create(self, organization_id: UUID, name: str) -> str:
        """Create a key for one organization and return its text, which is not stored."""
        key_id, secret = secrets.token_hex(4), secrets.token_urlsafe(32)
        text = f"{_PREFIX}_{key_id}_{secret}"
        key = Key(
            id=key_id,
            name=name,
            organization_id=organization_id,
            digest=_digest(text),
            created=rfc3339(datetime.now(UTC).replace(microsecond=0)),
        )
        with self._changing() as keys:
            keys.append(key)
        return text

    def revoke(self, key_id: str) -> Key:
        """Revoke a key and return it. Raises `ConfigurationError` for an unknown id."""
        with self._changing() as keys:
            for place, key in enumerate(keys):
                if key.id == key_id:
                    keys[place] = replace(key, revoked=key.revoked or rfc3339(datetime.now(UTC).replace(microsecond=0)))
                    return keys[place]
        raise ConfigurationError(
            f"key: there is no {validators.shorten(key_id)}; `usage-explore keys list` shows the ids"
        )

    def find(self, text: str) -> Key | None:
        """The valid key with this text, or None. Takes the same time for every wrong text."""
        return self.look(text)[0]

    def look(self, text: str) -> tuple[Key | None, str | None]:
        """The key as from `find`, and the id in the text if a key has that id."""
        parts = text.split("_", 2)
        key_id = parts[1] if len(parts) == 3 else ""
        known = next((key for key in self.listed() if key.id == key_id), None)
        matches = hmac.compare_digest(_digest(text), known.digest if known else _NO_DIGEST)
        valid = known if known and matches and known.revoked is None else None
        return valid, known.id if known else None

    @contextmanager
    def _changing(self) -> Iterator[list[Key]]:
        """The keys, to change in place; then written atomically, for the owner only, by one process at a time."""
        try:
            make_folder(self.path.parent)
            with locked(self.path.with_suffix(".lock"), _MAX_LOCK_SECONDS):
                keys = list(self.listed())
                yield keys
                part = self.path.with_suffix(".part")
                part.unlink(missing_ok=True)  # what a process that died left, or a link
                with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                    json.dump({"keys": [_entry(key) for key in keys]}, file, indent=2)
                    file.flush()
                    os.fsync(file.fileno())
                    _give(file, self.path if self.path.exists() else self.path.parent)
                part.replace(self.path)
        except TimeoutError as error:
            raise ConfigurationError(f"keys: {error}; end that process, then try again") from error
        except OSError as error:
            raise ConfigurationError(f"keys: {path_text(self.path)} cannot be written ({error.strerror})") from error


def _give(file: IO[Any], like: Path) -> None:
    """Give a file to the owner of another if this is root, so that the keys of a service stay its own."""
    if os.geteuid() == 0:
        owner = like.lstat()
        os.fchown(file.fileno(), owner.st_uid, owner.st_gid)


def _entry(key: Key) -> dict[str, Any]:
    return {**asdict(key), "organization_id": str(key.organization_id)}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def regular_text(path: Path) -> str:
    """The UTF-8 text of a file. Raises `OSError` also for a pipe, of which reading would wait for a writer."""
    with open(path, encoding="utf-8", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "it is no regular file")
        return file.read()


def open_to_all(path: Path) -> str:
    """A warning if every user of this machine may write the file, or replace it, and so give access; "" otherwise."""
    with suppress(OSError):
        file, folder = path.stat(), path.absolute().parent.stat()
        is_own = file.st_uid in (0, os.geteuid())
        is_replaceable = folder.st_mode & stat.S_IWOTH and not (folder.st_mode & stat.S_ISVTX and is_own)
        if file.st_mode & stat.S_IWOTH or is_replaceable:
            which = "its folder" if is_replaceable else "it"
            return (
                f"every user of this machine can change {path_text(path)}, which says who has access; run chmod o-w on"
                f" {which}"
            )
    return ""


_SEEN: set[Path] = set()
"""The files that were there since the process began; paths only, the same for all of its users."""


def is_closed(path: Path, now: bool) -> bool:
    """Whether a file closes the server: `now` says that it is there and does so, and once it did it always does."""
    if now:
        _SEEN.add(path.absolute())
    return now or path.absolute() in _SEEN
