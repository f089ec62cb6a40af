"""Which process of which machine wrote a file, and whether it still runs."""

import os
import re
import socket


def host_name() -> str:
    """Return the name of this machine.

    Returns:
        Letters, digits and underscores; "localhost" if the machine has no name.
    """
    return re.sub(r"\W", "", socket.gethostname()) or "localhost"


def is_other_process(process: int) -> bool:
    """Tell whether a process id belongs to another running process of this machine.

    In a container, a restarted program often has the same id again. What bears the id of this
    process, and was not written by it, was left by a former one.

    Args:
        process: Process id.

    Returns:
        False for this process and for ids without a process.
    """
    if process == os.getpid():
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
