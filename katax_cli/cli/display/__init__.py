"""How answers are laid out for people: tables that fit a terminal, readable values, the pager. Knows no command."""
