"""Every name of the WebUI and of gradio that we use, as it is in WebUI 1.10; `test_contract.py` compares."""

# What a variable of ours holds, or an attribute of the WebUI's that nobody has annotated: one of these classes.
OBJECTS = {
    "p": ("modules.processing.StableDiffusionProcessingTxt2Img", "modules.processing.StableDiffusionProcessingImg2Img"),
    "processed": ("modules.processing.Processed",),
    "titled": ("modules.sd_models.CheckpointInfo",),
    "params": ("modules.script_callbacks.CFGDenoiserParams",),
    "sd_model": ("modules.sd_models_types.WebuiSdModel",),
    "saving": ("modules.script_callbacks.ImageSaveParams",),
    "finished": ("modules.scripts.PostprocessImageArgs",),
    "extension": ("modules.extensions.Extension",),
    "known": ("modules.extensions.Extension", "modules.styles.StyleDatabase"),
    "loaded": ("modules.sd_models_types.WebuiSdModel",),
    "runner": ("modules.scripts.ScriptRunner",),
    "data": ("modules.scripts.ScriptClassData",),
    "plot": ("scripts.xyz_grid",),
    "component": ("gradio.Dropdown",),
    "seconds": ("gradio.Number",),
    "app": ("fastapi.FastAPI",),
    "route": ("fastapi.routing.APIRoute",),
    "p.scripts": ("modules.scripts.ScriptRunner",),
    "p.sd_model": ("modules.sd_models_types.WebuiSdModel",),
    "modules.sd_unet.current_unet": ("modules.sd_unet.SdUnet",),
    "modules.sd_unet.current_unet.option": ("modules.sd_unet.SdUnetOption",),
}

# Classes of compat/base.py, each with what it says the attributes of.
PROTOCOLS = {"Processing": "p", "State": "modules.shared.state", "Options": "modules.shared.opts"}

# Functions and classes of ours that take a name: whose attribute it is, and its place among the arguments.
SETTERS = {"_set": ("p", 0), "Option": ("gradio", 2)}

# Those of Python's dictionaries and texts, in variables of the names above.
NOT_THE_WEBUIS = {"params.get", "known.rpartition", "known.items", "modules.shared.opts.data.get"}
NOT_THE_WEBUIS |= {"*.args", "*.message", "*.strerror"}  # of exceptions
NOT_THE_WEBUIS |= {"modules.sd_models.checkpoints_list.values"}
NOT_THE_WEBUIS |= {"modules.scripts.Script.session_of", "modules.shared.state.current_latent.roll"}
# Ours, in a variable or under a name that is somebody else's elsewhere.
NOT_THE_WEBUIS |= {
    "*.__class__",
    "*.clip_file",
    "*.latest_network",
    "*.sent",
    "*.texts",
    "*.unet",
    "sd_model",
}
NOT_THE_WEBUIS |= {  # those of Forge, reForge and Forge Neo
    "*.add_stealth_pnginfo",
    "*.memory_required",
    "*.result",
    "modules.shared.opts.refiner_use_steps",
    "sd_model.cond_stage_model",
    "sd_model.forge_objects",
    "sd_model.get_learned_conditioning",
    "sd_model.get_prompt_lengths_on_ui",
    "sd_model.model_config",
    "p.sd_model.forge_objects",
    "params.model",
    "*.process_before_every_sampling",
    "*.process_unit_before_every_sampling",
}

# Names of the ControlNet that is built into Forge and reForge, by the folder that has them.
INTEGRATED = {
    "extensions-builtin/sd_forge_controlnet": """
        ControlNetUnit batch_image_dir batch_input_gallery current_params enabled from_dict get_input_data
        image input_mode mask_image model module process process_unit_before_every_sampling
        resize_mode resize_mode_from_value save_detected_map use_preview_as_input
    """,
    "modules_forge": "model_patcher process_before_every_sampling",
}
INTEGRATED_UNITS = {  # where each program keeps what acts on the UNet
    "Forge": ("backend/patcher", "control_merge controlnet_linked_list get_control pre_run"),
    "Forge Neo": ("backend/patcher", "control_merge controlnet_linked_list get_control pre_run"),
    "reForge": ("ldm_patched/modules", "control_merge get_control pre_run"),
}
NOT_IN_INTEGRATED = {"Forge Neo": {"batch_image_dir", "batch_input_gallery", "input_mode"}}
NOT_THE_WEBUIS |= {
    "loaded.adapters",
    "loaded.motion",
    "loaded.reports",
    "*.progress",
    "*.timestep",
    "*.first_only",
    "*.units",
}
NOT_THE_WEBUIS |= {"*.source", "*.timestep", "*.step_numbers", "*.forward", "data.view"}

# Names of the extension sd-webui-controlnet, by the class or module that has them; see `test_controlnet_contract.py`.
CONTROLNET = {
    "internal_controlnet.args.ControlNetUnit": """
        animatediff_batch batch_images batch_mask_dir batch_modifiers enabled image input_mode ipadapter_input
        is_inpaint is_ipadapter mask model module parse_image save_detected_map
    """,
    "internal_controlnet.external_code": "to_processing_unit",
    "scripts.enums.InputMode": "BATCH MERGE SIMPLE",
    "scripts.enums.ControlModelType": """
        AttentionInjection ControlLoRA ControlNet ControlNetUnion Controlllite IPAdapter InstantID SparseCtrl
        T2I_Adapter
    """,
    "scripts.hook.ControlParams": """
        cfg_injection control_context_override control_model control_model_type effective_region_mask hint_cond
        hr_hint_cond preprocessor
        used_hint_cond used_hint_cond_latent
    """,
    "scripts.hook.UnetHook": "call_vae_using_process control_params guidance_schedule_handler model restore",
    "scripts.adapter.PlugableAdapter": "reset",
    "scripts.ipadapter.plugable_ipadapter.PlugableIPAdapter": "apply_effective_region_mask cache image_emb ipadapter",
    "scripts.ipadapter.ipadapter_model.IPAdapterModel": "get_image_emb",
    "scripts.ipadapter.ipadapter_model.ImageEmbed": "cond_emb uncond_emb",
    "scripts.controlnet_lllite.LLLiteModule": "set_cond_image",
    "scripts.controlnet_lllite.PlugableControlLLLite": "modules",
}
# What it sets on others' objects, or that we set for it, and the module that knows of it.
CONTROLNET_SETS = {
    "cond_mark": "scripts.hook",
    "current_sampling_percent": "scripts.hook",
    "latest_network": "scripts.controlnet",
    "original_forward": "scripts.hook",
    "post_processors": "scripts.controlnet",
    "ui_batch_option_state": "scripts.controlnet",
}
NOT_THE_WEBUIS |= {f"*.{name}" for names in CONTROLNET.values() for name in names.split()} - {"*.enabled"}
NOT_THE_WEBUIS |= {f"*.{name}" for name in CONTROLNET_SETS}

MODULES = """
    gradio gradio.context launch modules.extensions modules.hashes modules.paths modules.prompt_parser
    modules.script_callbacks
    modules.scripts modules.sd_models modules.sd_samplers modules.sd_samplers_common modules.sd_unet
    modules.shared modules.ui_tempdir modules.util
""".split()

# Functions, classes and hooks. A parameter with "=" has a default; "..." stands for others that we do not use.
SIGNATURES = {
    "app.add_api_route": "(path, endpoint, methods=, dependencies=, include_in_schema=, ...)",
    "gradio.Gallery": "(label=, columns=, height=, elem_id=, ...)",
    "gradio.Accordion": "(label, open=, **kwargs, ...)",
    "gradio.Button": "(value=, size=, visible=, elem_id=, elem_classes=, ...)",
    "gradio.Checkbox": "(value=, label=, info=, visible=, elem_id=, ...)",
    "gradio.CheckboxGroup": "(choices=, value=, label=, info=, elem_id=, ...)",
    "gradio.Column": "(visible=, elem_id=, **kwargs, ...)",
    "gradio.Dropdown": "(choices=, value=, label=, info=, allow_custom_value=, elem_id=, ...)",
    "gradio.Error": "(message=)",
    "gradio.File": "(label=, file_types=, elem_id=, elem_classes=, ...)",
    "gradio.HTML": "(value=, elem_id=, elem_classes=, ...)",
    "gradio.Image": "(label=, type=, image_mode=, elem_id=, elem_classes=, height=, ...)",
    "gradio.Number": "(value=, label=, info=, precision=, elem_id=, ...)",
    "gradio.Radio": "(choices=, ...)",
    "gradio.Row": "(visible=, **kwargs, ...)",
    "gradio.Slider": "(minimum=, maximum=, value=, step=, label=, info=, elem_id=, ...)",
    "gradio.Textbox": "(value=, label=, info=, visible=, elem_id=, ...)",
    "gradio.Video": "(label=, source=, height=, elem_id=, ...)",
    "gradio.events.EventListenerMethod.__call__": "(fn, inputs=, outputs=, queue=, show_progress=, _js=, ...)",
    "gradio.update": "(**kwargs)",
    "known.apply_negative_styles_to_prompt": "(prompt, styles)",
    "known.apply_styles_to_prompt": "(prompt, styles)",
    "launch.is_installed": "(package)",
    "launch.run_pip": "(command, desc=, live=)",
    "modules.hashes.sha256": "(filename, title, use_addnet_hash=)",
    "modules.images.get_next_sequence_number": "(path, basename)",
    "modules.images.FilenameGenerator": "(p, seed, prompt, image, ...)",
    "modules.images.resize_image": "(resize_mode, im, width, height, ...)",
    "modules.processing.create_infotext": "(p, all_prompts, all_seeds, all_subseeds, iteration=, ...)",
    "modules.prompt_parser.get_multicond_prompt_list": "(prompts)",
    "modules.prompt_parser.reconstruct_multicond_batch": "(c, current_step)",
    "modules.sd_models.get_closet_checkpoint_match": "(search_string)",
    "modules.script_callbacks.on_app_started": "(callback, *, name=)",
    "modules.script_callbacks.app_started_callback": "(demo, app)",  # what it is called with
    "modules.script_callbacks.on_before_image_saved": "(callback, *, name=)",
    "modules.script_callbacks.on_image_saved": "(callback, *, name=)",
    "modules.script_callbacks.on_before_ui": "(callback, *, name=)",
    "modules.script_callbacks.on_cfg_denoiser": "(callback, *, name=)",
    "modules.script_callbacks.cfg_denoiser_callback": "(params)",
    "modules.script_callbacks.on_ui_settings": "(callback, *, name=)",
    "modules.scripts.Script.before_hr": "(p, *args)",
    "modules.scripts.Script.before_process": "(p, *args)",
    "modules.scripts.Script.before_process_batch": "(p, *args, **kwargs)",
    "modules.scripts.Script.postprocess": "(p, processed, *args)",
    "modules.scripts.Script.postprocess_batch_list": "(p, pp, *args, **kwargs)",
    "modules.scripts.Script.postprocess_image": "(p, pp, *args)",
    "modules.scripts.Script.postprocess_image_after_composite": "(p, pp, *args)",
    "modules.scripts.Script.process_batch": "(p, *args, **kwargs)",
    "modules.scripts.Script.process_before_every_sampling": "(p, *args, **kwargs)",
    "modules.scripts.Script.show": "(is_img2img)",
    "modules.scripts.Script.title": "()",
    "modules.scripts.Script.ui": "(is_img2img)",
    "modules.sd_hijack.model_hijack.get_prompt_lengths": "(text)",
    "modules.sd_models.list_models": "()",
    "modules.sd_samplers.create_sampler": "(name, model)",
    "modules.sd_samplers_common.images_tensor_to_samples": "(image, approximation=, model=)",
    "modules.sd_samplers_common.setup_img2img_steps": "(p, steps=)",
    "modules.shared.OptionInfo": "(default=, label=, component=, component_args=, section=, ...)",
    "modules.shared.opts.add_option": "(key, info)",
    "modules.ui_common.create_refresh_button": "(refresh_component, refresh_method, refreshed_args, elem_id)",
    "modules.ui_components.InputAccordion": "(value, **kwargs)",
    "modules.ui_tempdir.check_tmp_file": "(gradio, filename)",
    "modules.ui_tempdir.register_tmp_file": "(gradio, filename)",
    "modules.util.open_folder": "(path)",
    "modules.util.walk_files": "(path, allowed_extensions=)",
    "p.close": "()",
    "p.inpainting_image_conditioning": "(source_image, latent_image, image_mask=, ...)",
    "sd_model.apply_model": "(x_noisy, t, cond, ...)",
    "p.txt2img_image_conditioning": "(x, width=, height=)",
    "p.sample": "(conditioning, unconditional_conditioning, seeds, subseeds, subseed_strength, prompts)",
    "p.sample_hr_pass": "(samples, decoded_samples, seeds, subseeds, subseed_strength, prompts)",
    "plot.AxisOption": "(label, type, apply, confirm=, choices=, ...)",
}

# Names that have to be there: attributes, and what we compare with, subclass or raise.
NAMES = """
    app.routes route.dependencies route.path
    gradio.SelectData component.change seconds.blur seconds.input seconds.submit
    data.module data.path plot.axis_options
    extension.enabled extension.path known.path modules.extensions.extensions
    modules.paths.data_path modules.paths.models_path
    modules.scripts.AlwaysVisible modules.scripts.Script modules.scripts.Script.infotext_fields
    modules.scripts.scripts_data modules.scripts.scripts_img2img modules.scripts.scripts_txt2img
    runner.alwayson_scripts
    modules.sd_models.checkpoints_list titled.filename titled.title
    modules.sd_models.model_data modules.sd_models.model_data.sd_model
    modules.sd_samplers.all_samplers_map modules.sd_samplers_common.InterruptedException
    modules.sd_unet.current_unet modules.sd_unet.current_unet.option.label
    modules.shared.cmd_opts modules.shared.demo modules.shared.device modules.shared.prompt_styles
    modules.shared.sd_model modules.shared.sd_model.sd_checkpoint_info
    modules.shared.opts modules.shared.opts.data
    modules.shared.state modules.shared.state.current_latent modules.shared.state.interrupted
    modules.processing.DecodedSamples
    modules.shared.state.id_live_preview modules.shared.state.job_count modules.shared.state.job_no
    modules.shared.state.sampling_step modules.shared.state.sampling_steps
    modules.shared.state.skipped modules.shared.state.textinfo
    modules.shared.state.stopping_generation modules.shared.state.time_start
    modules.sd_hijack.model_hijack
    p.all_hr_negative_prompts p.all_hr_prompts p.all_negative_prompts
    p.all_prompts p.all_seeds p.all_subseeds p.batch_size p.c p.cached_c p.cached_hr_c p.cached_hr_uc p.cached_uc
    p.cfg_scale p.comments p.resize_mode
    p.denoising_strength p.do_not_save_grid p.do_not_save_samples p.enable_hr p.extra_generation_params
    p.firstpass_image p.height p.hr_c p.hr_negative_prompt p.hr_negative_prompts p.hr_prompt p.hr_prompts
    p.hr_resize_x p.hr_resize_y p.hr_sampler_name p.hr_scale
    p.hr_second_pass_steps p.hr_uc p.hr_upscale_to_x p.hr_upscale_to_y p.init_images p.init_latent
    p.truncate_x p.truncate_y p.cached_c p.cached_hr_c p.cached_hr_uc p.cached_uc
    p.initial_noise_multiplier p.latent_scale_mode p.is_api p.is_hr_pass p.iteration
    finished.image p.image_mask p.inpaint_full_res p.mask
    p.mask_for_overlay p.n_iter p.negative_prompt p.negative_prompts p.outpath_samples p.prompt p.prompts
    p.refiner_checkpoint_info p.refiner_switch_at p.rng p.sampler p.sampler_name p.scheduler p.script_args p.scripts
    p.sd_model
    p.scripts.alwayson_scripts p.scripts.selectable_scripts
    p.seed p.seeds p.steps p.styles p.subseed p.subseed_strength p.subseeds p.width
    params.denoiser params.image_cond params.sigma params.text_cond params.text_uncond
    saving.filename saving.image saving.p
    processed.all_negative_prompts processed.all_prompts processed.all_seeds processed.all_subseeds
    processed.batch_size processed.comments processed.extra_generation_params processed.images
    processed.index_of_first_image processed.info processed.infotexts processed.styles
    loaded.is_sd2 loaded.is_sd3 loaded.is_sdxl loaded.is_ssd
    sd_model.cond_stage_key sd_model.is_sd2 sd_model.is_sd3 sd_model.is_ssd sd_model.model
""".split()

# The user's settings that we read or, for one call, hide.
OPTIONS = """
    modules.shared.opts.batch_cond_uncond modules.shared.opts.enable_pnginfo
    modules.shared.opts.img2img_fix_steps
    modules.shared.opts.pad_cond_uncond modules.shared.opts.pad_cond_uncond_v0
    modules.shared.opts.return_mask modules.shared.opts.return_mask_composite
    modules.shared.opts.sd_model_checkpoint modules.shared.opts.sd_noise_schedule modules.shared.opts.uni_pc_order
    modules.shared.opts.use_downcasted_alpha_bar
""".split()

# What is set on an object from outside its class, by us or by the WebUI, and the module that knows of it.
SET_FROM_OUTSIDE = {
    "*.alphas_cumprod": "ldm.models.diffusion.ddpm",  # by lib_animatediff/sampling/schedule.py, as the next one
    "*.alphas_cumprod_original": "modules.sd_models",
    "*.already_saved_as": "modules.ui_tempdir",
    "*.batch": "modules.prompt_parser",  # of a copy of its conditions, as the schedules
    "*.create_noise_sampler": "modules.sd_samplers_kdiffusion",
    "*.detail": "modules.api.api",
    "*.do_not_save_to_config": "modules.ui_loadsave",
    "*.enabled": "extensions-builtin.hypertile.hypertile",
    "*.last_latent": "modules.sd_samplers_common",
    "*.last_noise_uncond": "modules.sd_samplers_cfg_denoiser",
    "*.sample": "ldm.models.diffusion.ddpm",
    "*.schedules": "modules.prompt_parser",
    "*.status_code": "modules.api.api",
    "*.step": "modules.sd_samplers_cfg_denoiser",
    "component.children": "modules.ui_loadsave",
    "component.do_not_save_to_config": "modules.ui_loadsave",
    "modules.sd_unet.current_unet.option": "modules.sd_unet",
    "modules.shared.cmd_opts.gradio_allowed_path": "webui",  # likewise
    "modules.shared.cmd_opts.hide_ui_dir_config": "modules.ui_common",  # an option of the command line
    "modules.shared.opts.enable_prompt_comments": "modules.processing_scripts.comments",  # a script's own option
    "sd_model.cond_stage_model_empty_prompt": "modules.sd_models",
    "p.batch_index": "modules.processing",
    "p.sampler.get_timesteps": "modules.sd_samplers_timesteps",
    "p.sd_model.first_stage_model": "ldm.models.diffusion.ddpm",
    "sd_model.is_sdxl_inpaint": "modules.sd_models",
    "p.txt2img_upscale": "modules.txt2img",
    "sd_model.alphas_cumprod": "ldm.models.diffusion.ddpm",
    "sd_model.parameterization": "modules.sd_samplers_kdiffusion",
    "seconds.do_not_save_to_config": "modules.ui_loadsave",
}

# What the library below the glue finds in the WebUI's models, by name: see sites.py, schedule.py and parts.py.
IN_BOTH_UNETS = {
    "attention.SpatialTransformer.in_channels": "",
    "diffusionmodules.openaimodel.Downsample": "",
    "diffusionmodules.openaimodel.ResBlock.out_channels": "",
    "diffusionmodules.openaimodel.UNetModel.forward": "(x, timesteps=, context=, y=, **kwargs)",
    "diffusionmodules.openaimodel.UNetModel.input_blocks": "",
    "diffusionmodules.openaimodel.UNetModel.middle_block": "",
    "diffusionmodules.openaimodel.UNetModel.output_blocks": "",
    "diffusionmodules.openaimodel.Upsample": "",
}
IN_THE_MODELS = {f"{code}.modules.{name}": shape for code in ("ldm", "sgm") for name, shape in IN_BOTH_UNETS.items()}
IN_THE_MODELS["ldm.models.diffusion.ddpm.DiffusionWrapper.diffusion_model"] = ""

# Functions of the page that our JavaScript calls.
JAVASCRIPT = {
    "dropReplaceImage": "(imgWrap, files)",
    "gradioApp": "()",
    "onAfterUiUpdate": "(callback)",
    "onOptionsChanged": "(callback)",
    "onUiLoaded": "(callback)",
    "selectCheckpoint": "(name)",
    "switch_to_img2img": "()",
    "updateInput": "(target)",
}
