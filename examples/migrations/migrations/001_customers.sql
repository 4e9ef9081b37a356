-- UP
CREATE TABLE customers (
  id integer PRIMARY KEY,
  email varchar(200) NOT NULL UNIQUE
);

-- DOWN
DROP TABLE customers;

-- VERIFY
SELECT id, email FROM customers WHERE 1 = 0;
