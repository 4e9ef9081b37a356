"""katax inside frameworks: one room for each, importing nothing of it before it is used. Nothing imports them."""
