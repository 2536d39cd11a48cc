//! Configuration text to checked values, with every error at its place in the text. Pure.
