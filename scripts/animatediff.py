"""Registers AnimateDiff with the WebUI. It holds no logic: everything is in `lib_animatediff.webui`."""

import sys

# The WebUI keeps imported packages over "Reload UI", and another extension may own these top-level names.
for name in [name for name in sys.modules if name.partition(".")[0] in ("motion_module", "lib_animatediff")]:
    del sys.modules[name]

from modules import script_callbacks

from lib_animatediff.webui import api, axes, gallery, options
from lib_animatediff.webui.script import AnimateDiffScript, before_denoising  # noqa: F401 - found here as a script

script_callbacks.on_ui_settings(options.register)
script_callbacks.on_before_ui(axes.register)
script_callbacks.on_app_started(api.add_routes)
script_callbacks.on_cfg_denoiser(before_denoising)
script_callbacks.on_before_image_saved(gallery.give_colours)
script_callbacks.on_image_saved(gallery.keep_the_whole_clip)
