"""Finding clips by what was said in them, and the page of one clip."""
