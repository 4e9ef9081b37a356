"""One call to a server: guarded, observed, timed, left behind when nothing can interrupt it. Floor 1."""
