"""`make demo`: the main job end to end on the embedded stack, on real input, with every figure it claims."""
