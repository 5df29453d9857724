"""Files of cubes: FITS, ASDF, single images, and the pickles of the old notebook."""
