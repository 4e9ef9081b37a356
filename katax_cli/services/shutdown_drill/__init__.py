"""Drills that stop a program and ask its servers what it left behind."""
