"""An X-ray made ready to be compared: clean pixels, polarity, windows, local normalisation."""
