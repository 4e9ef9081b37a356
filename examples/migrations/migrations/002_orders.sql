-- UP
CREATE TABLE orders (
  id integer PRIMARY KEY,
  customer integer NOT NULL REFERENCES customers (id),
  amount integer NOT NULL CHECK (amount >= 0)
);
CREATE INDEX orders_of_customer ON orders (customer);

-- DOWN
DROP TABLE orders;

-- VERIFY
SELECT count(*) = 0 FROM orders WHERE amount < 0;
