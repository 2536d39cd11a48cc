//! Which backend: the load-balancing policies. Pure: loads and randomness are arguments.
