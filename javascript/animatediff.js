// The AnimateDiff panel in the browser: says how long the clip will last while frames and speed are being chosen,
// and drops the advice to get a motion module as soon as one is in the list.

(function () {
    "use strict";

    const TABS = ["txt2img", "img2img"];
    const AUTOMATIC_CONTEXT = 16; // what 0 stands for, see lib_animatediff/settings.py

    function numberIn(id) {
        const input = gradioApp().querySelector(`#${id} input[type=number]`);
        return input ? Number(input.value) : NaN;
    }

    function describe(tab) {
        const context = numberIn(`animatediff_${tab}_context_length`) || AUTOMATIC_CONTEXT;
        const frames = numberIn(`animatediff_${tab}_frames`) || context;
        const back = gradioApp().querySelector(`#animatediff_${tab}_reverse input`)?.checked ? frames - 2 : 0;
        const shown = frames + Math.max(back, 0);
        const fps = numberIn(`animatediff_${tab}_fps`);
        if (!(fps > 0)) return "";
        const windows = frames > context ? `, made in windows of ${context}` : "";
        return `${shown} frames at ${fps} per second: ${(shown / fps).toFixed(1)} seconds${windows}`;
    }

    function show(tab) {
        const panel = gradioApp().querySelector(`#animatediff_${tab}`);
        const line = panel && panel.querySelector(".animatediff-duration");
        if (line) line.textContent = describe(tab);
        const advice = panel && panel.querySelector(".animatediff-no-module");
        if (advice) advice.hidden = Boolean(panel.querySelector(`#animatediff_${tab}_model input`).value);
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
    onAfterUiUpdate(() => TABS.forEach(show)); // values also change without an input event: pasted parameters
})();
