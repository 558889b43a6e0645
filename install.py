"""Run by the WebUI when it starts: installs missing libraries, and keeps installed ones in any version.

The WebUI pins the versions of these libraries for all its extensions. If none is missing, the network is not used.
"""

import launch

REQUIREMENTS = {
    "einops": "einops>=0.4.1",
    "safetensors": "safetensors>=0.4.2",
    "PIL": "pillow>=9.5",
    "av": "av>=12",
}

for module, requirement in REQUIREMENTS.items():
    if not launch.is_installed(module):
        launch.run_pip(f'install "{requirement}"', f"{requirement} for AnimateDiff")
