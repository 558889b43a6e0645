// Below the player: what can be done with the clip, its files, and how evenly it moves.

globalThis.animatediffParts ??= {};

(function () {
    "use strict";

    const parts = animatediffParts;
    const OPEN_FOLDER = "animatediff/v1/open-folder"; // see lib_animatediff/hosts/webui/output/api.py
    const THIS_MACHINE = ["localhost", "127.0.0.1", "[::1]"];

    // The current frame, which stays in view.
    async function currentFrame(player) {
        await player.source.pause();
        return {picture: player.source.picture(), number: player.source.frame() + 1};
    }

    function nameOf(clip, number) {
        const name = parts.fileName(parts.playable(clip)[0]).replace(/\.\w+$/, "");
        return `${name}-frame${number}.png`;
    }

    async function saveFrame(player, clip) {
        const {picture, number} = await currentFrame(player);
        parts.element("a", {href: picture.toDataURL("image/png"), download: nameOf(clip, number)}).click();
        return `Frame ${number} was saved.`;
    }

    function setNumber(id, value) {
        for (const input of gradioApp().querySelectorAll(`#${id} input`)) {
            input.value = value;
            updateInput(input);
        }
    }

    async function sendFrame(player, clip) {
        const {picture, number} = await currentFrame(player);
        const blob = await new window.Promise((done) => picture.toBlob(done, "image/png"));
        const files = new window.DataTransfer();
        files.items.add(new window.File([blob], nameOf(clip, number), {type: "image/png"}));
        dropReplaceImage(gradioApp().querySelector("#img2img_image"), files.files);
        setNumber("img2img_width", picture.width);
        setNumber("img2img_height", picture.height);
        switch_to_img2img();
        return `Frame ${number} was sent.`;
    }

    // Without a secure address, browsers have no clipboard for scripts but the old command.
    function copyByCommand(text) {
        const box = parts.element("textarea", {value: text, className: "animatediff-clipboard"});
        document.body.append(box);
        box.select();
        const done = document.execCommand("copy");
        box.remove();
        return done;
    }

    async function copySettings(clip) {
        const copied = navigator.clipboard
            ? await navigator.clipboard.writeText(clip.infotext).then(() => true, () => copyByCommand(clip.infotext))
            : copyByCommand(clip.infotext);
        return copied ? "The settings were copied." : "The browser refused to copy. Select the text below.";
    }

    async function openFolder(clip) {
        const body = JSON.stringify({file: fileOf(clip)});
        const request = {method: "PUT", headers: {"Content-Type": "application/json"}, body};
        const answer = await window.fetch(OPEN_FOLDER, request).catch(() => null);
        const {opened} = answer?.ok ? await answer.json() : {};
        return opened ? "" : "The folder could not be opened.";
    }

    // A file of the clip that the WebUI lets the page read, unlike a folder.
    function fileOf(clip) {
        return clip.files.find((path) => parts.suffix(path));
    }

    // The WebUI's own button is missing where the user has forbidden it; another machine's screen is of no use.
    function canOpenFolders(tab, clip) {
        const theirs = gradioApp().querySelector(`#${tab}_open_folder`);
        return Boolean(theirs && fileOf(clip) && THIS_MACHINE.includes(location.hostname));
    }

    function actions(tab, clip, player) {
        const status = parts.element("span", {className: "animatediff-status", role: "status"});
        const button = (name, words, act) => {
            const onclick = async () => {
                status.textContent = "";
                status.textContent = await act.call();
            };
            return parts.element("button", {type: "button", className: `animatediff-button ${name}`, onclick}, words);
        };
        const row = parts.element("div", {className: "animatediff-actions"});
        if (player?.source?.canStep) {
            row.append(
                button("animatediff-send-frame", "Send frame to img2img", () => sendFrame(player, clip)),
                button("animatediff-save-frame", "Save frame", () => saveFrame(player, clip))
            );
        }
        row.append(button("animatediff-copy", "Copy settings", () => copySettings(clip)));
        if (canOpenFolders(tab, clip)) {
            row.append(button("animatediff-open-folder", "Open folder", () => openFolder(clip)));
        }
        row.append(status);
        return row;
    }

    function file(path, bytes) {
        const words = [parts.formatName(path), ...(bytes ? [parts.bytesText(bytes)] : [])].join(", ");
        const name = parts.fileName(path);
        if (!parts.suffix(path)) return parts.element("span", {title: name}, words);
        return parts.element("a", {href: parts.address(path), download: name, title: name}, words);
    }

    function files(clip) {
        const links = clip.files.map((path, place) => file(path, clip.sizes?.[place]));
        return parts.element("div", {className: "animatediff-files"}, "Files:", ...links);
    }

    // Links to files that are gone become text.
    async function checkLinks(row) {
        for (const link of row.querySelectorAll("a")) {
            const answer = await window.fetch(link.href, {method: "HEAD"}).catch(() => null);
            if (answer && !answer.ok) {
                link.replaceWith(parts.element("span", {title: link.title}, `${link.textContent} (missing)`));
            }
        }
    }

    function about(tab, clip, player) {
        const row = files(clip);
        const fold = parts.motionFold(clip);
        const made = parts.element("div", {className: "animatediff-about"}, row, ...(fold ? [fold] : []));
        const ready = player ? player.ready : window.Promise.resolve();
        ready.then(() => {
            made.prepend(actions(tab, clip, player));
            if (player && !player.source) checkLinks(row);
        });
        return made;
    }

    Object.assign(parts, {about});
})();
