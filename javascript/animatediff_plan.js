// Asks for the panel's plan when a value changes, in the panel or elsewhere on the page: prompts, size, sampler, steps,
// CFG scale, batch size, checkpoint. Values that change together are one request, and there is one request at a time, so
// that the plan shown is never that of former values.

const ANIMATEDIFF_PAGE_NUMBERS = ["width", "height", "steps", "batch_size", "cfg_scale"];
const ANIMATEDIFF_PAGE_CHOICES = {sampler_name: "sampling", scheduler: "scheduler"};
const ANIMATEDIFF_PAGE_PROMPTS = {prompt: "prompt", negative_prompt: "neg_prompt"};
const ANIMATEDIFF_PLAN_DELAY = 120; // milliseconds in which changes are collected
const ANIMATEDIFF_PLAN_TIMEOUT = 5000; // after which an answer is taken for lost
const animatediffPlans = {}; // by tab: serial and time of the latest request, whether it is under way, the page's values

function animatediffPlanOf(tab) {
    return (animatediffPlans[tab] ??= {serial: 0, sent: 0, underWay: false, isStale: false, timer: null, page: ""});
}

// The tab's prompts and numbers; values that the page does not have are null.
function animatediffPageValues(tab) {
    const page = {};
    for (const [name, id] of Object.entries(ANIMATEDIFF_PAGE_PROMPTS)) {
        page[name] = gradioApp().querySelector(`#${tab}_${id} textarea`)?.value ?? null;
    }
    for (const name of ANIMATEDIFF_PAGE_NUMBERS) {
        const value = Number(gradioApp().querySelector(`#${tab}_${name} input[type=number]`)?.value);
        page[name] = value > 0 ? value : null;
    }
    for (const [name, id] of Object.entries(ANIMATEDIFF_PAGE_CHOICES)) {
        const field = gradioApp().querySelector(`#${tab}_${id}`);
        page[name] = (field?.querySelector("input[type=radio]:checked") ?? field?.querySelector("input"))?.value || null;
    }
    page.sets_sampling = Boolean(gradioApp().querySelector(`#animatediff_${tab}_set_sampling`));
    page.checkpoint = opts.sd_checkpoint_hash ?? null; // whether the motion module fits, and the memory
    return page;
}

// Called by the panel when it sends its request.
function animatediffPage(tab) {
    return JSON.stringify({...animatediffPageValues(tab), serial: animatediffPlanOf(tab).serial});
}

// Called by the panel when a value of its own has changed.
function animatediffPlan(tab) {
    const plan = animatediffPlanOf(tab);
    clearTimeout(plan.timer);
    plan.timer = setTimeout(() => animatediffRequestPlan(tab), ANIMATEDIFF_PLAN_DELAY);
}

function animatediffRequestPlan(tab) {
    const plan = animatediffPlanOf(tab);
    const button = gradioApp().querySelector(`#animatediff_${tab}_plan_refresh`);
    if (!button) return;
    if (plan.underWay && Date.now() - plan.sent < ANIMATEDIFF_PLAN_TIMEOUT * 0.9) {
        plan.isStale = true; // asked again as soon as the answer is there
        return;
    }
    Object.assign(plan, {serial: plan.serial + 1, sent: Date.now(), underWay: true, isStale: false});
    plan.page = JSON.stringify(animatediffPageValues(tab));
    button.click();
    const {serial} = plan;
    setTimeout(() => plan.underWay && plan.serial === serial && animatediffRequestPlan(tab), ANIMATEDIFF_PLAN_TIMEOUT);
}

(function () {
    "use strict";

    const TABS = ["txt2img", "img2img"];
    const PARTS = [
        ...Object.values(ANIMATEDIFF_PAGE_PROMPTS),
        ...Object.values(ANIMATEDIFF_PAGE_CHOICES),
        ...ANIMATEDIFF_PAGE_NUMBERS,
    ];

    function isOpen(tab) {
        return Boolean(gradioApp().querySelector(`#animatediff_${tab}-checkbox input`)?.checked);
    }

    function partOf(tab, element) {
        return element && PARTS.some((part) => element.closest(`#${tab}_${part}`));
    }

    function planIfPageChanged(tab) {
        if (!isOpen(tab)) return;
        if (JSON.stringify(animatediffPageValues(tab)) !== animatediffPlanOf(tab).page) animatediffPlan(tab);
    }

    // Waits while the user is typing or moving a slider.
    function planUnlessBusy(tab) {
        if (!partOf(tab, document.activeElement)) planIfPageChanged(tab);
    }

    function receive(tab) {
        const plan = animatediffPlanOf(tab);
        const marks = gradioApp().querySelector(`#animatediff_${tab}_plan .animatediff-marks`)?.dataset.marks;
        if (!plan.underWay || !marks || JSON.parse(marks).serial !== plan.serial) return;
        plan.underWay = false;
        if (plan.isStale) animatediffPlan(tab); // not at once: gradio drops a press before it has ended the former one
    }

    function listen(tab) {
        for (const event of ["change", "focusout"]) {
            gradioApp().addEventListener(event, ({target}) => partOf(tab, target) && planIfPageChanged(tab));
        }
    }

    // The plan's button about a distilled file presses the panel's hidden one, which sets the page's own fields.
    function setSampling({target}) {
        if (!target.closest?.(".animatediff-set-sampling")) return;
        const tab = TABS.find((each) => target.closest(`#animatediff_${each}`));
        gradioApp().querySelector(`#animatediff_${tab}_set_sampling`)?.click();
    }

    onUiLoaded(() => {
        TABS.forEach(listen);
        gradioApp().addEventListener("click", setSampling);
    });
    onAfterUiUpdate(() => TABS.forEach(receive));
    onAfterUiUpdate(() => TABS.forEach(planUnlessBusy)); // pasted parameters change values without an event
})();
