"""modules.scripts, of the double."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from support.webui_double.state import shared

if TYPE_CHECKING:
    from support.webui_double.double import Processing


AlwaysVisible = object()


class Script:
    args_from = args_to = 0
    infotext_fields = None

    def show(self, is_img2img: bool) -> Any:
        return AlwaysVisible

    def ui(self, is_img2img: bool) -> list[Any]:
        return []


class ScriptRunner:
    """Calls the scripts' hooks and, like the original, lets no exception out of them."""

    def __init__(self) -> None:
        self.alwayson_scripts: list[Script] = []
        self.inputs: list[Any] = [None]

    def add(self, script: Script, is_img2img: bool) -> None:
        assert script.show(is_img2img) is AlwaysVisible
        script.args_from = len(self.inputs)
        self.inputs += script.ui(is_img2img)
        script.args_to = len(self.inputs)
        self.alwayson_scripts.append(script)

    def arguments(self, *given: object) -> tuple[Any, ...]:
        """The first script's arguments as the API fills them: what was given, then the components' own values."""
        values = [getattr(component, "value", 0) for component in self.inputs]
        values[1 : 1 + len(given)] = given
        return tuple(values)

    def call(self, hook: str, p: Processing, *more: object, **named: object) -> None:
        for script in self.alwayson_scripts:
            method = getattr(script, hook, None)
            try:
                if method is not None:
                    method(p, *more, *p.script_args[script.args_from : script.args_to], **named)
            except Exception as error:
                shared.swallowed.append(error)
