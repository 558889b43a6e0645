#!/bin/sh
# Renders a manifest in N parts at once on this machine, one for each graphics card, without a shared queue.
#   farm/loop.sh shots.jsonl 4 [options of render, such as --output clips]
# On other machines, start their parts by ssh: render shots.jsonl --shard 3/8.
set -u
manifest=$1 parts=$2
shift 2
python=${PYTHON:-python}

render_part() {
    part=$1
    shift
    for _ in 1 2 3; do # tries
        CUDA_VISIBLE_DEVICES=$((part - 1)) "$python" -m lib_animatediff render "$manifest" --shard "$part/$parts" "$@" &
        trap "kill $!; wait $!; exit 143" TERM
        wait $!
        case $? in
        0 | 3) return ;; # 3: all is done but rows that cannot be rendered
        esac
    done
}

number=1 running=
trap 'kill $running; wait; exit 130' INT TERM # Ctrl-C does not reach what runs in the background
while [ "$number" -le "$parts" ]; do
    render_part "$number" "$@" &
    running="$running $!"
    number=$((number + 1))
done
wait
trap - INT TERM
# Renders what is left, and writes the index of all clips.
exec "$python" -m lib_animatediff render "$manifest" "$@"
