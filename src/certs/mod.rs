//! Certificate and key bytes to parsed chains, names, expiry and mismatches. Pure.
