"""Run by the WebUI when it starts: adds what is missing and leaves alone what is there, whatever its version.

The WebUI pins the versions of these libraries for all its extensions. When nothing is missing, nothing is asked of the
network.
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
