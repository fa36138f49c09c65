"""Settings of short fits of the classifier."""

OBJECTIVES = ["m1", "m2", "m1+m2", "shot"]

SHORT = {"max_iter": 3, "hidden_layer_sizes": (16,), "random_state": 0}
