// How evenly a clip moves: a chart of the change from each frame to the next, in the colours of the theme.

globalThis.animatediffParts ??= {};

(function () {
    "use strict";

    const parts = animatediffParts;
    const PLOT = {left: 44, right: 472, top: 10, bottom: 110};
    const SIZE = {width: 480, height: 146};
    const USUAL = 1; // changes are relative to the median

    // The sentence under the chart's title.
    function motionText(clip) {
        const loop = `The jump at the loop point is ${clip.loop_seam.toFixed(1)} times a usual change between frames`;
        if (clip.seam === null) return `${loop}.`;
        return `${loop}, and the largest one between context windows ${clip.seam.toFixed(1)} times.`;
    }

    function kindOf(clip, number) {
        if (number === clip.changes.length) return "loop";
        return clip.borders.includes(number + 1) ? "border" : "change";
    }

    function titleOf(clip, number, value) {
        const to = number === clip.changes.length ? 1 : number + 2;
        return `Frame ${number + 1} to ${to}: ${value.toFixed(1)} times a usual change`;
    }

    function text(x, y, words, anchor) {
        return parts.drawing("text", {x, y, "text-anchor": anchor}, words);
    }

    function bars(clip, values, height) {
        const step = (PLOT.right - PLOT.left) / values.length;
        const gap = step > 4 ? 1 : 0;
        return values.map((value, number) => {
            const y = height(value);
            const shape = {x: PLOT.left + number * step, y, width: Math.max(step - gap, 0.5), height: PLOT.bottom - y};
            const title = parts.drawing("title", {}, titleOf(clip, number, value));
            return parts.drawing("rect", {...shape, class: `animatediff-bar-${kindOf(clip, number)}`}, title);
        });
    }

    function axes(clip, values, top, height) {
        const step = (PLOT.right - PLOT.left) / values.length;
        const marks = [...new window.Set([1, Math.ceil(values.length / 2), values.length])];
        const usual = height(USUAL);
        const line = (y, kind) => parts.drawing("line", {x1: PLOT.left, x2: PLOT.right, y1: y, y2: y, class: kind});
        const middle = (PLOT.top + PLOT.bottom) / 2;
        const upright = parts.drawing("g", {transform: `rotate(-90 10 ${middle})`}, text(10, middle, "change (1 = usual)", "middle"));
        return [
            line(PLOT.bottom, "animatediff-axis"),
            line(usual, "animatediff-usual"),
            text(PLOT.left - 5, usual + 4, "1", "end"),
            ...(top > 2 ? [text(PLOT.left - 5, height(top) + 8, top.toFixed(1), "end")] : []),
            text(PLOT.left - 5, PLOT.bottom + 4, "0", "end"),
            ...marks.map((mark) => text(PLOT.left + (mark - 0.5) * step, PLOT.bottom + 15, String(mark), "middle")),
            text((PLOT.left + PLOT.right) / 2, SIZE.height - 4, "frame, and its change to the next one", "middle"),
            upright,
        ];
    }

    function legend(clip) {
        const key = (kind, words) =>
            parts.element("span", {}, parts.element("i", {className: `animatediff-key-${kind}`}), words);
        const entries = [key("change", "between frames"), key("loop", "loop point: from the last frame to the first")];
        if (clip.borders.length) entries.splice(1, 0, key("border", "border of a context window"));
        entries.push(key("usual", "usual change"));
        return parts.element("div", {className: "animatediff-legend"}, ...entries);
    }

    // A closed fold with the chart; null for a clip without measurements.
    function motionFold(clip) {
        if (!clip.changes?.length) return null;
        const values = [...clip.changes, clip.loop_seam];
        const top = Math.max(2, ...values);
        const height = (value) => PLOT.bottom - (value / top) * (PLOT.bottom - PLOT.top);
        const chart = parts.drawing(
            "svg",
            {viewBox: `0 0 ${SIZE.width} ${SIZE.height}`, role: "img", "aria-label": motionText(clip)},
            ...bars(clip, values, height),
            ...axes(clip, values, top, height)
        );
        return parts.element(
            "details",
            {className: "animatediff-motion"},
            parts.element("summary", {}, "How evenly it moves"),
            parts.element("p", {}, motionText(clip)),
            chart,
            legend(clip)
        );
    }

    Object.assign(parts, {motionFold});
})();
