"""Video in, video out, and what a person sees of it."""
