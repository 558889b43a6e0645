// The player of one clip: the picture with its controls, for every format.

globalThis.animatediffParts ??= {};

(function () {
    "use strict";

    const parts = animatediffParts;
    const SPEEDS = [0.25, 0.5, 1, 1.5, 2];
    const SMALL = 128; // clips up to this side are shown twice as large
    const choices = {speed: 1, loop: true}; // those of the last player hold for the next one

    function button(name, icon, onclick, className = "") {
        return parts.element(
            "button",
            {type: "button", title: name, className: `animatediff-button ${className}`, "aria-label": name, onclick},
            parts.icon(icon)
        );
    }

    // As large as the clip, up to the column's width and most of the window's height.
    function fit(node, [width, height]) {
        const zoom = Math.max(width, height) <= SMALL ? 2 : 1;
        node.style.width = `min(100%, ${width * zoom}px, ${((70 * width) / height).toFixed(3)}vh)`;
        node.style.aspectRatio = `${width} / ${height}`;
    }

    function message(words) {
        return parts.element("p", {className: "animatediff-message", role: "status"}, words);
    }

    function speedBox(apply) {
        const options = SPEEDS.map((value) =>
            parts.element("option", {value, selected: value === choices.speed}, `${value}×`)
        );
        const box = parts.element("select", {className: "animatediff-speed", "aria-label": "Speed", title: "Speed"});
        box.append(...options);
        box.addEventListener("change", () => {
            choices.speed = Number(box.value);
            apply.call();
        });
        return box;
    }

    function loopBox(apply) {
        const box = parts.element("input", {type: "checkbox", checked: choices.loop});
        box.addEventListener("change", () => {
            choices.loop = box.checked;
            apply.call();
        });
        return parts.element("label", {className: "animatediff-loop"}, box, "Loop");
    }

    function controls(clip, player) {
        const act = (change) => () => player.source && change.call(null, player.source);
        const by = (count) => act((source) => source.show((source.frame() + count + clip.frames) % clip.frames));
        const toggle = act((source) => (source.playing() ? source.pause() : source.play()));
        const play = button("Play", "play", toggle, "animatediff-play");
        const slider = parts.element("input", {
            type: "range", min: 1, max: clip.frames, step: 1, value: 1,
            className: "animatediff-slider", "aria-label": "Frame",
        });
        slider.addEventListener("input", act((source) => source.show(Number(slider.value) - 1)));
        const number = parts.element("span", {className: "animatediff-frame"});
        const apply = act((source) => source.setChoices());
        let drawn = "";

        // Shows the source's frame, and whether it plays.
        function update() {
            const frame = (player.source?.frame() ?? 0) + 1;
            const playing = player.source?.playing() ?? false;
            if (drawn === `${frame} ${playing}`) return;
            drawn = `${frame} ${playing}`;
            const name = playing ? "Pause" : "Play";
            number.textContent = `frame ${frame} of ${clip.frames}`;
            slider.value = frame;
            slider.setAttribute("aria-valuetext", number.textContent);
            if (play.title !== name) {
                play.replaceChildren(parts.icon(name.toLowerCase()));
                play.title = name;
                play.setAttribute("aria-label", name);
            }
        }
        const buttons = parts.element(
            "div",
            {className: "animatediff-buttons"},
            button("Previous frame", "previous", by(-1), "animatediff-previous"),
            play,
            button("Next frame", "next", by(1), "animatediff-next")
        );
        const row = parts.element("div", {className: "animatediff-controls"}, buttons, slider, number);
        row.append(speedBox(apply), loopBox(apply));
        return {row, update, toggle, previous: by(-1), next: by(1)};
    }

    // Space plays, arrows step; the slider and the speed box keep their own keys, and buttons the space bar.
    function keys(used) {
        return (event) => {
            const onField = /^(INPUT|SELECT)$/.test(event.target.tagName);
            if (onField || event.ctrlKey || event.altKey || event.metaKey) return;
            const action = {ArrowLeft: used.previous, ArrowRight: used.next, " ": used.toggle}[event.key];
            if (!action || (event.key === " " && event.target.tagName === "BUTTON")) return;
            event.preventDefault();
            event.stopPropagation();
            action.call();
        };
    }

    // Plays only what is seen: not in another tab of the WebUI, nor scrolled away.
    function pauseUnseen(player) {
        let wasPlaying = false;
        const observer = new window.IntersectionObserver(([seen]) => {
            const source = player.source;
            if (!source?.canStep) return;
            if (seen.isIntersecting && wasPlaying) source.play();
            if (!seen.isIntersecting) {
                wasPlaying = source.playing();
                if (wasPlaying) source.pause();
            }
        });
        observer.observe(player.stage);
        return observer;
    }

    async function fill(player, clip, used) {
        const source = await parts.openClip(clip, choices, used.update);
        if (player.closed) return source?.close();
        player.source = source;
        if (!source) {
            player.stage.replaceChildren(message(await reason(clip)));
            return null;
        }
        fit(source.node, clip.size);
        player.stage.replaceChildren(source.node);
        if (!source.canStep) {
            player.node.append(message("Stepping through the frames needs an MP4 of the clip in this browser."));
            return null;
        }
        source.node.addEventListener("click", used.toggle);
        player.node.append(used.row);
        used.update();
        if (!window.matchMedia("(prefers-reduced-motion: reduce)").matches) source.play();
        return null;
    }

    async function reason(clip) {
        const name = parts.fileName(parts.playable(clip)[0]);
        const answer = await window.fetch(parts.address(parts.playable(clip)[0]), {method: "HEAD"}).catch(() => null);
        if (!answer) return `${name} cannot be loaded: the WebUI does not answer.`;
        return answer.ok ? `This browser cannot play ${name}.` : `${name} was moved or deleted.`;
    }

    // A player for a clip with at least one playable file. `ready` resolves when the clip is shown, or why it is not.
    function player(clip) {
        const stage = parts.element("div", {className: "animatediff-stage"});
        const node = parts.element("div", {className: "animatediff-player", tabIndex: 0, role: "group"}, stage);
        node.setAttribute("aria-label", "Clip: space plays and pauses, the arrow keys step through the frames");
        const made = {node, stage, source: null, closed: false};
        const place = parts.element("div", {className: "animatediff-place"});
        fit(place, clip.size);
        stage.append(place);
        const used = controls(clip, made);
        node.addEventListener("keydown", keys(used));
        const observer = pauseUnseen(made);
        made.ready = fill(made, clip, used);
        made.close = () => {
            made.closed = true;
            observer.disconnect();
            made.source?.close();
            node.remove();
        };
        return made;
    }

    Object.assign(parts, {player});
})();
