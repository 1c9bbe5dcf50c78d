//! Layouts and numbers that node and guests agree on.
