//! The proof that both sides of a connection know the data key of the job.
