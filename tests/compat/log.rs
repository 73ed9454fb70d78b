//! What the job's log looks like, and what never stands in it.
