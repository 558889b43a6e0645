// Puts the player in the place of the gallery's big picture, while a clip is selected there. The gallery stays in the page,
// as the WebUI's buttons below it act on the image that is selected in it.

globalThis.animatediffParts ??= {};

(function () {
    "use strict";

    const parts = animatediffParts;
    const PATIENCE_MS = 3000; // the result may arrive after the progress bar is gone
    const tabs = {};

    // What the page knows of the last request, from lib_animatediff/hosts/webui/output/deliver.py.
    function readInfo(text) {
        try {
            const {infotexts, extra_generation_params: more} = JSON.parse(text);
            return {infotexts, clips: (more["AnimateDiff clips"] || []).filter((clip) => clip.files.length)};
        } catch {
            return {infotexts: [], clips: []};
        }
    }

    // The gallery's place of each clip: by its text, as scripts add grids and reorder images, otherwise by its file. Each
    // clip's image stands before its single frames.
    function placesOf({infotexts, clips}, thumbnails) {
        const sources = thumbnails.map((one) => one.querySelector("img")?.src ?? "");
        const found = new window.Map();
        for (const clip of clips) {
            const isFree = (place) => place < thumbnails.length && !found.has(place);
            const byText = infotexts.findIndex((text, place) => isFree(place) && text === clip.infotext);
            const isShown = (source) => clip.files.some((path) => source.includes(`/${parts.address(path)}`));
            const place = byText >= 0 ? byText : sources.findIndex((source, at) => isFree(at) && isShown(source));
            if (place >= 0) found.set(place, clip);
        }
        return found;
    }

    function remove(shown) {
        shown.player?.close();
        shown.about?.remove();
        Object.assign(shown, {clip: null, player: null, about: null});
    }

    function put(tab, clip, shown) {
        if (shown.clip === clip) return;
        remove(shown);
        const player = parts.playable(clip).length ? parts.player(clip) : null;
        const about = parts.about(tab.name, clip, player);
        Object.assign(shown, {clip, player, about});
        if (player) tab.container.before(player.node);
        tab.container.after(about);
    }

    // Whether a result is on its way, so that the last one is out of date.
    function isRendering(tab, text) {
        if (tab.panel.querySelector(":scope > .progressDiv")) {
            if (!tab.rendering) tab.former = text;
            tab.rendering = true;
            return true;
        }
        if (tab.rendering) {
            Object.assign(tab, {rendering: false, until: performance.now() + PATIENCE_MS});
            window.setTimeout(() => update(tab), PATIENCE_MS + 1);
        }
        return text === tab.former && performance.now() < tab.until;
    }

    function update(tab) {
        const text = tab.source.value;
        const gallery = tab.container.querySelector(".gradio-gallery");
        if (text !== tab.text) Object.assign(tab, {text, info: readInfo(text), isNew: true});
        const thumbnails = [...gallery.querySelectorAll(".thumbnail-small")];
        const places = isRendering(tab, text) ? new window.Map() : placesOf(tab.info, thumbnails);
        const clip = places.get(thumbnails.findIndex((one) => one.classList.contains("selected")));
        if (clip) put(tab, clip, tab.shown);
        else remove(tab.shown);
        const plays = Boolean(tab.shown.player);
        tab.container.classList.toggle("animatediff-plays", plays);
        tab.container.classList.toggle("animatediff-alone", plays && thumbnails.length === 1);
        thumbnails.forEach((one, place) => one.classList.toggle("animatediff-thumbnail", places.has(place)));
        selectFirst(tab, gallery, thumbnails);
    }

    // After a new result, something is selected, also if the last one's big picture was closed.
    function selectFirst(tab, gallery, thumbnails) {
        if (!tab.isNew || tab.rendering || !tab.info.clips.length) return;
        const first = gallery.querySelector(".thumbnail-lg");
        if (!first) return;
        tab.isNew = false;
        if (!thumbnails.length) first.click();
    }

    function prepare(name) {
        const find = (id) => gradioApp().querySelector(id);
        const panel = find(`#${name}_results_panel`);
        const container = find(`#${name}_gallery_container`);
        const source = find(`#generation_info_${name} textarea`);
        if (!panel || !container || !source) return;
        const shown = {clip: null, player: null, about: null};
        const tab = {name, panel, container, source, shown, text: "", info: readInfo(""), until: 0, former: null};
        tabs[name] = tab;
        const observer = new window.MutationObserver(() => update(tab));
        observer.observe(container, {subtree: true, childList: true, attributeFilter: ["class", "src"]});
        observer.observe(panel, {childList: true});
    }

    onUiLoaded(() => ["txt2img", "img2img"].forEach(prepare));
    onAfterUiUpdate(() => Object.values(tabs).forEach(update));
})();
