"""Video in and out of the codec, through libav."""
