//! The command line: arguments, exit codes, printing errors and answers.
