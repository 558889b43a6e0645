// The look of the panel: help behind a sign beside each field, fields without effect, folds with changed settings, and
// the keyboard. Without this file every field works, with its help below its label.

(function () {
    "use strict";

    const TABS = ["txt2img", "img2img"];
    const MOST_NAMED = 2; // settings in one line about a reason
    const marked = {}; // by tab: the marks that are shown, as JSON

    function panelOf(tab) {
        return gradioApp().querySelector(`#animatediff_${tab}`);
    }

    // ---- help

    // The field's own help of gradio, which follows its label. An image's is with its hidden text.
    function infoOf(field) {
        if (field.id.endsWith("_picture")) return infoOf(gradioApp().querySelector(`#${field.id.slice(0, -8)}`));
        const label = field.querySelector("[data-testid=block-info].has-info");
        if (label) return label.nextElementSibling;
        return field.matches(".gradio-checkbox") ? field.querySelector(":scope > .wrap + div") : null;
    }

    function chosen(field) {
        return field.querySelector("input:not([type=checkbox])")?.value;
    }

    function helpOf(field, hints) {
        const name = field.dataset.animatediffName;
        const meaning = hints.meanings[name]?.[chosen(field)];
        const idle = field.dataset.animatediffIdle;
        const texts = [field.dataset.animatediffHelp];
        if (meaning) texts.push(`${chosen(field)}: ${meaning}.`);
        if (idle) texts.unshift(`This setting ${idle}`);
        return texts;
    }

    function showHelp(panel, field, hints) {
        hideHelp(panel);
        const box = panel.querySelector(":scope > .animatediff-help");
        box.replaceChildren(...helpOf(field, hints).map((text) => animatediffParts.element("p", {}, text)));
        box.hidden = false;
        box.style.top = `${field.getBoundingClientRect().bottom - panel.getBoundingClientRect().top + 2}px`;
        field.querySelector(".animatediff-sign").setAttribute("aria-expanded", "true");
    }

    function hideHelp(panel) {
        panel.querySelector(":scope > .animatediff-help").hidden = true;
        for (const sign of panel.querySelectorAll(".animatediff-sign[aria-expanded=true]")) {
            sign.setAttribute("aria-expanded", "false");
        }
    }

    function labelOf(field) {
        const places = ["[data-testid=block-info]", "label > span", "label"];
        return places.map((place) => field.querySelector(place)).find(Boolean)?.textContent.trim() ?? "";
    }

    function addSign(panel, field, hints) {
        const info = field.classList.contains("hidden") || field.classList.contains("hide") ? null : infoOf(field);
        if (!info) return;
        const label = labelOf(field);
        field.dataset.animatediffName = field.id.replace(/^animatediff_[a-z0-9]+_/, "").replace(/_picture$/, "");
        field.dataset.animatediffHelp = info.textContent.trim();
        info.classList.add("animatediff-info");
        info.id = `${field.id}_help`;
        const sign = animatediffParts.element("button", {
            type: "button",
            class: "animatediff-sign",
            "aria-label": `Help: ${label}`,
            "aria-expanded": "false",
        });
        sign.addEventListener("click", () => {
            const isOpen = sign.getAttribute("aria-expanded") === "true";
            if (isOpen && sign.dataset.pinned) {
                delete sign.dataset.pinned;
                hideHelp(panel);
            } else {
                sign.dataset.pinned = "true";
                showHelp(panel, field, hints);
            }
        });
        sign.addEventListener("pointerenter", ({pointerType}) => {
            if (pointerType === "mouse" && sign.getAttribute("aria-expanded") !== "true") showHelp(panel, field, hints);
        });
        sign.addEventListener("pointerleave", () => !sign.dataset.pinned && hideHelp(panel));
        sign.addEventListener("blur", () => {
            delete sign.dataset.pinned;
            hideHelp(panel);
        });
        field.append(sign);
        field.classList.add("animatediff-signed");
        for (const input of field.querySelectorAll("input, textarea")) {
            input.setAttribute("aria-describedby", info.id);
            // A slider's number, and fields whose label gradio does not bind.
            if (!input.labels?.length) input.setAttribute("aria-label", label);
        }
    }

    // ---- formats

    // The style sheet shows the usual formats and those that are selected; a button shows all.
    function foldFormats(tab, meanings) {
        const field = gradioApp().querySelector(`#animatediff_${tab}_formats`);
        const boxes = field?.querySelector(".wrap[data-testid=checkbox-group]");
        if (!boxes) return;
        const more = animatediffParts.element("button", {type: "button", class: "animatediff-more-formats", "aria-expanded": "false"}, "More");
        more.addEventListener("click", () => {
            const isOpen = field.classList.toggle("animatediff-all-formats");
            more.setAttribute("aria-expanded", String(isOpen));
            more.textContent = isOpen ? "Fewer" : "More";
        });
        boxes.append(more);
        for (const label of boxes.querySelectorAll("label")) label.title = meanings[label.textContent.trim()] ?? "";
    }

    // ---- folds

    function headingOf(fold) {
        return fold.querySelector(":scope > .label-wrap");
    }

    // gradio's heading is no button: make it one for the keyboard and for screen readers.
    function makeButton(heading) {
        const follow = () => heading.setAttribute("aria-expanded", String(heading.classList.contains("open")));
        heading.setAttribute("role", "button");
        heading.tabIndex = 0;
        heading.addEventListener("keydown", (event) => {
            if (event.target !== heading || (event.key !== "Enter" && event.key !== " ")) return;
            event.preventDefault();
            heading.click();
        });
        new MutationObserver(follow).observe(heading, {attributes: true, attributeFilter: ["class"]});
        follow();
    }

    function markFolds(panel, hints, changed) {
        for (const fold of panel.querySelectorAll(".animatediff-fold")) {
            const heading = headingOf(fold);
            const group = heading.firstElementChild.textContent.trim();
            const count = (hints.groups[group] ?? []).filter((name) => changed.includes(name)).length;
            fold.classList.toggle("animatediff-changed", count > 0);
            heading.setAttribute("aria-label", count ? `${group}, ${count} changed` : group);
            heading.title = count ? `${count} changed` : "";
        }
    }

    // ---- fields without effect

    // They can still be changed.
    function greyFields(panel, reasons) {
        for (const field of panel.querySelectorAll("[data-animatediff-name]")) {
            const name = field.dataset.animatediffName;
            const reason = reasons[name];
            field.classList.toggle("animatediff-without-effect", Boolean(reason));
            field.dataset.animatediffIdle = reason ?? "";
            field.title = reason ? `${name} ${reason}` : "";
        }
    }

    // Below a fold's fields, which of them have no effect, and why.
    function explainFolds(panel, reasons) {
        for (const fold of panel.querySelectorAll(".animatediff-fold")) {
            const labels = {}; // by reason
            for (const field of fold.querySelectorAll("[data-animatediff-name]")) {
                const reason = reasons[field.dataset.animatediffName];
                if (reason) (labels[reason] ??= []).push(labelOf(field));
            }
            fold.querySelectorAll(".animatediff-reasons").forEach((line) => line.remove());
            const lines = Object.entries(labels).map(([reason, named]) => {
                const fields = named.length > MOST_NAMED ? `${named.length} settings` : named.join(", ");
                return animatediffParts.element("p", {class: "animatediff-reasons"}, `\u2298 ${fields}: ${reason.replace(/^has /, "")}`);
            });
            fold.querySelector(".animatediff-fields")?.after(...lines);
        }
    }

    function mark(tab) {
        const panel = panelOf(tab);
        const marks = panel?.querySelector(`#animatediff_${tab}_plan .animatediff-marks`)?.dataset.marks;
        const hints = hintsOf(panel);
        if (!marks || !hints || marks === marked[tab]) return;
        marked[tab] = marks;
        const {idle, changed} = JSON.parse(marks);
        greyFields(panel, idle);
        explainFolds(panel, idle);
        markFolds(panel, hints, changed);
    }

    // gradio 4 labels its empty upload boxes, and readers of screens need a role to say so.
    function nameEmptyBoxes(tab) {
        const boxes = panelOf(tab)?.querySelectorAll(".empty[aria-label]:not([role])") ?? [];
        for (const box of boxes) box.setAttribute("role", "img");
    }

    function hintsOf(panel) {
        const held = panel?.querySelector(".animatediff-hints");
        return held ? JSON.parse(held.dataset.hints) : null;
    }

    function prepare(tab) {
        const panel = panelOf(tab);
        const hints = hintsOf(panel);
        if (!hints) return;
        panel.append(animatediffParts.element("div", {class: "animatediff-help", role: "tooltip", hidden: true}));
        for (const field of panel.querySelectorAll(`[id^="animatediff_${tab}_"].block`)) addSign(panel, field, hints);
        for (const fold of panel.querySelectorAll(".animatediff-fold")) {
            makeButton(headingOf(fold));
            headingOf(fold).nextElementSibling.dataset.title = headingOf(fold).firstElementChild.textContent.trim();
        }
        gradioApp().querySelector(`#animatediff_${tab}-visible-checkbox`)?.setAttribute("aria-label", "AnimateDiff");
        foldFormats(tab, hints.meanings.formats);
        panel.addEventListener("keydown", ({key}) => key === "Escape" && hideHelp(panel));
        panel.classList.add("animatediff-ready");
    }

    onUiLoaded(() => TABS.forEach(prepare));
    onAfterUiUpdate(() => TABS.forEach(mark));
    onAfterUiUpdate(() => TABS.forEach(nameEmptyBoxes));
})();
