"""`python -m lib_animatediff`."""

import importlib.util
import sys

if importlib.util.find_spec("click") is None or importlib.util.find_spec("diffusers") is None:
    sys.exit('The command line needs more libraries. Install them: pip install "lib-animatediff[cli]"')

from lib_animatediff.standalone.cli import main

main()
