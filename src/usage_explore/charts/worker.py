"""The process that draws. vl-convert ends its whole process on some inputs, so it has one of its own.

Run by its path, with the number of a connection's file: nothing else of the package is loaded. Each request is two
messages, the form and the specification, each answer two more, `drawn` or `failed` and the bytes. It ends when the
other end closes, and, by a signal that native code cannot hold up, when a picture takes too long.
"""

import resource
import signal
import sys
from multiprocessing.connection import Connection

import vl_convert


def draw(form: bytes, spec: str) -> bytes:
    """The picture: SVG as it is, PNG with twice the pixels."""
    if form == b"svg":
        return vl_convert.vegalite_to_svg(spec).encode()
    return vl_convert.vegalite_to_png(spec, scale=2)


def main(file: int, seconds: int) -> None:
    """Draw what is asked for, one picture after the other."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the server, which lets what runs end
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
        except OSError:  # nobody waits any more
            return
        signal.alarm(0)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
