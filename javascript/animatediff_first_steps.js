// First steps in the panel: lists new motion modules on every page load and for every new checkpoint, copies the path of
// their folder, and starts with the built-in model.

const ANIMATEDIFF_LISTED_MS = 1500; // in which Forge has read its list of checkpoints again
const animatediffListed = new Set(); // the tabs whose motion modules have been listed on this page

// Called by the panel when the button that lists the motion modules of a new page has been pressed.
function animatediffPageLoaded(tab, value) {
    animatediffListed.add(tab);
    return [value];
}

// Called by the panel when the list of motion modules has been read again: the entry that it shows. What was chosen or
// pasted meanwhile stays.
function animatediffFirstModule(value, text) {
    if (!text) return value;
    const first = JSON.parse(text);
    return value === first.shown ? first.now : value;
}

// Called by the panel after the built-in model was copied; without text if that failed.
function animatediffTryBuiltin(tab, text) {
    if (!text) return;
    const started = JSON.parse(text);
    const write = (selector, value) => {
        const field = gradioApp().querySelector(selector);
        if (!field) return;
        field.value = value;
        updateInput(field);
    };
    // Someone who has written a prompt has settings of their own.
    if (!gradioApp().querySelector(`#${tab}_prompt textarea`)?.value.trim()) {
        write(`#${tab}_prompt textarea`, started.prompt);
        for (const [name, value] of Object.entries(started.numbers)) {
            write(`#${tab}_${name} input[type=number]`, value);
        }
    }
    // Forge's list of checkpoints shows nothing for a file that is newer than the list.
    const refresh = gradioApp().querySelector("#forge_refresh_checkpoint");
    refresh?.click();
    setTimeout(() => selectCheckpoint(started.checkpoint), refresh ? ANIMATEDIFF_LISTED_MS : 0);
}

(function () {
    "use strict";

    const TABS = ["txt2img", "img2img"];
    const COPIED_MS = 2000;
    const AGAIN_MS = 200;
    const FORGE_LIST = ".model_selection input";
    const FORGE_LOOK_MS = 500;
    const FORGE_SAVES_MS = [700, 4000];
    let checkpoint = null;

    function button(tab, name) {
        return gradioApp().querySelector(`#animatediff_${tab}_${name}`);
    }

    // A page does not listen to its buttons as soon as they are there, so they are pressed until it does.
    function listModules() {
        const waiting = TABS.filter((tab) => button(tab, "page_loaded") && !animatediffListed.has(tab));
        for (const tab of waiting) button(tab, "page_loaded").click();
        if (waiting.length) setTimeout(listModules, AGAIN_MS);
    }

    // Which motion modules fit depends on the checkpoint. Forge's list of checkpoints is not among the settings, and its
    // server learns of a choice some time later.
    function followCheckpoint() {
        const before = checkpoint;
        const listed = gradioApp().querySelector(FORGE_LIST);
        checkpoint = listed ? listed.value : opts.sd_model_checkpoint;
        if (before === null || before === checkpoint) return;
        if (listed && !before) return; // the list has arrived
        for (const wait of listed ? FORGE_SAVES_MS : [0]) {
            setTimeout(() => TABS.forEach((tab) => button(tab, "refresh")?.click()), wait);
        }
    }

    // Browsers offer their clipboard to pages of this machine and to HTTPS only.
    async function copy(text) {
        try {
            await navigator.clipboard.writeText(text);
        } catch {
            const field = document.createElement("textarea");
            field.value = text;
            document.body.append(field);
            field.select();
            document.execCommand("copy");
            field.remove();
        }
    }

    async function copyOnClick({target}) {
        const pressed = target.closest?.(".animatediff-copy-path");
        if (!pressed) return;
        const label = pressed.textContent;
        await copy(pressed.dataset.copy);
        pressed.textContent = "Copied";
        setTimeout(() => (pressed.textContent = label), COPIED_MS);
    }

    onUiLoaded(() => {
        gradioApp().addEventListener("click", copyOnClick);
        listModules();
        if (gradioApp().querySelector(FORGE_LIST)) setInterval(followCheckpoint, FORGE_LOOK_MS);
    });
    onOptionsChanged(followCheckpoint);
})();
