"""Where the images, weights and words of a suite come from."""
