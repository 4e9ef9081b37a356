"""The cache, computed values, copies and findings. Floor 6."""
