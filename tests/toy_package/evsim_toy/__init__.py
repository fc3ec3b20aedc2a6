"""One format, one recipe, one pixel model and four networks, added to evsim from outside."""
