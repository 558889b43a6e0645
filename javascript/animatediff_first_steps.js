// First steps in the panel: lists new motion modules on every page load and for every new checkpoint, copies the path of
// their folder, and starts with the built-in model.

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
    selectCheckpoint(started.checkpoint);
}

(function () {
    "use strict";

    const TABS = ["txt2img", "img2img"];
    const COPIED_MS = 2000;
    let checkpoint = null;

    function press(name) {
        for (const tab of TABS) gradioApp().querySelector(`#animatediff_${tab}_${name}`)?.click();
    }

    // Which motion modules fit depends on the checkpoint.
    function followCheckpoint() {
        const before = checkpoint;
        checkpoint = opts.sd_model_checkpoint;
        if (before !== null && before !== checkpoint) press("refresh");
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
        const button = target.closest?.(".animatediff-copy");
        if (!button) return;
        const label = button.textContent;
        await copy(button.dataset.copy);
        button.textContent = "Copied";
        setTimeout(() => (button.textContent = label), COPIED_MS);
    }

    onUiLoaded(() => {
        gradioApp().addEventListener("click", copyOnClick);
        press("page_loaded");
    });
    onOptionsChanged(followCheckpoint);
})();
