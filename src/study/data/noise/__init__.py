"""Wrong labels of other kinds than at random: by a matrix of transitions, by likeness, or as a list has them."""
