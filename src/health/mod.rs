//! Is a backend well: rise and fall thresholds and what follows. Pure: time is an argument.
