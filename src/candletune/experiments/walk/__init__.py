"""Walk forward: a training before each period of the history, its replay, and one verdict over all of them."""
