"""Jobs as profiles, crontabs and the state database define them."""
