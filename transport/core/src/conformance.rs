//! The suite of properties that every transport keeps.
