"""Fingerprints of clips: proof that a change of the code changes no byte of what it makes.

`python -m tools.fingerprints render OUT.json` renders a fixed set of requests and keeps the SHA-256 of every frame,
every text and every file. `python -m tools.fingerprints compare BEFORE.json AFTER.json` says what differs. Render both
on the same machine with the same libraries: other versions of torch or FFmpeg compute other bytes.

What differs between runs of the same code is replaced in the texts by the rules in `prints`. The package's version is
set to a fixed one meanwhile.

Each host is a module that has `NAMES`, the names of its requests, and `render(names)`, which yields a name and a
`Fingerprint` at a time:

- `core`: `inject` on small UNets, without a pipeline; also the kinds of motion module that no small checkpoint fits.
- `cli`: the command `animate`, in this process, with the built-in model and a small random one.
- `double`: the WebUI's script on the double of the WebUI in tests/support.
- `webui`: the script in a real WebUI, through its API. It needs WEBUI_DIR.

What moves in the code base is imported in these modules only.
"""
