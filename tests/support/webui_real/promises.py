"""What the extension promises for the WebUI, sentence by sentence, with the tests that show it, or why none can."""

from __future__ import annotations

from dataclasses import dataclass

NO_GPU = "needs a graphics card; the tests ran on a CPU"
NO_WINDOWS = "needs Windows; tests/video/test_faults.py holds the retry of a locked file with a simulated one"
NOT_MISSING = "every library is there; tests/hosts/webui/double/test_panel.py holds the line on a double of the WebUI"
NO_CHECKPOINT = (
    "needs such a checkpoint; the refusal is held by tests/hosts/webui/double/test_refusals.py on a double of the WebUI"
)


@dataclass(frozen=True)
class Promise:
    """A sentence, the names of the tests that show it, and the reason if it is not shown."""

    chapter: str
    sentence: str
    tests: tuple[str, ...] = ()
    not_shown: str = ""


def _promises(chapter: str, *rows: tuple[str, str | tuple[str, ...]]) -> list[Promise]:
    return [
        Promise(chapter, sentence, shown) if isinstance(shown, tuple) else Promise(chapter, sentence, not_shown=shown)
        for sentence, shown in rows
    ]


PROMISES = [
    *_promises(
        "Batching",
        ("normal and split calls", ("test_and_in_prompts_equals_plainly_laid_rows", "test_batch_cond_uncond_off")),
        ("unequal lengths", ("test_prompts_over_75_tokens_with_cond_and_uncond_apart_or_together",)),
        ("NGMS, Skip early CFG", ("test_steps_without_uncond", "test_and_in_prompts_equals_plainly_laid_rows")),
        ("AND with 1 to 3 parts", ("test_and_in_prompts_equals_plainly_laid_rows",)),
        ("AND in the prompt of hires fix", ("test_and_in_the_prompt_of_hires_fix_alone",)),
        ("CFG 1", ("test_prompts_and_samplers_that_change_the_conditions",)),
        ("image CFG (InstructPix2Pix) refused", NO_CHECKPOINT),
        (
            "all rows in one call where a call would split a clip, said in the infotext, the user's setting untouched",
            ("test_and_in_prompts_equals_plainly_laid_rows", "test_the_users_setting_stays"),
        ),
        ("scheduled and alternating prompts", ("test_prompts_and_samplers_that_change_the_conditions",)),
        ("styles", ("test_styles_reach_the_clip",)),
        ("a prompt of its own for each row: a clip takes its first", ("test_a_clip_takes_its_first_rows_prompt",)),
        ("batch count", ("test_the_infotexts_seed_of_a_clip_reproduces_it",)),
        ("batch size is the number of clips", ("test_batch_size_is_the_number_of_clips",)),
        ("subseeds and variation", ("test_variation_seeds",)),
        (
            "seed of each clip in infotext and file name",
            (
                "test_the_clip_is_saved_under_date_sequence_and_seed",
                "test_the_infotext_carries_the_settings_and_png_info_reads_it",
            ),
        ),
    ),
    *_promises(
        "Passes",
        (
            "hires fix with latent and model upscalers, another sampler",
            ("test_hires_fix", "test_hires_fix_in_its_forms"),
        ),
        ("hires fix with another checkpoint", ("test_hires_fix_with_another_checkpoint",)),
        ("the refiner refused before sampling", ("test_what_cannot_be_made_is_refused_with_the_reason",)),
        (
            "img2img with the init image for every frame",
            ("test_img2img_moves_one_picture", "test_the_init_image_is_that_of_every_frame"),
        ),
        ("inpaint masks", ("test_inpaint_masks_hold_for_every_frame",)),
        ("img2img batch", ("test_img2img_batch_makes_a_clip_of_each_picture",)),
        ("the upscale button gives a plain picture", ("test_the_gallerys_upscale_button_gives_a_plain_picture",)),
        ("--medvram and --lowvram", ("test_low_memory_modes",)),
        ("token merging, Hypertile", ("test_other_patches_of_the_webui_on_the_same_unet",)),
        ("another attention", ("test_another_attention",)),
        ("xformers, half precision on the card, MPS", NO_GPU),
        ("FP8 weights", ("test_fp8_weights",)),
        ("live preview, of one frame", ("test_a_live_preview_decodes_one_frame",)),
        ("Generate forever", ("test_generate_forever",)),
        (
            "X/Y/Z plot with axes from the settings table",
            (
                "test_every_setting_is_an_axis",
                "test_a_grid_over_two_settings",
                "test_an_axis_value_that_cannot_be_is_refused_before_painting",
                "test_a_grid_by_clicking",
            ),
        ),
        ("override settings: checkpoint", ("test_another_checkpoint_by_override",)),
        ("override settings: clip skip, ENSD, VAE", ("test_override_settings",)),
    ),
    *_promises(
        "Prompt travel",
        (
            "each frame its own prompt, positive and negative, mixed as the formula says: slerp, linear, step, easing, "
            "hold, ranges, percent, closed loop",
            ("test_every_frame_is_given_what_the_formula_says",),
        ),
        (
            "head, tail, LoRA, AND, scheduled words, comments, hires fix, NGMS: a key's frame is its prompt's picture",
            ("test_a_keys_frame_is_the_picture_of_its_whole_prompt",),
        ),
        ("a key of more than 75 tokens", ("test_a_key_beyond_75_tokens",)),
        ("a hires prompt that travels by itself", ("test_the_second_pass_travels_by_its_own_prompt",)),
        ("in context windows", ("test_in_windows_a_frame_keeps_its_prompt",)),
        ("in img2img", ("test_img2img_travels",)),
        ("batch count and batch size", ("test_two_batches_of_two_clips_travel_alike",)),
        ("styles reach every frame", ("test_a_style_reaches_every_frame",)),
        ("one key is the plain prompt, bit for bit", ("test_one_line_for_frame_0_is_the_plain_prompt",)),
        ("a wrong line is refused with its number", ("test_a_wrong_line_is_refused_with_its_number",)),
        (
            "the clip's text has what the user wrote, and gives the clip again",
            ("test_the_text_holds_what_the_user_wrote_and_gives_the_same_clip",),
        ),
        ("by clicking and by pasting", ("test_a_travel_by_clicking",)),
    ),
    *_promises(
        "Amount of motion",
        ("1 is the clip without it, bit for bit", ("test_an_amount_of_one_is_the_clip_without_it",)),
        (
            "effect 0 is no motion module, on its noise levels",
            ("test_no_effect_is_no_motion_module_on_its_noise_levels",),
        ),
        (
            "number, list, keys, steps, begin and end, blocks, mask",
            ("test_every_amount_changes_the_clip_and_is_in_its_text", "test_two_ways_to_say_the_same_amount"),
        ),
        (
            "a mask says where there is motion",
            ("test_where_the_mask_is_black_a_frame_stands_as_without_effect", "test_two_ways_to_say_the_same_amount"),
        ),
        ("what cannot be is refused", ("test_an_amount_that_cannot_be_is_refused",)),
        ("axes of the X/Y/Z plot", ("test_a_grid_over_scale_and_effect",)),
        ("by clicking and by pasting", ("test_every_amount_by_clicking",)),
    ),
    *_promises(
        "Motion LoRAs",
        (
            "official and converted spelling, among LoRAs or modules, by tag and by field: the weights changed",
            ("test_a_motion_lora_is_the_module_with_its_weights_changed",),
        ),
        ("strength 0 is the clip without, bit for bit", ("test_strength_0_is_the_clip_without_it",)),
        (
            "a tag stays in the text and does not reach the WebUI's loader",
            ("test_a_tag_stays_in_the_text_and_is_kept_from_the_webuis_loader",),
        ),
        ("several at once", ("test_the_field_is_in_the_text_and_takes_several",)),
        ("tags in the hires prompt", ("test_the_hires_prompt_has_tags_of_its_own",)),
        (
            "the v3 domain adapter is what its weights merged would be",
            ("test_the_domain_adapter_is_what_its_weights_merged_would_be",),
        ),
        ("what cannot be is refused with the nearest name", ("test_a_motion_lora_that_cannot_be_is_refused",)),
        ("a line on what found a place; by clicking and by pasting", ("test_motion_loras_by_clicking",)),
    ),
    *_promises(
        "Noise",
        ("a frame's noise is that of its seed, in any clip", ("test_a_frames_noise_is_that_of_its_seed",)),
        ("random is the default, bit for bit", ("test_random_noise_said_aloud_is_the_default",)),
        ("constant", ("test_constant_noise_is_one_for_all_frames",)),
        ("freenoise", ("test_free_noise_repeats_blocks_in_another_order",)),
        ("shared", ("test_shared_noise_is_between_random_and_constant",)),
        ("seeds of frames", ("test_frames_have_the_seeds_that_are_given",)),
        (
            "FreeInit, coarse to fine, in img2img, not in the second pass",
            (
                "test_freeinit_samples_again_from_what_came_out",
                "test_every_setting_of_freeinit_changes_the_clip",
                "test_freeinit_coarse_to_fine_takes_fewer_steps_at_first",
                "test_freeinit_leaves_the_second_pass_alone_and_serves_img2img",
            ),
        ),
        ("FreeInit's progress", ("test_freeinit_counts_its_iterations",)),
        ("interrupted between iterations", ("test_an_interrupt_between_iterations_keeps_the_clip",)),
        ("by clicking and by pasting", ("test_noise_and_freeinit_by_clicking",)),
    ),
    *_promises(
        "Text2Video-Zero",
        ("every sampler of the list makes a clip", ("test_every_sampler_makes_a_clip", "test_few_steps_are_enough")),
        (
            "frame 0 is the picture of its seed, whatever the sampler draws, with AND, long and changing prompts",
            ("test_frame_0_is_the_picture_of_its_seed",),
        ),
        ("frames begin where the paper says", ("test_frames_begin_where_the_paper_says",)),
        (
            "Stable Diffusion 1.5, 2 and SDXL, without a motion module, the model as it was",
            ("test_every_base_makes_clips", "test_the_model_is_as_it_was", "test_a_checkpoint_by_override"),
        ),
        ("frame 0 reaches all frames, others reach themselves", ("test_others_do_not_reach_frame_0",)),
        ("long clips in chunks, batches", ("test_a_long_clip_in_chunks_is_that_of_one_piece",)),
        ("hires fix and img2img look at frame 0", ("test_hires_fix_looks_at_frame_0", "test_img2img_looks_at_frame_0")),
        (
            "interrupts and failures in both passes, progress",
            (
                "test_an_interrupt_is_heeded_in_both_passes",
                "test_an_error_in_the_first_pass_leaves_nothing",
                "test_the_progress_does_not_run_back",
            ),
        ),
        ("token merging, Hypertile", ("test_other_patches_of_self_attention",)),
        ("the clip's text gives it again", ("test_the_text_gives_the_clip_again", "test_a_pasted_text_chooses_it")),
        ("its settings", ("test_every_setting_of_it_changes_the_clip",)),
        (
            "what needs a motion module is refused",
            ("test_what_needs_a_motion_module_is_refused", "test_what_needs_a_motion_module_is_told_before_generate"),
        ),
        ("no name does not mean it", ("test_no_name_does_not_mean_it",)),
        ("an axis, and in the clients' list", ("test_it_is_an_axis_and_in_the_clients_list",)),
        ("by clicking", ("test_by_clicking_it_is_the_clip_of_the_api",)),
    ),
    *_promises(
        "Views, poster, plan",
        ("views", ("test_views_differ_from_windows_in_a_long_clip_alone",)),
        (
            "a poster is one picture, saved as a picture",
            ("test_a_poster_is_one_picture", "test_a_poster_is_the_first_frame_of_what_is_asked"),
        ),
        ("both by clicking", ("test_a_poster_and_views_by_clicking",)),
        ("the log tells what a clip takes, and takes that", ("test_the_log_tells_what_a_clip_takes",)),
        (
            "the panel tells it, with windows and prompts",
            ("test_the_panel_tells_what_a_clip_takes", "test_a_closed_panel_plans_nothing"),
        ),
        (
            "every setting there and back, by API and by panel",
            (
                "test_a_setting_comes_back_from_the_clips_text",
                "test_a_clip_without_them_says_nothing_of_them",
                "test_all_settings_come_into_the_panel_and_out_of_it",
            ),
        ),
    ),
    *_promises(
        "Mixing",
        ("LoRA, LyCORIS, textual inversion, hypernetworks", ("test_networks_in_the_prompt",)),
        ("wrappers of p.sample, the UNet's forward, the denoiser", ("test_wrappers_of_other_extensions",)),
        (
            "nested runs, as ADetailer's, get a clean model and run per frame",
            ("test_nested_runs_of_other_scripts_stay_plain_pictures",),
        ),
        (
            "the existing extension beside ours, both load orders",
            ("test_the_existing_extension_is_named_in_the_panel",),
        ),
    ),
    *_promises(
        "API",
        ("422 with field, range and nearest name", ("test_a_422_names_the_field_its_range_and_the_nearest_name",)),
        ("models, schema and version", ("test_models_schema_and_version",)),
        ("under the API's own authentication", ("test_the_routes_are_behind_the_apis_own_authentication",)),
        ("Frame returns all frames of all clips", ("test_frame_returns_all_frames_of_all_clips",)),
        ("no path or address is opened", ("test_a_422_names_the_field_its_range_and_the_nearest_name",)),
        (
            "an interrupted request returns what there is",
            (
                "test_an_interrupted_request_returns_what_there_is",
                "test_the_model_is_the_same_after_interrupt_and_skip",
            ),
        ),
        ("the examples of docs/api.md: curl, requests, webuiapi", ("test_the_examples_of_the_page_work",)),
    ),
    *_promises(
        "Panel",
        ("help text", ("test_every_field_has_a_help_text",)),
        ("frames, frames per second and seconds linked", ("test_frames_speed_and_seconds_follow_each_other",)),
        ("told: no module", ("test_without_a_motion_module_the_panel_says_where_to_put_one",)),
        ("told: wrong base, SDXL", ("test_the_panel_says_when_module_and_checkpoint_do_not_fit",)),
        ("told: extension clash", ("test_the_existing_extension_is_named_in_the_panel",)),
        (
            "told: missing codec",
            NOT_MISSING,
        ),
        ("no frozen defaults in ui-config.json", ("test_no_default_is_frozen_in_ui_config",)),
        ("Reload UI", ("test_reload_ui_leaves_nothing_doubled_and_nothing_dead",)),
        ("both tabs independent", ("test_both_tabs_are_independent",)),
        ("phone width", ("test_at_phone_width",)),
        ("dark theme", ("test_in_the_dark_theme",)),
        ("settings page, old keys honoured", ("test_the_settings_page_holds_ours_and_the_old_keys",)),
    ),
    *_promises(
        "Install, update, disable, uninstall",
        ("from URL, into a folder with spaces and unicode", ("test_installed_from_a_url_it_makes_a_clip",)),
        (
            "packages differ by additions alone",
            (
                "test_the_installer_adds_nothing_to_a_complete_webui",
                "test_what_is_missing_is_added_and_nothing_else_changes",
            ),
        ),
        ("models survive updates", ("test_an_update_brings_new_files_and_keeps_the_models",)),
        ("switched off and removed", ("test_switched_off_it_leaves_no_trace_and_removed_neither",)),
        ("no file stays open", ("test_no_motion_module_file_stays_open",)),
        ("Windows paths and locks", NO_WINDOWS),
        ("start-up cost", ("test_the_start_up_log_tells_what_the_extension_costs",)),
        (
            "the WebUI's own tests pass and fail alike",
            ("test_the_webuis_own_tests_pass_and_fail_alike_with_and_without_the_extension",),
        ),
        (
            "the contract with the WebUI's names",
            (
                "test_every_name_of_the_webui_that_we_use_is_what_it_was",
                "test_every_name_of_the_webui_that_we_use_stands_in_the_table",
                "test_each_changed_name_is_told_in_one_line",
            ),
        ),
    ),
    *_promises(
        "Pains that people report",
        *(
            (f"pain {number}: {words}", (f"test_pain_{number}_{words.replace(' ', '_')}",))
            for number, words in (
                (1, "a long prompt makes two unrelated clips"),
                (2, "a failure still renders unrelated pictures"),
                (3, "the model stays patched after an error"),
                (4, "clips are washed out"),
                (6, "seams between windows"),
                (7, "memory grows with the clip and is not given back"),
                (8, "detailers meet an animated model"),
                (11, "lcm modules look burnt"),
                (19, "motion modules of another dtype fail"),
                (22, "the same seed gives another picture"),
                (24, "one animation for many pictures"),
            )
        ),
    ),
    *_promises(
        "Files",
        ("GIF, WebP, APNG, MP4, WebM, AVIF", ("test_each_format_comes_by_api_and_lies_on_the_disk",)),
        ("frames and text", ("test_frames_and_text_on_the_disk",)),
        ("the recipe makes the clip again, by API", ("test_the_recipe_gives_the_same_clip_again_by_api",)),
        ("the recipe by PNG Info", ("test_png_info_restores_the_settings_by_clicking",)),
        ("the recipe by the drop zone", ("test_the_drop_zone_restores_the_settings_by_clicking",)),
        ("films play in the page", ("test_films_play_under_the_gallery",)),
        ("animated pictures in the gallery", ("test_the_gallery_shows_animated_pictures",)),
        ("Save and Zip keep the whole clip", ("test_save_and_zip_keep_the_whole_clip",)),
        ("Send to img2img sends the first frame", ("test_sending_a_clip_to_img2img_sends_its_first_frame",)),
        ("a chosen frame is saved", ("test_a_chosen_frame_of_a_film_is_saved",)),
        ("a live preview that goes through the frames", ("test_a_live_preview_decodes_one_frame",)),
        ("progress counts the parts", ("test_the_progress_counts_the_parts_of_a_long_clip",)),
        ("what cannot be written is told", ("test_what_cannot_be_written_is_told_and_no_frame_is_lost",)),
        ("codecs and speeds of graphics cards", NO_GPU),
    ),
]
