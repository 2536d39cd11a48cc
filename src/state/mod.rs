//! The types that both planes touch.
