"""Registers AnimateDiff with the WebUI. It contains no logic, which is in `lib_animatediff.hosts.webui`."""

import sys

# The WebUI keeps imported packages over "Reload UI", and another extension may own these top-level names.
for name in [name for name in sys.modules if name.partition(".")[0] in ("motion_module", "lib_animatediff")]:
    del sys.modules[name]

from modules import script_callbacks, scripts

try:
    from lib_animatediff.hosts.webui.compat import a1111
    from lib_animatediff.hosts.webui.hooks.script import AnimateDiffScript, before_denoising
    from lib_animatediff.hosts.webui.output import api, gallery
    from lib_animatediff.hosts.webui.ui import axes, options

    registrations = [
        (script_callbacks.on_ui_settings, options.register),
        (script_callbacks.on_before_ui, axes.register),
        (script_callbacks.on_app_started, api.add_routes),
        (script_callbacks.on_cfg_denoiser, before_denoising),
        (script_callbacks.on_before_image_saved, gallery.convert_palette_to_rgb),
        (a1111.before_hidden_infotext, gallery.convert_palette_to_rgb),
        (script_callbacks.on_image_saved, gallery.save_full_animation),
    ]
except Exception as error:  # in a program that lacks a name which the extension uses
    from lib_animatediff.hosts.webui.unavailable import unavailable

    AnimateDiffScript = unavailable(scripts.Script, scripts.AlwaysVisible, error)  # type: ignore
    registrations = []

for register, callback in registrations:
    register(callback)
