"""The model of a profile: values, keys, rules, URLs, secrets. Reads no project files; imports `core`."""
