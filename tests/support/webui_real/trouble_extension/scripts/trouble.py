"""A second extension for the end-to-end tests: makes trouble on request, tells what is in the model and what came out.

Commands come as the script's API argument, a dictionary:
    raise_at: {"layer": name of a module of the model, "call": how many calls go well before, "batch": from this one on}
    interrupt_at: the same, but an interrupt as by the button, in the middle of that call; /trouble/calls counts them
    nested: true - run a txt2img and an img2img of its own on each finished picture, as ADetailer and others do,
        with all scripts on them and AnimateDiff switched on
    wrap: "sample", "unet" or "denoiser" - put a wrapper of its own round it for this batch, which hands everything on;
        /trouble/wrapped counts its calls, and the wrapper comes off after ours
    rows: true - give each row of the batch a prompt of its own, as extensions with wildcards do
    levels: true - /trouble/levels tells of each call of the UNet the sampler's noise level and the timestep
    conditions: true - /trouble/conditions tells what text each call of the UNet is given, /trouble/inputs its latents
    reached: true - /trouble/reached tells the latents and embedded timesteps of each call, after what replaces them
    control: true - /trouble/control tells of each call of the UNet its latents, those of the denoiser, and for each row
        and each model of the ControlNet extension the grey of the hint that reached it; /trouble/acting tells how much
        each model acts on each row
    guided: true - /trouble/guided tells of each run of a SparseCtrl encoder its rows, timesteps, conditions and what it
        returns for skip connection 5, and then that connection of the UNet's call, without and with what was added;
        also the rays of each window that the encoder of a camera is given
    seeded: true - seed what has no seed in the WebUI, such as the draws of the encoder in image to image
    plainly: true - the denoiser lays its rows out plainly: a call for each part of the prompts, and one for uncond
"""

import gc
import hashlib
import io
import sys
from contextlib import ExitStack, closing

import gradio as gr
import integrated_control
import loaded_model
import numpy
import torch
from fastapi import Response
from modules import processing, prompt_parser, script_callbacks, scripts, shared
from modules.sd_hijack import model_hijack
from modules.sd_samplers_cfg_denoiser import CFGDenoiser

CFG_DENOISER_FORWARD = CFGDenoiser.forward

nested_pictures = []
decoded_batches = []
calls_until_interrupt = [0]
wrapped_calls = [0]
conditions_seen = []
inputs_seen = []
reached = []
calls_seen = {}
control_seen = []
acting_seen = []
levels_seen = []
guided_seen = []


class TroubleScript(scripts.Script):
    def title(self):
        return "Trouble"

    def show(self, is_img2img):
        return scripts.AlwaysVisible

    def ui(self, is_img2img):
        return [gr.Textbox(value="", visible=False, label="Trouble")]

    undo = ExitStack()  # of both tabs: what one request leaves is not to trouble the other tab's next one

    def process(self, p, command):
        self.undo.close()  # of a request that failed
        if not hasattr(p, "is_nested"):
            for seen_before in (decoded_batches, control_seen, conditions_seen, inputs_seen, levels_seen, reached):
                seen_before.clear()
            guided_seen.clear()
            acting_seen.clear()
        if isinstance(command, dict) and command.get("seeded"):
            torch.manual_seed(0)
        if isinstance(command, dict) and command.get("rows"):
            p.all_prompts = [f"{prompt}, {'red' if row else 'blue'}" for row, prompt in enumerate(p.all_prompts)]

    def process_batch(self, p, command, **kwargs):
        calls_seen["starts"] = [image.convert("L").getpixel((0, 0)) for image in getattr(p, "init_images", None) or []]
        TroubleScript.undo = ExitStack()
        command = command if isinstance(command, dict) else {}
        unet = loaded_model.unet()
        if command.get("plainly"):
            CFGDenoiser.forward = denoised_plainly

        if (where := command.get("raise_at")) and kwargs.get("batch_number", 0) >= where.get("batch", 0):
            calls = [0]

            def trip(module, inputs):
                calls[0] += 1
                if calls[0] > where["call"]:
                    handle.remove()
                    raise RuntimeError("trouble as ordered")

            handle = loaded_model.part(where["layer"]).register_forward_pre_hook(trip)
            self.undo.callback(handle.remove)

        for name, note in (("conditions", note_conditions), ("levels", note_level)):
            if command.get(name):
                self.undo.callback(unet.register_forward_pre_hook(note, with_kwargs=True).remove)

        if command.get("reached"):
            for layer in (unet.input_blocks[0][0], unet.time_embed):
                self.undo.callback(layer.register_forward_pre_hook(note_reached).remove)

        if command.get("guided"):
            watch_guides(unet, self.undo)

        if command.get("control"):
            integrated = loaded_model.objects() is not None
            integrated_control.watch(note_control, self.undo) if integrated else watch_control(p, unet, self.undo)

        if what := command.get("wrap"):
            wrapped_calls[0] = 0
            owners = {"sample": (p, "sample"), "unet": (unet, "forward"), "denoiser": (CFGDenoiser, "forward")}
            wrap(*owners[what])
            if what != "denoiser":
                self.undo.callback(delattr, *owners[what])

        if stop := command.get("interrupt_at"):
            calls_until_interrupt[0] = 0

            def interrupt(module, inputs):
                calls_until_interrupt[0] += 1
                if calls_until_interrupt[0] == stop["call"]:
                    shared.state.interrupt()

            self.undo.callback(loaded_model.part(stop["layer"]).register_forward_pre_hook(interrupt).remove)

    def process_before_every_sampling(self, p, *args, noise, **kwargs):
        calls_seen["noise"] = digest(noise[0])

    def postprocess_batch(self, p, command, images, **kwargs):
        self.undo.close()
        CFGDenoiser.forward = CFG_DENOISER_FORWARD
        if not hasattr(p, "is_nested"):
            decoded_batches.append(images.detach().cpu().float().numpy())

    def postprocess_image(self, p, pp, command):
        if not isinstance(command, dict) or not command.get("nested") or hasattr(p, "is_nested"):
            return
        arguments = {"prompt": p.prompt, "seed": 5, "steps": 2, "width": 64, "height": 64, "sampler_name": "Euler a"}
        text = processing.StableDiffusionProcessingTxt2Img(sd_model=shared.sd_model, **arguments)
        image = processing.StableDiffusionProcessingImg2Img(
            sd_model=shared.sd_model, init_images=[pp.image], denoising_strength=0.5, **arguments
        )
        for nested, runner in ((text, scripts.scripts_txt2img), (image, scripts.scripts_img2img)):
            nested.is_nested, nested.scripts, nested.script_args = True, runner, switched_on(runner)
            nested.do_not_save_samples = nested.do_not_save_grid = True
            with closing(nested):
                nested_pictures.append([picture.size for picture in processing.process_images(nested).images])


def switched_on(runner):
    """Every script's own values, AnimateDiff with a request for a clip."""
    values = [0, *(getattr(component, "value", None) for component in runner.inputs[1:])]
    for script in runner.alwayson_scripts:
        if script.title() == "AnimateDiff":
            values[script.args_from] = {"enable": True, "frames": 4}
    return tuple(values)


def wrap(owner, name):
    former = getattr(owner, name)

    def wrapper(*args, **kwargs):
        wrapped_calls[0] += 1
        return former(*args, **kwargs)

    setattr(owner, name, wrapper)


def denoised_plainly(self, x, sigma, uncond, cond, cond_scale, s_min_uncond, image_cond):
    """CFGDenoiser.forward as the formula says it, for prompts that all have the same number of parts."""
    conds_list, texts = prompt_parser.reconstruct_multicond_batch(cond, self.step)
    x, sigma, finished = loaded_model.at_level(self, x, sigma)

    def predicted(text):
        return loaded_model.denoised(self, x, sigma, text, image_cond)

    weights = [weight for _, weight in conds_list[0]]
    parts = [predicted(texts[[row[part][0] for row in conds_list]]) for part in range(len(weights))]
    is_skipped = self.step % 2 != loaded_model.begins_to_skip() and s_min_uncond > 0 and sigma[0] < s_min_uncond
    is_skipped = is_skipped or uncond is None  # in Forge at CFG 1
    base = loaded_model.without_uncond(parts[0])
    if not is_skipped:
        base = predicted(prompt_parser.reconstruct_cond_batch(uncond, self.step))
    scale = 1.0 if is_skipped else cond_scale
    self.sampler.last_latent = parts[0]
    self.step += 1
    return finished(base + sum(weight * scale * (part - base) for weight, part in zip(weights, parts, strict=True)))


def portrait():
    """One digest each of what an extension must leave as it was."""
    model, unet = loaded_model.whole(), loaded_model.unet()
    tensors, structure = hashlib.sha256(), hashlib.sha256(loaded_model.own_methods().encode())
    for key, tensor in model.state_dict().items():
        tensors.update(key.encode() + tensor.detach().cpu().float().numpy().tobytes())
    hooks = {}
    for name, module in model.named_modules():
        structure.update(f"{name} {type(module).__qualname__} {id(module)}".encode())
        structure.update(str(sorted(key for key in vars(module) if not key.startswith("network_"))).encode())
        structure.update(f"{module.forward.__qualname__}".encode())
        tables = [table for table in vars(module) if "hook" in table and isinstance(vars(module)[table], dict)]
        count = sum(len(vars(module)[table]) for table in tables)
        if count:
            hooks[loaded_model.name_of(name)] = count
    return {
        "tensors": tensors.hexdigest(),
        "structure": structure.hexdigest(),
        "hooks": hooks,
        "alphas": hashlib.sha256(loaded_model.alphas().cpu().float().numpy().tobytes()).hexdigest(),
        "dtypes": sorted({str(parameter.dtype) for parameter in unet.parameters()}),
        "lowvram": bool(getattr(model, "lowvram", False)),
        "attention": getattr(model_hijack, "optimization_method", None),
        "class": repr(sorted(vars(type(unet)))),
    }


def decoded():
    """All pictures of the last request before they were rounded: a NumPy file of float32, pictures first, 0 to 1."""
    buffer = io.BytesIO()
    numpy.save(buffer, numpy.concatenate(decoded_batches))
    return Response(buffer.getvalue(), media_type="application/octet-stream")


def note_call(params):
    calls_seen["denoiser"], calls_seen["said"] = params.denoiser, params.sigma[0]
    rows = len(params.x) if params.text_uncond is None else params.text_uncond.shape[0]
    calls_seen["x"] = params.x[-rows:]  # the rows of cond come before, once for each part
    if params.denoiser.step == 0:
        calls_seen["sigma"] = float(params.sigma[0])


def note_conditions(_unet, given, named):
    conditions_seen.append(loaded_model.cond_first(named["context"], named).detach().cpu().float().numpy())
    inputs_seen.extend(tensor.detach().cpu().double().numpy() for tensor in (given[0], timesteps_of(given, named)))


def note_reached(_layer, given):
    reached.append(given[0].detach().cpu().double().numpy())


def seen():
    return {name: value for name, value in calls_seen.items() if name not in ("denoiser", "said", "x")}


def note_level(_unet, given, named):
    denoiser = calls_seen["denoiser"]
    alphas = getattr(denoiser, "alphas", None)  # of samplers that count in timesteps
    table = loaded_model.alphas() if alphas is None else alphas
    level = {"timestep": timesteps_of(given, named)[0], "said": calls_seen["said"], "begin": table[0], "end": table[-1]}
    flags = {"in_timesteps": loaded_model.says_timesteps(denoiser), "lcm": "LCM" in type(denoiser.inner_model).__name__}
    levels_seen.append({name: float(value) for name, value in level.items()} | flags)


def timesteps_of(given, named):
    return named.get("timesteps", given[1] if len(given) > 1 else None)


def note_control(x, rows):
    control_seen.extend(tensor.detach().cpu().float().numpy() for tensor in (x, calls_seen["x"], rows))


def watch_control(p, unet, undo):
    """The latents of each call are seen where the UNet begins, after its control models have run."""
    (network,) = (s.latest_network for s in p.scripts.alwayson_scripts if s.title() == "ControlNet")
    params, hints = list(network.control_params), {}

    def note_hint(number):
        return lambda _model, _args, named: hints.update({number: named["hint"]})

    for number, param in enumerate(params):
        if param.control_model_type.name not in ("Controlllite", "IPAdapter"):
            undo.callback(param.control_model.register_forward_pre_hook(note_hint(number), with_kwargs=True).remove)

    def note_rows(_layer, given):
        x, greys = given[0], []
        for number, param in enumerate(params):
            hint = hints.get(number)
            if param.control_model_type.name == "Controlllite":
                hint = (next(iter(param.control_model.modules.values())).cond_image + 1) / 2
            elif param.control_model_type.name == "IPAdapter":
                hint = param.control_model.image_emb.cond_emb[:, :1, :1, None]
            grey = hint.float().mean(dim=(1, 2, 3))
            greys.append(grey if len(grey) == len(x) else grey.repeat(len(x)))
        acting_seen.append(numpy.stack([acting(param, unet, len(x)) for param in params]))
        rows = torch.stack(greys).detach().cpu().numpy()
        control_seen.extend([*(t.detach().cpu().float().numpy() for t in (x, calls_seen["x"])), rows])

    undo.callback(unet.input_blocks[0].register_forward_pre_hook(note_rows).remove)


def acting(param, unet, rows):
    """The share of each row on which a model acts, at the step under way."""
    model = param.control_model
    if param.control_model_type.name == "IPAdapter":
        is_off = not model.p_start <= unet.current_sampling_percent <= model.p_end
        added = model.apply_effective_region_mask(torch.ones(rows, model.latent_width * model.latent_height, 1))
        shares = added.mean(dim=(1, 2))
    else:
        is_off, mask = param.guidance_stopped, param.effective_region_mask
        shares = torch.ones(rows) if mask is None else mask.mean(dim=(1, 2, 3)).expand(rows)
    return (shares * (not is_off)).detach().cpu().float().numpy()


def watch_guides(unet, undo):
    kind = sys.modules["motion_module.sparse_ctrl.network"].SparseCtrl
    former = kind.forward

    def forward(self, features, timesteps, context, temporal):
        skips, middle = former(self, features, timesteps, context, temporal)
        guided_seen.extend(t.detach().cpu().float().numpy() for t in (features, timesteps, context, skips[5]))
        return skips, middle

    def note(tensor):
        guided_seen.append(tensor.detach().cpu().float().numpy())

    camera = sys.modules["motion_module.camera_ctrl.network"].CameraCtrl
    encode = camera.encode
    undo.callback(setattr, camera, "encode", encode)
    camera.encode = lambda self, rays, views: (note(rays), encode(self, rays, views))[1]
    kind.forward = forward
    undo.callback(setattr, kind, "forward", former)
    entry, width = unet.output_blocks[6][0], unet.input_blocks[5][0].out_channels
    undo.callback(
        entry.register_forward_pre_hook(lambda _l, args: note(args[0][:, -width:].clone())).remove
    )  # before ours
    undo.callback(entry.in_layers[0].register_forward_pre_hook(lambda _l, args: note(args[0])).remove)


def archive(arrays):
    buffer = io.BytesIO()
    numpy.savez(buffer, *arrays)
    return Response(buffer.getvalue(), media_type="application/octet-stream")


def conditions():
    """The text's side of each call of the UNet in the last request, one array for each call."""
    return archive(conditions_seen)


def inputs():
    """Latents and timesteps of each call of the UNet in the last request, in turn, and the model's noise levels."""
    return archive([*inputs_seen, loaded_model.alphas().cpu().double().numpy()])


def digest(tensor):
    return hashlib.sha256(tensor.detach().cpu().float().numpy().tobytes()).hexdigest()


def live_bytes():
    """Bytes of all tensors that anything in the process still holds."""
    gc.collect()
    found = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in gc.get_objects() if is_tensor(t)}
    return sum(found.values())


def freeze():
    """Leave what there is out of all later collections: the ControlNet extension collects after each request."""
    gc.collect()
    gc.freeze()
    return gc.get_freeze_count()


def is_tensor(thing):
    return issubclass(type(thing), torch.Tensor) and thing.device.type == "cpu" and thing.layout == torch.strided


def registered():
    """How often each extension stands in the WebUI's lists: its callbacks, scripts, and routes of the API."""
    callbacks = [callback.script for callbacks in script_callbacks.callback_map.values() for callback in callbacks]
    instances = [type(script).__name__ for script in scripts.scripts_txt2img.alwayson_scripts]
    return {"callbacks": sorted(callbacks), "scripts": sorted(instances)}


def add_routes(_demo, app):
    app.add_api_route("/trouble/seen", seen, methods=["GET"])
    app.add_api_route("/trouble/live-bytes", live_bytes, methods=["GET"])
    app.add_api_route("/trouble/freeze", freeze, methods=["GET"])
    app.add_api_route("/trouble/registered", registered, methods=["GET"])
    app.add_api_route("/trouble/portrait", portrait, methods=["GET"])
    app.add_api_route("/trouble/calls", lambda: calls_until_interrupt[0], methods=["GET"])
    app.add_api_route("/trouble/decoded", decoded, methods=["GET"])
    app.add_api_route("/trouble/conditions", conditions, methods=["GET"])
    app.add_api_route("/trouble/inputs", inputs, methods=["GET"])
    app.add_api_route("/trouble/reached", lambda: archive(reached), methods=["GET"])
    app.add_api_route("/trouble/control", lambda: archive(control_seen), methods=["GET"])
    app.add_api_route("/trouble/acting", lambda: archive(acting_seen), methods=["GET"])
    app.add_api_route("/trouble/guided", lambda: archive(guided_seen), methods=["GET"])
    app.add_api_route("/trouble/levels", lambda: levels_seen, methods=["GET"])
    app.add_api_route("/trouble/wrapped", lambda: wrapped_calls[0], methods=["GET"])
    app.add_api_route("/trouble/nested", lambda: nested_pictures, methods=["GET"])


script_callbacks.on_app_started(add_routes)
script_callbacks.on_cfg_denoiser(note_call)
