"""The drawing process: vl-convert ends its whole process on some inputs, so it has its own.

Run by path, with the file number of a connection; it imports nothing else of the package. A request is two messages,
the form (`png`, `svg`) and the specification; a response is two more, `drawn` or `failed`, and the bytes. The process
ends when the connection closes, and by SIGALRM, which native code cannot delay, when a picture takes too long.
"""

import resource
import signal
import sys
from multiprocessing.connection import Connection

import vl_convert


def draw(form: bytes, spec: str) -> bytes:
    """The picture; PNG has two pixels for each of the specification's."""
    if form == b"svg":
        return vl_convert.vegalite_to_svg(spec).encode()
    return vl_convert.vegalite_to_png(spec, scale=2)


def main(file: int, seconds: int) -> None:
    """Draw the requested pictures, one after another, each within `seconds`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the server, after its running requests
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    connection: Connection[bytes, bytes] = Connection(file)
    while True:
        try:
            form, spec = connection.recv_bytes(), connection.recv_bytes().decode()
        except EOFError:
            return
        signal.alarm(seconds)
        try:
            outcome, body = b"drawn", draw(form, spec)
        except Exception as error:
            outcome, body = b"failed", str(error).encode(errors="replace")
        try:
            connection.send_bytes(outcome)
            connection.send_bytes(body)
        except OSError:  # the other end has gone
            return
        signal.alarm(0)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
