// Refusals in the page's log and in the panel: without the name of a Python class, and with a link from the code to its explanation.

(function () {
    "use strict";

    const HELP = "animatediff/v1/troubleshooting"; // see lib_animatediff/hosts/webui/output/api.py
    const CODE = /\[?(AD-[A-Z]+\d+)\]?/;
    const CLASS_NAME = /^\w*(Error|Exception): /;
    const PLACES = "[id^=html_log_] .error, [id^=html_log_] .comments, .animatediff-advice";

    function link(code) {
        const made = document.createElement("a");
        Object.assign(made, {href: `${HELP}#${code}`, target: "_blank", rel: "noopener", textContent: code});
        made.title = "What this means and what to do";
        return made;
    }

    // Replaces the codes in a text by links, and leaves everything else as text.
    function linkCodes(node, isError) {
        let rest = isError ? node.data.replace(CLASS_NAME, "") : node.data;
        const pieces = [];
        for (let found = CODE.exec(rest); found; found = CODE.exec(rest)) {
            pieces.push(rest.slice(0, found.index), link(found[1]));
            rest = rest.slice(found.index + found[0].length);
        }
        if (pieces.length) node.replaceWith(...pieces, rest);
    }

    function showError(place) {
        if (!CODE.test(place.textContent) || place.querySelector(`a[href^="${HELP}"]`)) return;
        const isError = place.classList.contains("error");
        place.classList.toggle("animatediff-error", isError);
        const texts = [...place.childNodes].filter((node) => node.nodeType === Node.TEXT_NODE);
        texts.forEach((node) => linkCodes(node, isError));
    }

    onAfterUiUpdate(() => gradioApp().querySelectorAll(PLACES).forEach(showError));
})();
