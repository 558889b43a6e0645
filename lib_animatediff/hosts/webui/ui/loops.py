"""The choices of the panel's field "Loop": each stands for a closed loop and for reverse."""

from __future__ import annotations

from lib_animatediff.request.settings.table import FIRM_LOOP, NO_LOOP

LOOPS = {"Off": (NO_LOOP, False), "Seamless": (FIRM_LOOP, False), "Back and forth": (NO_LOOP, True)}
CUSTOM = "Custom (Advanced)"  # any other pair of the two settings
