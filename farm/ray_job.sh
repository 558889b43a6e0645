#!/bin/sh
# Renders a manifest on a Ray cluster, with a worker for each graphics card, or for each core if there are no cards.
#   farm/ray_job.sh http://head:8265 shots.jsonl 8 --output /shared/clips
# Every machine of the cluster has this package with its extra [ray], and sees the manifest, the model files and the
# folder of the clips under the same paths. `ray job submit` needs ray[default].
set -eu
address=$1 manifest=$2 workers=$3
shift 3
exec ray job submit --address "$address" -- "${PYTHON:-python}" -m lib_animatediff render "$manifest" --ray "$workers" "$@"
