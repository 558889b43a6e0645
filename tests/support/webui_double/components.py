"""As much of gradio 3.41 and of the WebUI's own components as a panel needs. Stricter than gradio about arguments."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType, TracebackType
from typing import Any, ClassVar, get_type_hints

COMMON = {"value", "label", "info", "elem_id", "visible"}


class Component:
    takes: frozenset[str] = frozenset()
    created: ClassVar[list[Component]] = []

    def __init__(self, value: object = None, **given: object) -> None:
        unknown = given.keys() - COMMON - self.takes
        assert not unknown, f"{type(self).__name__} takes no {unknown}"
        self.value, self.label, self.elem_id = value, None, None
        vars(self).update(given)
        self.created.append(self)

    def listen(self, fn: Callable[..., Any] | None, **given: object) -> Component:
        """Any event: what is called in Python, or in the browser."""
        unknown = given.keys() - {"inputs", "outputs", "_js", "queue", "show_progress"}
        assert not unknown, f"no event takes {unknown}"
        if fn is not None:
            get_type_hints(fn)  # gradio evaluates them
        self.listeners = [*getattr(self, "listeners", []), (fn, given)]
        return self

    change = input = blur = submit = upload = clear = then = select = listen

    def __enter__(self) -> Component:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        pass


def kind(name: str, *takes: str) -> type[Component]:
    """A component with its own arguments."""
    return type(name, (Component,), {"takes": frozenset(takes)})


Checkbox, Textbox = kind("Checkbox"), kind("Textbox")
Row, Column, HTML = (kind(name, "elem_classes") for name in ("Row", "Column", "HTML"))
Accordion = kind("Accordion", "open", "elem_classes")
CheckboxGroup = kind("CheckboxGroup", "choices")
Radio = kind("Radio", "choices")
Image = kind("Image", "type", "image_mode", "elem_classes", "height")
Gallery = kind("Gallery", "columns", "height")
Video = kind("Video", "source", "height")
File = kind("File", "file_types", "elem_classes")
Number = kind("Number", "minimum", "maximum", "step", "precision")
Slider = kind("Slider", "minimum", "maximum", "step")
Dropdown = kind("Dropdown", "choices", "multiselect", "type", "allow_custom_value")


class Button(Component):
    takes = frozenset({"elem_classes", "size"})

    def click(self, fn: Callable[..., Any] | None, **given: object) -> Component:
        self.press = fn
        return self.listen(fn, **given)


class InputAccordion(Checkbox):
    """modules.ui_components: a hidden checkbox beside the accordion that is seen."""

    def __init__(self, value: bool, *, elem_id: str, **given: object) -> None:
        super().__init__(value, **given, elem_id=f"{elem_id}-checkbox", visible=False)
        self.accordion = Accordion(**given, elem_id=elem_id, elem_classes=["input-accordion"], open=value)


class SelectData:
    """What an event says about what was selected."""


class Error(Exception):
    """Which the page shows."""


def update(**given: object) -> dict[str, object]:
    return {**given, "__type__": "update"}


def create_refresh_button(
    component: Component, method: Callable[[], None], refreshed: Callable[[], dict[str, object]], elem_id: str
) -> Button:
    """modules.ui_common: a press changes the component here and answers the browser with the same."""

    def refresh() -> dict[str, object]:
        method()
        changes = refreshed()
        vars(component).update(changes)
        return update(**changes)

    button = Button("refresh", elem_id=elem_id)
    button.click(fn=refresh, inputs=[], outputs=[component])
    return button


def gradio() -> ModuleType:
    Component.created.clear()
    module = ModuleType("gradio")
    vars(module).update({made.__name__: made for made in Component.__subclasses__()})
    module.update, module.Error, module.SelectData = update, Error, SelectData
    return module
