"""Times: the calendar of a data set, its step, its features, and columns of times."""
