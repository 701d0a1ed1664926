"""PostgreSQL servers that tests stop and fill, and a network between that tests cut."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
import threading
from pathlib import Path
from typing import Any, Literal

import httpx
import psycopg

from support.ports import free_port
from usage_explore.db import embedded

DATABASE = "postgres"


def address(*ports: int) -> str:
    """The URL of the servers at the ports."""
    return f"postgresql://postgres@{','.join(f'127.0.0.1:{port}' for port in ports)}/{DATABASE}"


class Server:
    """A PostgreSQL at a port of 127.0.0.1, its folders under `home`."""

    def __init__(self, home: Path, name: str = "data", **settings: str) -> None:
        self.home = home
        self.data = home / name
        self.account = embedded.account()
        self.port = free_port()
        self.settings = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "fsync": "off",
            "shared_buffers": "16MB",
            "autovacuum": "off",
            **settings,
        }

    @property
    def url(self) -> str:
        return address(self.port)

    def make(self) -> None:
        self._program(
            "initdb",
            *("--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"),
            *("--pgdata", self.folder(self.data.name).name),
        )

    def copy(self, name: str) -> Server:
        """A streaming replica of this server, not started."""
        replica = Server(self.home, name, **self.settings)
        self._program(
            "pg_basebackup", "-d", self.url, "-D", str(replica.folder(name)), "-R", "-X", "stream", "-c", "fast"
        )
        return replica

    def start(self) -> None:
        given = {**self.settings, "port": str(self.port)}
        words = " ".join(f"-c {name}='{value}'" for name, value in given.items())
        self._program("pg_ctl", "start", "-w", "-D", self.data.name, "-l", f"{self.data.name}/log", "-o", words)

    def stop(self, mode: Literal["fast", "immediate"] = "fast") -> None:
        self._program("pg_ctl", "stop", "-w", "-m", mode, "-D", self.data.name)

    def runs(self) -> bool:
        return (self.data / "postmaster.pid").exists()

    def end(self) -> None:
        if self.runs():
            self.stop("immediate")

    def folder(self, name: str) -> Path:
        """A folder that is the server's."""
        made = self.home / name
        made.mkdir(mode=0o700)
        if self.account:
            os.chown(made, self.account.pw_uid, self.account.pw_gid)
        return made

    def execute(self, *statements: str) -> Any:
        """Run statements as the superuser, each by itself; the last one's first value, None without rows."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            for statement in statements:
                cursor = connection.execute(statement)
            row = cursor.fetchone() if cursor.description else None
        return row and row[0]

    def _program(self, name: str, *arguments: str) -> None:
        assert (said := embedded.run(self.home, self.account, name, *arguments)) == "", said


class Network:
    """A port of 127.0.0.1 that leads to another one, until it is cut."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._ends: list[socket.socket] = []
        self._flows = threading.Event()
        self._flows.set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def swallow(self) -> None:
        """Let no byte through from now on, either way; everything stays open."""
        self._flows.clear()

    def mend(self) -> None:
        """Work again; connections from before are lost."""
        self.reset()
        self._flows.set()

    def reset(self) -> None:
        """Break every connection there is."""
        for each in self._ends:
            with contextlib.suppress(OSError):  # closed already
                each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            each.close()
        self._ends.clear()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.reset()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
                self._ends += [client, server]
                for one, other in ((client, server), (server, client)):
                    threading.Thread(target=self._carry, args=[one, other], daemon=True).start()

    def _carry(self, one: socket.socket, other: socket.socket) -> None:
        """Carry bytes until either end is closed, then close the other."""
        with contextlib.suppress(OSError, ValueError):
            while True:
                ready, _, _ = select.select([one], [], [], 0.05)
                if ready and self._flows.wait(0.05):
                    given = one.recv(65_536)
                    if not given:
                        break
                    other.sendall(given)
        one.close()
        other.close()


def refused(answer: httpx.Response, status: int = 503) -> str:
    """What a problem says in detail, checked to be one to come back from."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert status != 503 or int(answer.headers["retry-after"]) > 0
    detail = answer.json()["detail"]
    assert isinstance(detail, str)
    return detail
