"""Runs a command and kills its process group when standard input closes, so that no server outlives the tests."""

import os
import signal
import subprocess
import sys
import threading


def main(command: list) -> None:
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    threading.Thread(target=lambda: os._exit(child.wait() & 0xFF), daemon=True).start()
    # not through sys.stdin: its lock would be held by this thread when the other one ends the process
    while os.read(0, 1024):
        pass
    if hasattr(os, "killpg"):
        os.killpg(os.getpgid(0), signal.SIGKILL)
    child.kill()


if __name__ == "__main__":
    main(sys.argv[1:])
