// Shared by the panel and the player: elements, icons, and what a clip's files are called.

globalThis.animatediffParts ??= {};

(function () {
    "use strict";

    const SVG = "http://www.w3.org/2000/svg";
    const ICONS = {
        play: "M7 4v16l13-8z",
        pause: "M6 4h4v16H6zM14 4h4v16h-4z",
        previous: "M5 4h3v16H5zM20 4v16L9 12z",
        next: "M16 4h3v16h-3zM4 4v16l11-8z",
    };
    const FORMATS = {gif: "GIF", webp: "WebP", png: "APNG", avif: "AVIF", mp4: "MP4", webm: "WebM", txt: "Text"};

    function element(name, attributes, ...children) {
        const made = document.createElement(name);
        for (const [key, value] of Object.entries(attributes)) {
            if (key in made) made[key] = value;
            else made.setAttribute(key, value);
        }
        made.append(...children);
        return made;
    }

    function drawing(name, attributes, ...children) {
        const made = document.createElementNS(SVG, name);
        for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
        made.append(...children);
        return made;
    }

    function icon(name) {
        const path = drawing("path", {d: ICONS[name], fill: "currentColor"});
        return drawing("svg", {viewBox: "0 0 24 24", "aria-hidden": "true", focusable: "false"}, path);
    }

    function fileName(path) {
        return path.split(/[\\/]/).pop();
    }

    function suffix(path) {
        return fileName(path).match(/\.(\w+)$/)?.[1].toLowerCase() ?? "";
    }

    // The WebUI's address of a file that it has shown; relative, so that it also holds below a proxy's path.
    function address(path) {
        return `file=${encodeURI(path).replaceAll("#", "%23").replaceAll("?", "%3F")}`;
    }

    // The name of a file's format. A path without a suffix is a folder of frames.
    function formatName(path) {
        return FORMATS[suffix(path)] ?? "PNG frames";
    }

    function bytesText(bytes) {
        if (bytes >= 1e6) return `${(bytes / 1e6).toFixed(1)} MB`;
        return bytes >= 1e3 ? `${Math.round(bytes / 1e3)} kB` : `${bytes} bytes`;
    }

    Object.assign(animatediffParts, {element, drawing, icon, fileName, suffix, address, formatName, bytesText});
})();
