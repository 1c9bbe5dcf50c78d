//! The library OS: what a guest gets in answer to its trapped system calls.
