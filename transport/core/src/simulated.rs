//! A transport within one process, with a clock that only its driver moves.
