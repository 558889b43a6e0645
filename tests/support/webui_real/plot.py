"""The X/Y/Z plot of the real WebUI, as a client asks for it."""

from __future__ import annotations

from support.webui_real.clips import Gif, animate, read_gif

PLOT = "X/Y/Z plot"
NOTHING = ("Nothing", "")
DRAW_LEGEND, KEEP_SEEDS, VARY_SEEDS, MARGIN, AS_TEXT = True, False, [False] * 3, 0, True
WITH_PICTURES, WITH_SUB_GRIDS = True, False


def axes(server) -> list[str]:
    """The labels of the plot's axes in txt2img, in order: a client names an axis by its number."""
    components = server.api("GET", "/config").json()["components"]
    properties = (component["props"] for component in components)
    (choices,) = (p["choices"] for p in properties if p.get("elem_id") == "script_txt2img_xyz_plot_x_type")
    return [choice[0] if isinstance(choice, list) else choice for choice in choices]


def plot(server, x: tuple[str, str], y: tuple[str, str] = NOTHING) -> dict:
    """A request for a grid."""
    labels = axes(server)
    chosen = [part for label, values in (x, y, NOTHING) for part in (labels.index(label), values, [])]
    labels_of_images = (
        [False, False, 0] if server.host.name == "reForge" else []
    )  # and whether, and how, to split grids
    options = [DRAW_LEGEND, *labels_of_images, WITH_PICTURES, WITH_SUB_GRIDS, KEEP_SEEDS, *VARY_SEEDS, MARGIN, AS_TEXT]
    return {"script_name": PLOT, "script_args": [*chosen, *options]}


def files(server) -> list:
    return sorted(server.outputs_dir.rglob("*.gif"), key=lambda path: path.stat().st_mtime_ns)


def grid_of(server, clip: dict, *along: tuple[str, str], **payload) -> tuple[dict, list[Gif]]:
    """The answer to a request for a grid along one or two axes, and its clips in order."""
    before = len(files(server))
    answer = animate(server, clip, **plot(server, *along), **payload)
    return answer, [read_gif(path.read_bytes()) for path in files(server)[before:]]
