"""The camera of a clip: named moves, files of poses, and a drawing of the path."""
