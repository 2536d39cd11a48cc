//! The admin side: metrics endpoint and JSON API, rendering what the governor answers.
