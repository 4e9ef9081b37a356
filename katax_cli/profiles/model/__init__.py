"""What a profile is: values, keys, rules, URLs, secrets. Reads no project files; imports `core`."""
