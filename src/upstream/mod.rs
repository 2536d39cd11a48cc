//! Connections to backends: dialling, TLS, HTTP/1.1 and HTTP/2, the per-worker idle pools.
