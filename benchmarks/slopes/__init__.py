"""How time and memory of evaluations grow with the number of images."""
