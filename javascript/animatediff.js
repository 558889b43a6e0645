// The AnimateDiff panel in the browser: keeps frames, speed and seconds consistent, and shows the length of the clip.

const ANIMATEDIFF_AUTOMATIC_CONTEXT = 16; // the meaning of 0, see lib_animatediff/request/settings/table.py

// Number of frames shown. Ping-pong does not repeat the first and the last frame.
function animatediffShown(frames, context, reverse) {
    const made = frames || context || ANIMATEDIFF_AUTOMATIC_CONTEXT;
    return made + (reverse ? Math.max(made - 2, 0) : 0);
}

// Called by the panel when the frames, the speed or another setting of the length has changed.
function animatediffSeconds(frames, fps, context, reverse) {
    return fps > 0 ? Number((animatediffShown(frames, context, reverse) / fps).toFixed(3)) : 0;
}

// Called by the panel when seconds have been typed: the number of frames with about that duration, at least one.
function animatediffFrames(seconds, frames, fps, context, reverse) {
    const shown = Math.round(seconds * fps);
    if (!(shown > 0)) return frames;
    return reverse && shown > 1 ? Math.round((shown + 2) / 2) : shown;
}

// Called when a clip was dropped on the panel: its infotext is applied like pasted parameters.
function animatediffPaste(tab, text) {
    if (!text) return;
    const prompt = gradioApp().querySelector(`#${tab}_prompt textarea`);
    prompt.value = text;
    updateInput(prompt);
    gradioApp().querySelector(`#${tab}_tools #paste`).click();
}

(function () {
    "use strict";

    const TABS = ["txt2img", "img2img"];

    function numberIn(id) {
        const input = gradioApp().querySelector(`#${id} input[type=number]`);
        return input ? Number(input.value) : NaN;
    }

    // Whether Text2Video-Zero is selected: it uses chunks instead of context windows.
    function isZero(tab) {
        const model = gradioApp().querySelector(`#animatediff_${tab}_model input`)?.value ?? "";
        return model.startsWith("Text2Video-Zero");
    }

    function describe(tab) {
        const context = numberIn(`animatediff_${tab}_context_length`) || ANIMATEDIFF_AUTOMATIC_CONTEXT;
        const frames = numberIn(`animatediff_${tab}_frames`) || context;
        const reverse = gradioApp().querySelector(`#animatediff_${tab}_reverse input`)?.checked;
        const shown = animatediffShown(frames, context, reverse);
        const fps = numberIn(`animatediff_${tab}_fps`);
        if (!(fps > 0)) return "";
        const windows = frames > context ? `, in ${isZero(tab) ? "chunks" : "context windows"} of ${context} frames` : "";
        return `${shown} frames at ${fps} per second: ${(shown / fps).toFixed(1)} seconds${windows}`;
    }

    function show(tab) {
        const panel = gradioApp().querySelector(`#animatediff_${tab}`);
        const line = panel && panel.querySelector(".animatediff-duration");
        if (line) line.textContent = describe(tab);
    }

    function prepare(tab) {
        const fps = gradioApp().querySelector(`#animatediff_${tab}_fps`);
        if (!fps) return;
        const line = document.createElement("div");
        line.className = "animatediff-duration";
        fps.parentElement.after(line);
        gradioApp().querySelector(`#animatediff_${tab}`).addEventListener("input", () => show(tab));
    }

    onUiLoaded(() => TABS.forEach(prepare));
    onAfterUiUpdate(() => TABS.forEach(show)); // pasted parameters change values without an input event
})();
