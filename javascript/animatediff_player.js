// Below the gallery: a player for videos, which the gallery cannot show, and a plot of how evenly each clip moves.

(function () {
    "use strict";

    const TABS = ["txt2img", "img2img"];
    const SPEEDS = [0.25, 0.5, 1, 2];
    const VIDEO_FILE = /\.(mp4|webm)$/i;
    const shown = {}; // by tab: the generation info of the current player

    function element(name, attributes, ...children) {
        const made = document.createElement(name);
        Object.assign(made, attributes);
        made.append(...children);
        return made;
    }

    function fileName(path) {
        return path.split(/[\\/]/).pop();
    }

    function address(path) {
        return `file=${encodeURI(path).replaceAll("#", "%23").replaceAll("?", "%3F")}`;
    }

    // The clips of the last request of a tab, from lib_animatediff/hosts/webui/output/deliver.py.
    function clipsOf(tab, text) {
        try {
            return JSON.parse(text).extra_generation_params["AnimateDiff clips"] || [];
        } catch {
            return [];
        }
    }

    // Seeks to the middle of a frame, so that rounding cannot show a neighbouring frame.
    function toFrame(video, clip, frame) {
        const wanted = ((frame % clip.frames) + clip.frames) % clip.frames;
        video.pause();
        video.currentTime = (wanted + 0.5) / clip.fps;
    }

    function frameOf(video, clip) {
        return Math.min(Math.floor(video.currentTime * clip.fps + 1e-3), clip.frames - 1);
    }

    // Saves the current frame as a PNG.
    function saveFrame(video, clip) {
        const canvas = element("canvas", {width: video.videoWidth, height: video.videoHeight});
        canvas.getContext("2d").drawImage(video, 0, 0);
        const name = fileName(video.src).replace(VIDEO_FILE, "");
        element("a", {
            href: canvas.toDataURL("image/png"),
            download: `${name}-frame${frameOf(video, clip) + 1}.png`,
        }).click();
    }

    function controls(video, clip) {
        const number = element("span", {className: "animatediff-frame"});
        const update = () => (number.textContent = `frame ${frameOf(video, clip) + 1} of ${clip.frames}`);
        for (const event of ["timeupdate", "seeked", "loadedmetadata"]) video.addEventListener(event, update);
        const step = (text, title, by) =>
            element("button", {
                textContent: text,
                title,
                className: "animatediff-step",
                onclick: () => toFrame(video, clip, frameOf(video, clip) + by),
            });
        const speed = element("select", {
            title: "Speed",
            className: "animatediff-speed",
            onchange: () => (video.playbackRate = Number(speed.value)),
        });
        speed.append(
            ...SPEEDS.map((value) => element("option", {value, textContent: `${value} x`, selected: value === 1}))
        );
        const loop = element("input", {type: "checkbox", checked: true, onchange: () => (video.loop = loop.checked)});
        return element(
            "div",
            {className: "animatediff-controls"},
            step("◀", "Previous frame", -1),
            step("▶", "Next frame", 1),
            number,
            speed,
            element("button", {
                textContent: "💾 Save frame",
                className: "animatediff-step animatediff-save-frame",
                onclick: () => saveFrame(video, clip),
            }),
            element("label", {}, loop, " loop")
        );
    }

    function player(clip) {
        const parts = [];
        const videoPath = clip.files.find((path) => VIDEO_FILE.test(path));
        if (videoPath) {
            const video = element("video", {
                src: address(videoPath),
                controls: true,
                loop: true,
                muted: true,
                autoplay: true,
                playsInline: true,
            });
            parts.push(video, controls(video, clip));
        }
        const links = clip.files.map((path) =>
            element("a", {href: address(path), download: fileName(path), textContent: fileName(path)})
        );
        if (links.length) parts.push(element("div", {className: "animatediff-files"}, ...links));
        if (clip.plot) {
            const seam = clip.seam === null ? "" : `, worst seam between context windows ${clip.seam}x`;
            parts.push(
                element("img", {
                    src: clip.plot,
                    className: "animatediff-plot",
                    alt: "Difference between neighbouring frames",
                }),
                element("div", {
                    className: "animatediff-meter",
                    textContent:
                        "Difference between neighbouring frames, relative to the median: " +
                        `loop point ${clip.loop_seam}x${seam}.`,
                })
            );
        }
        return element("div", {className: "animatediff-clip"}, ...parts);
    }

    function show(tab) {
        const source = gradioApp().querySelector(`#generation_info_${tab} textarea`);
        const results = gradioApp().querySelector(`#${tab}_results`);
        if (!source || !results || source.value === shown[tab]) return;
        shown[tab] = source.value;
        results.querySelector(".animatediff-player")?.remove();
        const clips = clipsOf(tab, source.value);
        if (!clips.length) return;
        const place = results.querySelector(`#${tab}_gallery_container`) || results.firstElementChild;
        place.after(element("div", {className: "animatediff-player"}, ...clips.map(player)));
    }

    onAfterUiUpdate(() => TABS.forEach(show));
})();
