"""`python -m lib_animatediff`."""

from lib_animatediff.standalone.entry import main

main()
