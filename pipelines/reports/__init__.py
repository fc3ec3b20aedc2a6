"""Pages that show what was made: one HTML file each, which needs nothing beside it."""
