// The moving picture of a clip, with one interface for every format: a <video>, a canvas that shows the decoded frames of
// an animated image, or an <img> where the browser cannot decode single frames.

globalThis.animatediffParts ??= {};

(function () {
    "use strict";

    const parts = animatediffParts;
    const VIDEOS = ["mp4", "webm"];
    const IMAGES = {png: "image/png", webp: "image/webp", avif: "image/avif", gif: "image/gif"}; // the best one first
    const ROUNDING = 1e-3; // of a frame

    // The files that can be played, the most suitable one first.
    function playable(clip) {
        const order = [...VIDEOS, ...Object.keys(IMAGES)];
        const known = clip.files.filter((path) => order.includes(parts.suffix(path)));
        return known.sort((one, other) => order.indexOf(parts.suffix(one)) - order.indexOf(parts.suffix(other)));
    }

    // Opens the first file that this browser can play. `changed` is called when another frame is shown, and when playing
    // begins or ends. Resolves to null if there is none.
    async function openClip(clip, choices, changed) {
        for (const path of playable(clip)) {
            try {
                return await opened(clip, path, choices, changed);
            } catch (error) {
                console.warn(`AnimateDiff: ${parts.fileName(path)} cannot be played here.`, error);
            }
        }
        return null;
    }

    function opened(clip, path, choices, changed) {
        const source = parts.address(path);
        const type = IMAGES[parts.suffix(path)];
        if (!type) return openVideo(clip, source, choices, changed);
        return window.ImageDecoder ? openFrames(clip, source, type, choices, changed) : openImage(source);
    }

    function loaded(media, event, source) {
        return new window.Promise((done, fail) => {
            media.addEventListener(event, done, {once: true});
            media.addEventListener("error", fail, {once: true});
            media.src = source;
        });
    }

    // Calls `each` with every animation frame until `stop` is called.
    function ticker(each) {
        const ticks = {id: 0, run: null};
        ticks.run = (now) => {
            ticks.id = window.requestAnimationFrame(ticks.run);
            each.call(null, now);
        };
        ticks.start = () => {
            if (!ticks.id) ticks.id = window.requestAnimationFrame(ticks.run);
        };
        ticks.stop = () => {
            window.cancelAnimationFrame(ticks.id);
            ticks.id = 0;
        };
        return ticks;
    }

    function pictureOf(node, width, height) {
        const canvas = parts.element("canvas", {width, height});
        canvas.getContext("2d").drawImage(node, 0, 0);
        return canvas;
    }

    async function openVideo(clip, source, choices, changed) {
        const video = parts.element("video", {muted: true, playsInline: true, preload: "auto"});
        await loaded(video, "loadeddata", source);
        const frame = () => Math.min(Math.floor(video.currentTime * clip.fps + ROUNDING), clip.frames - 1);
        const ticks = ticker(() => changed.call());
        // Seeks to the middle of a frame, so that rounding cannot show a neighbouring frame.
        const show = (number) =>
            new window.Promise((done) => {
                video.pause();
                video.addEventListener("seeked", done, {once: true});
                video.currentTime = (number + 0.5) / clip.fps;
            });
        const setChoices = () => Object.assign(video, {playbackRate: choices.speed, loop: choices.loop});
        const stopped = () => {
            ticks.stop();
            changed.call();
        };
        video.addEventListener("play", ticks.start);
        for (const event of ["pause", "ended"]) video.addEventListener(event, stopped);
        video.addEventListener("seeked", () => changed.call());
        setChoices();
        return {
            node: video,
            canStep: true,
            frame,
            show,
            setChoices,
            playing: () => !video.paused && !video.ended,
            play: () => video.play().catch(() => {}), // refused, or interrupted by a pause
            pause: () => show(frame()),
            picture: () => pictureOf(video, video.videoWidth, video.videoHeight),
            close: () => {
                ticks.stop();
                video.pause();
                video.removeAttribute("src");
                video.load();
            },
        };
    }

    // The number of the stored frame for each frame of the clip: a repeated frame may be stored once, for longer.
    async function storedFrames(decoder, count, clip) {
        const every = Array.from({length: clip.frames}, (_, number) => number);
        if (count >= clip.frames) return every;
        const ends = [];
        for (let stored = 0; stored < count; stored++) {
            const {image} = await decoder.decode({frameIndex: stored});
            ends.push((ends.at(-1) ?? 0) + image.duration);
            image.close();
        }
        const at = (number) => ends.findIndex((end) => end > ((number + 0.5) / clip.fps) * 1e6);
        return every.map(at).map((stored) => (stored < 0 ? count - 1 : stored));
    }

    async function animationOf(source, type) {
        const answer = await window.fetch(source);
        if (!answer.ok) throw new window.Error(`the server answers with ${answer.status}`);
        const decoder = new window.ImageDecoder({data: await answer.arrayBuffer(), type, preferAnimation: true});
        await decoder.tracks.ready;
        await decoder.completed;
        return decoder;
    }

    async function openFrames(clip, source, type, choices, changed) {
        const decoder = await animationOf(source, type);
        const stored = await storedFrames(decoder, decoder.tracks.selectedTrack.frameCount, clip);
        const canvas = parts.element("canvas", {width: clip.size[0], height: clip.size[1]});
        const context = canvas.getContext("2d");
        let wanted = 0; // decoding takes longer than a click: the latest wanted frame is decoded next
        let shown = -1;
        let painting = null;

        async function paint() {
            while (shown !== wanted) {
                const number = wanted;
                const {image} = await decoder.decode({frameIndex: stored[number]});
                context.clearRect(0, 0, canvas.width, canvas.height);
                context.drawImage(image, 0, 0);
                image.close();
                shown = number;
                changed.call();
            }
        }
        function paintFrame(number) {
            wanted = number;
            painting ??= paint().finally(() => (painting = null));
            return painting;
        }

        const clock = {start: 0, frame: 0};
        const isPlaying = () => ticks.id !== 0;
        const restart = () => Object.assign(clock, {start: performance.now(), frame: wanted});
        function stop() {
            ticks.stop();
            changed.call();
        }
        const ticks = ticker((now) => {
            const passed = (Math.max(now - clock.start, 0) / 1000) * clip.fps * choices.speed;
            const number = clock.frame + Math.floor(passed);
            if (number >= clip.frames && !choices.loop) stop();
            paintFrame(number >= clip.frames && !choices.loop ? clip.frames - 1 : number % clip.frames).catch(stop);
        });
        await paintFrame(0);
        return {
            node: canvas,
            canStep: true,
            frame: () => shown,
            playing: isPlaying,
            show: (number) => {
                stop();
                return paintFrame(number);
            },
            play: () => {
                if (wanted === clip.frames - 1) wanted = 0;
                restart();
                ticks.start();
                changed.call();
            },
            pause: () => {
                stop();
                return paintFrame(wanted);
            },
            setChoices: restart,
            picture: () => pictureOf(canvas, canvas.width, canvas.height),
            close: () => {
                ticks.stop();
                decoder.close();
            },
        };
    }

    async function openImage(source) {
        const image = parts.element("img", {alt: "The clip"});
        await loaded(image, "load", source);
        return {node: image, canStep: false, close: () => {}};
    }

    Object.assign(parts, {openClip, playable});
})();
