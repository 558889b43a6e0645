"""Where the tests of a real WebUI find what they need."""

from __future__ import annotations

import os
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[3]
TROUBLE = REPOSITORY / "tests" / "support" / "webui_real" / "trouble_extension"
AXE = REPOSITORY / ".venv" / "axe" / "node_modules" / "axe-core" / "axe.min.js"
NOT_STARTED = "WEBUI_DIR is not set: the real WebUI was not started, so nothing here is proven"


def webui_python(webui_dir: Path) -> Path:
    given = os.environ.get("WEBUI_PYTHON")
    if given:
        return Path(given)
    candidates = (webui_dir / "venv" / "bin" / "python", webui_dir / "venv" / "Scripts" / "python.exe")
    return next((path for path in candidates if path.exists()), Path(sys.executable))
