//! The control plane: the governor, compiling, reloading, probing.
