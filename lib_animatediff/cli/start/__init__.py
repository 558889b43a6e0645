"""Options of `animate` for what a clip starts from: a video, images, an earlier clip."""
