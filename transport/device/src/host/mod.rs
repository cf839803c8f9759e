//! The host: memory that the CPU may dereference.
