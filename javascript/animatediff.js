// The AnimateDiff panel in the browser: fields that follow each other, and what writes into the page's own fields.

const ANIMATEDIFF_AUTOMATIC_CONTEXT = 16; // the meaning of 0, see lib_animatediff/request/settings/table.py

// Number of frames shown. Ping-pong does not repeat the first and the last frame.
function animatediffShown(frames, context, reverse) {
    const made = frames || context || ANIMATEDIFF_AUTOMATIC_CONTEXT;
    return made + (reverse ? Math.max(made - 2, 0) : 0);
}

// Called by the panel when the frames, the speed or another setting of the length has changed. Seconds that are being
// typed stay as they are until their field is left.
function animatediffSeconds(frames, fps, context, reverse) {
    const typed = document.activeElement?.closest("[id^=animatediff_][id$=_seconds]");
    if (typed) return Number(document.activeElement.value);
    return fps > 0 ? Number((animatediffShown(frames, context, reverse) / fps).toFixed(3)) : 0;
}

// Called by the panel when seconds have been typed: the number of frames with about that duration, at least one.
function animatediffFrames(seconds, frames, fps, context, reverse) {
    const shown = Math.round(seconds * fps);
    if (!(shown > 0)) return frames;
    return reverse && shown > 1 ? Math.round((shown + 2) / 2) : shown;
}

// Called by the panel when the field of seconds was left: the frames, and the seconds that they last.
function animatediffFramesAndSeconds(seconds, frames, fps, context, reverse) {
    const made = animatediffFrames(seconds, frames, fps, context, reverse);
    return [made, fps > 0 ? Number((animatediffShown(made, context, reverse) / fps).toFixed(3)) : 0];
}

// Called by the panel when a loop was chosen: closed loop and reverse. `loops`: those of each choice.
function animatediffLoopSettings(loops, loop, closed, reverse) {
    return loops[loop] ?? [closed, reverse];
}

// Called by the panel when closed loop or reverse has changed: the choice that stands for them, if one does.
function animatediffLoop(loops, closed, reverse) {
    return Object.keys(loops).find((loop) => loops[loop][0] === closed && loops[loop][1] === reverse);
}

// Begins a line of the prompt for the frame at half time. What is there becomes the prompt from the first frame on,
// unless it is a travelling prompt already.
function animatediffAddPrompt(tab) {
    const number = (name) => Number(gradioApp().querySelector(`#animatediff_${tab}_${name} input`)?.value);
    const frames = number("frames") || number("context_length") || ANIMATEDIFF_AUTOMATIC_CONTEXT;
    const prompt = gradioApp().querySelector(`#${tab}_prompt textarea`);
    const text = prompt.value.trimEnd();
    const first = /^\s*\d+[^:\n]*:/m.test(text) || !text ? text : `0: ${text.replaceAll("\n", " ")}`;
    prompt.value = `${first}${first ? "\n" : ""}${Math.floor(frames / 2)}: `;
    updateInput(prompt);
    prompt.focus();
}

// Called when a clip was dropped on the panel: its infotext is applied like pasted parameters.
function animatediffPaste(tab, text) {
    if (!text) return;
    const prompt = gradioApp().querySelector(`#${tab}_prompt textarea`);
    prompt.value = text;
    updateInput(prompt);
    gradioApp().querySelector(`#${tab}_tools #paste`).click();
}
