// Gives the panel's plan the values that are outside the panel: prompts, size, steps and batch size. When one of them
// changes, the panel updates its plan. Fields of settings that have no effect now are greyed, with the reason as title.

const ANIMATEDIFF_PAGE_NUMBERS = ["width", "height", "steps", "batch_size"];
const ANIMATEDIFF_PAGE_PROMPTS = {prompt: "prompt", negative_prompt: "neg_prompt"};

// The tab's prompts and numbers as JSON; values that the page does not have are null. The panel calls this too.
function animatediffPage(tab) {
    const page = {};
    for (const [name, id] of Object.entries(ANIMATEDIFF_PAGE_PROMPTS)) {
        page[name] = gradioApp().querySelector(`#${tab}_${id} textarea`)?.value ?? null;
    }
    for (const name of ANIMATEDIFF_PAGE_NUMBERS) {
        const value = Number(gradioApp().querySelector(`#${tab}_${name} input[type=number]`)?.value);
        page[name] = value > 0 ? value : null;
    }
    return JSON.stringify(page);
}

(function () {
    "use strict";

    const TABS = ["txt2img", "img2img"];
    const PARTS = [...Object.values(ANIMATEDIFF_PAGE_PROMPTS), ...ANIMATEDIFF_PAGE_NUMBERS];
    const planned = {}; // by tab: the page values of the current plan
    const greyed = {}; // by tab: the settings that are greyed, as JSON

    function isOpen(tab) {
        return Boolean(gradioApp().querySelector(`#animatediff_${tab}-checkbox input`)?.checked);
    }

    function partOf(tab, element) {
        return element && PARTS.some((part) => element.closest(`#${tab}_${part}`));
    }

    function plan(tab) {
        const button = gradioApp().querySelector(`#animatediff_${tab}_plan_refresh`);
        if (!button || !isOpen(tab)) return;
        const page = animatediffPage(tab);
        if (page === planned[tab]) return;
        planned[tab] = page;
        button.click();
    }

    // Waits while the user is typing or moving a slider.
    function planUnlessBusy(tab) {
        if (!partOf(tab, document.activeElement)) plan(tab);
    }

    function listen(tab) {
        for (const event of ["change", "focusout"]) {
            gradioApp().addEventListener(event, ({target}) => partOf(tab, target) && plan(tab));
        }
    }

    // Grey the fields that the plan names, and no other ones. They can still be changed.
    function greyIdle(tab) {
        const marks = gradioApp().querySelector(`#animatediff_${tab}_plan .animatediff-idle`);
        const idle = marks?.dataset.idle ?? "{}";
        if (idle === greyed[tab]) return;
        const reasons = JSON.parse(idle);
        for (const name of [...Object.keys(JSON.parse(greyed[tab] ?? "{}")), ...Object.keys(reasons)]) {
            const id = `#animatediff_${tab}_${name}`;
            for (const field of gradioApp().querySelectorAll(`${id}, ${id}_picture`)) {
                field.classList.toggle("animatediff-without-effect", name in reasons);
                field.title = name in reasons ? `${name} ${reasons[name]}` : "";
            }
        }
        greyed[tab] = idle;
    }

    onUiLoaded(() => TABS.forEach(listen));
    onAfterUiUpdate(() => TABS.forEach(greyIdle));
    onAfterUiUpdate(() => TABS.forEach(planUnlessBusy)); // pasted parameters change values without an event
})();
