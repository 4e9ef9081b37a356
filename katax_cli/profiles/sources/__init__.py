"""Where the text of a profile comes from: folders, documents, the environment. May import `profiles.model`."""
