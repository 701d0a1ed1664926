"""The `usage-explore` command, also as `python -m usage_explore`; a signal ends it even while it imports modules."""

import os
import signal
from types import FrameType


def main() -> None:
    """Run the command. Until it handles signals itself, nothing is open, and a signal ends the process at once."""
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _end)
    from usage_explore.cli.main import main as command

    command(prog_name="usage-explore")


def _end(number: int, frame: FrameType | None) -> None:
    os.write(2, b"Interrupted.\n")
    os._exit(128 + number)


if __name__ == "__main__":
    main()
