"""The sources of a profile's text: folders, documents, the environment. May import `profiles.model`."""
