"""`python -m lib_animatediff`: says what is missing before anything that needs it is imported."""

from __future__ import annotations

import sys
from importlib.util import find_spec

NEEDED = ("click", "diffusers", "transformers", "accelerate")


def main() -> None:
    """Run the command line, or say how to install it."""
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        sys.exit(f'The command line needs {", ".join(missing)}. Install it: pip install "lib-animatediff[cli]"')
    from lib_animatediff.cli.main import main as run

    run()


if __name__ == "__main__":
    main()
