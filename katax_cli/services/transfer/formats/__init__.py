"""Files of rows: what their names say, how they are packed, their bytes as rows and rows as bytes."""
