"""What an encode does where nothing is said; without torch, so that options may quote it."""

SEGMENT_FRAMES = 256  # frames of a segment, about, but of a still camera
SCENECUT = 10.0  # score of libavfilter's scdet, 0..100, at which a segment may begin
QUALITY = 38.0  # where neither a size nor a quality is asked for; see `tools/quality`
