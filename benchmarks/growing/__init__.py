"""What grows: each module has a kind of work, `fit` the exponent, `page` the table of docs/scale.md."""
