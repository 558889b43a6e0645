"""`python -m lib_animatediff`."""

from lib_animatediff.standalone.cli import main

main()
