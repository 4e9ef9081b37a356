"""The sessions of a server: their work, who waits for whom, and how to end them."""
